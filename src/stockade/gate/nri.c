/*
 * The gate as a plugin of the Node Resource Interface (NRI 0.8 and later; containerd 2, CRI-O).
 * SPDX-License-Identifier: Apache-2.0
 *
 * The runtime starts it, so it is there as long as the runtime is, whatever the agent does. One socket carries two
 * connections (frames: connection and length, 32 bits each): on RUNTIME we register, on PLUGIN the runtime asks. Each
 * speaks ttrpc (frames: length and stream of 32 bits, type and flags of 8) with protobuf messages. One question at a
 * time, as the runtime asks them.
 */

#include "gate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PLUGIN = 1, RUNTIME = 2 };
enum { REQUEST = 1, RESPONSE = 2 };
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { RUN_POD_SANDBOX = 1, CREATE_CONTAINER = 4 };

#define MUX_HEADER 8
#define TTRPC_HEADER 10
#define FRAME_LIMIT (4u << 20)
#define BUFFER_LIMIT (64u << 20)
#define FAILED_PRECONDITION 9
#define MASK (1u << (RUN_POD_SANDBOX - 1) | 1u << (CREATE_CONTAINER - 1))

/* protobuf: written by appending, read by looking a field up in a message */

struct bytes {
	const unsigned char *at;
	size_t length;
};

static void put_varint(struct text *to, uint64_t number)
{
	do {
		unsigned char byte = (number & 0x7f) | (number > 0x7f ? 0x80 : 0);
		add(to, &byte, 1);
	} while (number >>= 7);
}

static void put_number(struct text *to, unsigned field, uint64_t number)
{
	put_varint(to, field << 3 | VARINT);
	put_varint(to, number);
}

static void put_bytes(struct text *to, unsigned field, const void *bytes, size_t length)
{
	put_varint(to, field << 3 | BYTES);
	put_varint(to, length);
	add(to, bytes, length);
}

static bool get_varint(struct bytes *from, uint64_t *number)
{
	*number = 0;
	for (unsigned shift = 0; from->length && shift < 64; shift += 7) {
		unsigned char byte = *from->at++;
		from->length--;
		*number |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

/* Step to the next field; false at the end of the message, or where it is none. */
static bool next_field(struct bytes *message, unsigned *field, uint64_t *number, struct bytes *content)
{
	uint64_t tag, length = 0;
	*number = 0;
	*content = (struct bytes){0};
	if (!get_varint(message, &tag))
		return false;
	*field = (unsigned)(tag >> 3);
	switch (tag & 7) {
	case VARINT:
		return get_varint(message, number);
	case BYTES:
		if (!get_varint(message, &length))
			return false;
		break;
	case FIXED64:
		length = 8;
		break;
	case FIXED32:
		length = 4;
		break;
	default:
		return false;
	}
	if (length > message->length)
		return false;
	*content = (struct bytes){message->at, (size_t)length};
	message->at += length;
	message->length -= (size_t)length;
	return true;
}

static struct bytes get(struct bytes message, unsigned wanted)
{
	struct bytes content;
	unsigned field;
	uint64_t number;
	while (next_field(&message, &field, &number, &content))
		if (field == wanted)
			return content;
	return (struct bytes){0};
}

static uint64_t get_number(struct bytes message, unsigned wanted)
{
	struct bytes content;
	unsigned field;
	uint64_t number;
	while (next_field(&message, &field, &number, &content))
		if (field == wanted)
			return number;
	return 0;
}

static void copy_bytes(struct bytes from, char *into, size_t size)
{
	size_t length = from.length < size ? from.length : size - 1;
	memcpy(into, from.at ? (const void *)from.at : "", length);
	into[length] = 0;
}

static bool is(struct bytes bytes, const char *word)
{
	return bytes.length == strlen(word) && !memcmp(bytes.at, word, bytes.length);
}

/* Frames */

static bool write_all(int socket, const char *at, size_t length)
{
	while (length) {
		ssize_t more = write(socket, at, length);
		if (more < 0 && errno == EINTR)
			continue;
		if (more <= 0)
			return false;
		at += more;
		length -= (size_t)more;
	}
	return true;
}

static void put_word(struct text *to, uint32_t word)
{
	word = htonl(word);
	add(to, &word, sizeof word);
}

static uint32_t word_at(const char *at)
{
	uint32_t word;
	memcpy(&word, at, sizeof word);
	return ntohl(word);
}

static bool send_frame(int socket, uint32_t connection, uint32_t stream, unsigned char type, struct text message)
{
	struct text frame = {0};
	unsigned char end[2] = {type, 0};
	put_word(&frame, connection);
	put_word(&frame, (uint32_t)message.length + TTRPC_HEADER);
	put_word(&frame, (uint32_t)message.length);
	put_word(&frame, stream);
	add(&frame, end, sizeof end);
	add(&frame, message.at ? message.at : "", message.length);
	bool sent = write_all(socket, frame.at, frame.length);
	free(frame.at);
	free(message.at);
	return sent;
}

static bool enroll(int socket)
{
	static const char *service = "nri.pkg.api.v1alpha1.Runtime", *method = "RegisterPlugin";
	const char *name = getenv("NRI_PLUGIN_NAME"), *index = getenv("NRI_PLUGIN_IDX");
	struct text plugin = {0}, request = {0};
	name = name ? name : "stockade";
	index = index ? index : "10";
	put_bytes(&plugin, 1, name, strlen(name));
	put_bytes(&plugin, 2, index, strlen(index));
	put_bytes(&request, 1, service, strlen(service));
	put_bytes(&request, 2, method, strlen(method));
	put_bytes(&request, 3, plugin.at, plugin.length);
	free(plugin.at);
	return send_frame(socket, RUNTIME, 1, REQUEST, request);
}

/* What the runtime asks */

/* The plugin's configuration is a command line's options, one word a line. */
static void configure(struct bytes config)
{
	char text[8192], *words[16] = {0}, *rest = text;
	int count = 0;
	copy_bytes(config, text, sizeof text);
	for (char *word; count < 15 && (word = strtok_r(rest, " \t\n", &rest));)
		words[count++] = word;
	for (int at = 0; at < count; at++)
		take_option(words, &at);
}

/* Find the path of the pod's network namespace: PodSandbox.linux (8), LinuxPodSandbox.namespaces (5), type and path. */
static void netns_of(struct bytes pod, char *into, size_t size)
{
	struct bytes linux_pod = get(pod, 8), content;
	unsigned field;
	uint64_t number;
	into[0] = 0;
	while (next_field(&linux_pod, &field, &number, &content))
		if (field == 5 && is(get(content, 1), "network"))
			copy_bytes(get(content, 2), into, size);
}

/* Answer for a pod or one of its containers: nothing where it may be, else a status. */
static void judge(struct text *response, struct bytes pod, struct bytes container)
{
	char id[1024], netns[4096], message[4096];
	struct text status = {0};
	copy_bytes(get(container.at ? container : pod, 1), id, sizeof id);
	netns_of(pod, netns, sizeof netns);
	begin();
	if (!decide("nri", id, container.at ? "" : netns, message, sizeof message))
		return;
	put_number(&status, 1, FAILED_PRECONDITION);
	put_bytes(&status, 2, message, strlen(message));
	put_bytes(response, 1, status.at, status.length);
	free(status.at);
}

static struct text answer(struct bytes method, struct bytes request)
{
	struct text response = {0}, payload = {0};
	if (is(method, "Configure")) {
		configure(get(request, 1));
		put_number(&payload, 2, MASK);
	} else if (is(method, "Synchronize")) {
		if (get_number(request, 3))
			put_number(&payload, 2, 1);
	} else if (is(method, "CreateContainer")) {
		judge(&response, get(request, 1), get(request, 2));
	} else if (is(method, "RunPodSandbox")) {
		judge(&response, get(request, 1), (struct bytes){0});
	} else if (is(method, "StateChange") && get_number(request, 1) == RUN_POD_SANDBOX) {
		judge(&response, get(request, 2), (struct bytes){0});
	}
	put_bytes(&response, 2, payload.at ? payload.at : "", payload.length);
	free(payload.at);
	return response;
}

/* Answer every whole request that has arrived; false where it is none, or the runtime is gone. */
static bool serve(int socket, struct text *heard)
{
	size_t done = 0;
	while (heard->length - done >= TTRPC_HEADER) {
		const char *frame = heard->at + done;
		uint32_t length = word_at(frame), stream = word_at(frame + 4);
		if (length > FRAME_LIMIT)
			return false;
		if (heard->length - done < TTRPC_HEADER + length)
			break;
		struct bytes request = {(const unsigned char *)frame + TTRPC_HEADER, length};
		if (frame[8] == REQUEST &&
		    !send_frame(socket, PLUGIN, stream, RESPONSE, answer(get(request, 2), get(request, 3))))
			return false;
		done += TTRPC_HEADER + length;
	}
	memmove(heard->at, heard->at + done, heard->length - done);
	heard->length -= done;
	return heard->length < BUFFER_LIMIT;
}

static bool read_all_of(int socket, char *into, size_t length)
{
	while (length) {
		ssize_t got = read(socket, into, length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		into += got;
		length -= (size_t)got;
	}
	return true;
}

int nri(int socket)
{
	struct text heard = {0};
	char header[MUX_HEADER], *payload = malloc(FRAME_LIMIT + TTRPC_HEADER);
	go_first();
	if (!payload || !enroll(socket))
		return 1;
	while (read_all_of(socket, header, sizeof header)) {
		uint32_t connection = word_at(header), length = word_at(header + 4);
		if (length > FRAME_LIMIT + TTRPC_HEADER || !read_all_of(socket, payload, length))
			return 1;
		if (connection != PLUGIN)
			continue; /* that we are enrolled, shows in what we are asked */
		add(&heard, payload, length);
		if (!serve(socket, &heard))
			return 1;
	}
	return 0;
}
