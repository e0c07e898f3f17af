/*
 * stockade-gate: a runtime asks it before a container starts, it asks the agent, and the start fails where it must.
 * SPDX-License-Identifier: Apache-2.0
 *
 *   stockade-gate oci [options]                      OCI hook (createRuntime): the container's state on stdin
 *   stockade-gate runtime [options] -- RUNTIME ...   OCI runtime: puts that hook into the bundle, becomes RUNTIME
 *   stockade                                         CNI plugin (CNI_COMMAND is set): the configuration on stdin
 *   10-stockade                                      NRI plugin (NRI_PLUGIN_SOCKET is set): see nri.c
 *   options: --socket PATH   where the agent listens         --births PATH   what this host does with unknown workloads
 *
 * Promises: it decides within DEADLINE_MS, whatever the agent or the disk do. Where the host holds births it fails the
 * start unless the agent agrees; where it does not, nothing that goes wrong here fails a start. It allocates little,
 * writes nothing but the bundle's configuration in `runtime`, and needs neither network nor library.
 */

#define _GNU_SOURCE
#include "gate.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_MS 1700 /* of the 2 s in which a start fails: the rest is the runtime's */
#define AHEAD (-10) /* as the agent: a newborn waits for both, and both soon sleep again */
#define INPUT_LIMIT (16u << 20)
#define NESTING_LIMIT 128
#define SOCKET "/run/stockade/gate.sock"
#define BIRTHS "/var/lib/stockade/births"
#define CNI_VERSIONS "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define CNI_UNAVAILABLE 50
#define CNI_LATER 11
#define CNI_REFUSED 101

static char socket_path[4096] = SOCKET, births_path[4096] = BIRTHS;
static long long began;

/* Time */

static long long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

void go_first(void)
{
	setpriority(PRIO_PROCESS, 0, AHEAD);
}

static int left_ms(void)
{
	long long left = began + DEADLINE_MS - now_ms();
	return left > 0 ? (int)left : 0;
}

static bool ready(int fd, short events)
{
	struct pollfd waiting = {.fd = fd, .events = events};
	return poll(&waiting, 1, left_ms()) == 1;
}

/* Text */

void add(struct text *to, const void *bytes, size_t length)
{
	to->at = realloc(to->at, to->length + length + 1);
	if (!to->at)
		abort(); /* a runtime takes a hook that dies for a refusal */
	memcpy(to->at + to->length, bytes, length);
	to->length += length;
	to->at[to->length] = 0;
}

static void say(struct text *to, const char *format, ...)
{
	char line[8192];
	va_list words;
	va_start(words, format);
	int length = vsnprintf(line, sizeof line, format, words);
	va_end(words);
	if (length > 0)
		add(to, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}

/* Add a string as JSON writes it. */
static void quote(struct text *to, const char *string)
{
	add(to, "\"", 1);
	for (const unsigned char *c = (const unsigned char *)string; *c; c++) {
		if (*c == '"' || *c == '\\')
			say(to, "\\%c", *c);
		else if (*c < 0x20)
			say(to, "\\u%04x", *c);
		else
			add(to, (const char *)c, 1);
	}
	add(to, "\"", 1);
}

/* Read until the end, or until time is up; false where it is up, or where there is too much. `timed`: fd can be waited for. */
static bool read_all(int fd, struct text *into, bool timed)
{
	char block[65536];
	add(into, "", 0);
	for (;;) {
		if (timed && !ready(fd, POLLIN | POLLHUP))
			return false;
		ssize_t got = read(fd, block, sizeof block);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0;
		if (into->length + (size_t)got > INPUT_LIMIT)
			return false;
		add(into, block, (size_t)got);
	}
}

/* JSON, as far as needed: find members of an object by their text, without copying. All return NULL where it is not JSON. */

static const char *space(const char *c)
{
	while (*c == ' ' || *c == '\t' || *c == '\n' || *c == '\r')
		c++;
	return c;
}

static const char *after_string(const char *c)
{
	for (c++; *c && *c != '"'; c++)
		if (*c == '\\' && !*++c)
			return NULL;
	return *c ? c + 1 : NULL;
}

static const char *after_value(const char *c, int depth)
{
	c = space(c);
	if (*c == '"')
		return after_string(c);
	if (*c != '{' && *c != '[') {
		const char *start = c;
		while (isalnum((unsigned char)*c) || *c == '-' || *c == '+' || *c == '.')
			c++;
		return c > start ? c : NULL;
	}
	char end = *c == '{' ? '}' : ']';
	bool named = *c == '{';
	if (depth > NESTING_LIMIT)
		return NULL;
	c = space(c + 1);
	if (*c == end)
		return c + 1;
	for (;;) {
		if (named) {
			if (*c != '"' || !(c = after_string(c)) || *(c = space(c)) != ':')
				return NULL;
			c++;
		}
		if (!(c = after_value(c, depth + 1)))
			return NULL;
		c = space(c);
		if (*c == end)
			return c + 1;
		if (*c != ',')
			return NULL;
		c = space(c + 1);
	}
}

/* Return where a member's value begins in an object, NULL where there is none. */
static const char *member(const char *object, const char *name)
{
	if (!object || *(object = space(object)) != '{')
		return NULL;
	const char *c = space(object + 1);
	while (*c == '"') {
		const char *key = c + 1, *end = after_string(c);
		if (!end || *(c = space(end)) != ':')
			return NULL;
		const char *value = space(c + 1);
		if ((size_t)(end - 1 - key) == strlen(name) && !strncmp(key, name, strlen(name)))
			return value;
		if (!(c = after_value(value, 0)))
			return NULL;
		c = space(c);
		if (*c == ',')
			c = space(c + 1);
	}
	return NULL;
}

/* Copy a string or a number; false where it is neither, or too long. Escapes other than \" \\ \/ are kept as written. */
static bool copy(const char *value, char *into, size_t size)
{
	size_t length = 0;
	if (!value)
		return false;
	bool quoted = *value == '"';
	for (const char *c = quoted ? value + 1 : value; quoted ? *c != '"' : isalnum((unsigned char)*c); c++) {
		if (!*c || length + 1 >= size)
			return false;
		if (*c == '\\' && (c[1] == '"' || c[1] == '\\' || c[1] == '/'))
			c++;
		into[length++] = *c;
	}
	into[length] = 0;
	return length > 0;
}

/* What the host does with unknown workloads, as the agent wrote it down: a word, and where policy says so. The file beside
 * the socket is in memory and cannot hang; the one on disk outlives a restart of the machine. */

static int open_births(void)
{
	char beside[sizeof socket_path + 8];
	snprintf(beside, sizeof beside, "%s", socket_path);
	char *name = strrchr(beside, '/');
	strcpy(name ? name + 1 : beside, "births");
	int fd = open(beside, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd >= 0 ? fd : open(births_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* `pass` only where it says so, or where nothing was ever held. */
static bool holds(char *where, size_t size)
{
	char line[4096] = "";
	where[0] = 0;
	int fd = open_births();
	if (fd < 0)
		return errno != ENOENT;
	ssize_t got = read(fd, line, sizeof line - 1);
	close(fd);
	line[got > 0 ? got : 0] = 0;
	char *rest = strchr(line, '\n');
	if (rest) {
		*rest++ = 0;
		rest[strcspn(rest, "\n")] = 0;
		snprintf(where, size, "%s", rest);
	}
	return strcmp(line, "pass") != 0;
}

/* The agent */

static bool plain(const char *word)
{
	for (; *word; word++)
		if ((unsigned char)*word < 0x20)
			return false;
	return true;
}

static int reach(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	if (strlen(socket_path) >= sizeof to.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(to.sun_path, socket_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* EAGAIN: more are waiting than may; there is time to try again */
	while (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		if (errno == EAGAIN && left_ms() > 0) {
			struct timespec moment = {.tv_nsec = 5000000};
			nanosleep(&moment, NULL);
			continue;
		}
		int why = errno == EAGAIN ? ETIMEDOUT : errno;
		close(fd);
		errno = why;
		return -1;
	}
	return fd;
}

/* Ask; the answer is a line: empty where it may start, else the reason. False, with `why`, where nobody answers. */
static bool ask(const char *kind, const char *id, const char *netns, char *answer, size_t size, const char **why)
{
	struct text question = {0};
	*why = "the agent did not answer in time";
	if (!plain(id) || !plain(netns)) {
		*why = "the runtime gave a name with control characters";
		return false;
	}
	say(&question, "%s\t%s\t%s\n", kind, id, netns);
	int fd = reach();
	if (fd < 0) {
		*why = errno == ETIMEDOUT ? *why : "the agent does not run";
		return false;
	}
	if (!ready(fd, POLLOUT))
		return false;
	bool sent = send(fd, question.at, question.length, MSG_NOSIGNAL) == (ssize_t)question.length;
	if (!sent)
		*why = "the agent ended while it was asked";
	for (size_t length = 0; sent && length + 1 < size;) {
		if (!ready(fd, POLLIN))
			return false;
		ssize_t got = read(fd, answer + length, size - 1 - length);
		if (got <= 0) {
			*why = "the agent ended while it was asked";
			return false;
		}
		length += (size_t)got;
		answer[length] = 0;
		char *end = strchr(answer, '\n');
		if (end) {
			*end = 0;
			return true;
		}
	}
	*why = sent ? "the agent's answer is too long" : *why;
	return false;
}

/* Return 0 where it may start, 1 where the agent refuses, 2 where nobody can tell; `message` then says all that is to be said. */
int decide(const char *kind, const char *id, const char *netns, char *message, size_t size)
{
	char answer[2048], where[1024];
	const char *why;
	bool told = ask(kind, id, netns, answer, sizeof answer, &why);
	if (told && !answer[0])
		return 0;
	if (!holds(where, sizeof where))
		return 0;
	snprintf(message, size,
	         "stockade: not started: %s, and this host holds unknown workloads (births: hold%s%s). Try: %s",
	         told ? answer : why, where[0] ? ", " : "", where, told ? "stockade status" : "systemctl status stockade");
	return told ? 1 : 2;
}

/* OCI hook */

static int hook(void)
{
	struct text state = {0};
	char id[1024] = "", pid[32] = "", netns[64] = "", message[4096];
	go_first();
	if (read_all(0, &state, true)) {
		copy(member(state.at, "id"), id, sizeof id);
		if (copy(member(state.at, "pid"), pid, sizeof pid))
			snprintf(netns, sizeof netns, "/proc/%.20s/ns/net", pid);
	}
	if (!decide("oci", id, netns, message, sizeof message))
		return 0;
	fprintf(stderr, "%s\n", message);
	return 1;
}

/* CNI plugin (specification 1.1, section 2) */

static int cni_error(const char *version, int code, const char *message)
{
	struct text out = {0};
	say(&out, "{\"cniVersion\":");
	quote(&out, version);
	say(&out, ",\"code\":%d,\"msg\":", code);
	quote(&out, message);
	say(&out, "}\n");
	fputs(out.at, stdout);
	return 1;
}

static int cni_add(const char *version, const char *config, bool check)
{
	const char *id = getenv("CNI_CONTAINERID"), *netns = getenv("CNI_NETNS"), *result = member(config, "prevResult");
	const char *end = result ? after_value(result, 0) : NULL;
	char message[4096];
	if (!id || !*id || !netns || !*netns)
		return cni_error(version, 4, "stockade: CNI_CONTAINERID and CNI_NETNS must be set");
	if (!end || *result != '{')
		return cni_error(version, 7, "stockade: nothing comes before it in the list of plugins (no prevResult)");
	int refused = decide(check ? "cni-check" : "cni", id, netns, message, sizeof message);
	if (refused)
		return cni_error(version, refused == 1 ? CNI_REFUSED : CNI_LATER, message);
	if (!check)
		printf("%.*s\n", (int)(end - result), result);
	return 0;
}

static int cni_status(const char *version)
{
	char message[4096];
	if (!decide("status", "", "", message, sizeof message))
		return 0;
	return cni_error(version, CNI_UNAVAILABLE, message);
}

static int cni(const char *command)
{
	struct text config = {0};
	char version[32] = "0.4.0";
	go_first();
	if (!read_all(0, &config, true))
		return cni_error(version, 6, "stockade: the network configuration did not arrive on stdin");
	copy(member(config.at, "cniVersion"), version, sizeof version);
	copy(member(config.at, "socket"), socket_path, sizeof socket_path);
	copy(member(config.at, "births"), births_path, sizeof births_path);
	if (!strcmp(command, "ADD") || !strcmp(command, "CHECK"))
		return cni_add(version, config.at, command[0] == 'C');
	if (!strcmp(command, "STATUS"))
		return cni_status(version);
	if (!strcmp(command, "DEL") || !strcmp(command, "GC"))
		return 0; /* what is gone, the agent sees; an end is never held up */
	if (!strcmp(command, "VERSION")) {
		printf("{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[" CNI_VERSIONS "]}\n");
		return 0;
	}
	return cni_error(version, 4, "stockade: unknown CNI_COMMAND");
}

/* OCI runtime */

static struct text hook_text(void)
{
	struct text hook = {0};
	char self[4096];
	ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
	self[length > 0 ? length : 0] = 0;
	say(&hook, "{\"path\":");
	quote(&hook, self);
	say(&hook, ",\"args\":[\"stockade-gate\",\"oci\",\"--socket\",");
	quote(&hook, socket_path);
	say(&hook, ",\"--births\",");
	quote(&hook, births_path);
	say(&hook, "],\"timeout\":2}");
	return hook;
}

/* Put `head`, `hook` and `tail` in place of what is between two places of a text. */
static struct text with(struct text text, const char *from, const char *to, const char *head, struct text hook, const char *tail)
{
	struct text out = {0};
	add(&out, text.at, (size_t)(from - text.at));
	add(&out, head, strlen(head));
	add(&out, hook.at, hook.length);
	add(&out, tail, strlen(tail));
	add(&out, to, text.length - (size_t)(to - text.at));
	return out;
}

static bool is_null(const char *value)
{
	return !strncmp(value, "null", 4);
}

static const char *comma(const char *opening, const char *without, const char *otherwise)
{
	const char *next = space(opening + 1);
	return *next == '}' || *next == ']' ? without : otherwise;
}

/* Return a runtime's configuration with our hook first among createRuntime; nothing where it is no such configuration. */
static struct text hooked(struct text config)
{
	struct text hook = hook_text(), none = {0};
	const char *whole = space(config.at);
	if (*whole != '{' || !after_value(whole, 0))
		return none;
	const char *hooks = member(whole, "hooks");
	if (!hooks)
		return with(config, whole + 1, whole + 1, "\"hooks\":{\"createRuntime\":[", hook, comma(whole, "]}", "]},"));
	if (is_null(hooks))
		return with(config, hooks, hooks + 4, "{\"createRuntime\":[", hook, "]}");
	if (*hooks != '{')
		return none;
	const char *ours = member(hooks, "createRuntime");
	if (!ours)
		return with(config, hooks + 1, hooks + 1, "\"createRuntime\":[", hook, comma(hooks, "]", "],"));
	if (is_null(ours))
		return with(config, ours, ours + 4, "[", hook, "]");
	if (*ours != '[')
		return none;
	return with(config, ours + 1, ours + 1, "", hook, comma(ours, "", ","));
}

/* Replace a file whole or not at all, with the mode and owner that it had. */
static bool replace(const char *path, struct text content)
{
	char fresh[4200];
	struct stat old;
	snprintf(fresh, sizeof fresh, "%s.stockade", path);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool done = fd >= 0 && !stat(path, &old) && !fchmod(fd, old.st_mode & 07777) && !fchown(fd, old.st_uid, old.st_gid);
	for (size_t written = 0; done && written < content.length;) {
		ssize_t more = write(fd, content.at + written, content.length - written);
		done = more > 0 || (more < 0 && errno == EINTR);
		written += more > 0 ? (size_t)more : 0;
	}
	if (fd >= 0)
		done &= !close(fd);
	if (done && !rename(fresh, path))
		return true;
	unlink(fresh);
	return false;
}

static bool put_hook_into(const char *bundle)
{
	char path[4096 + 16];
	struct text config = {0};
	snprintf(path, sizeof path, "%s/config.json", bundle);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool whole = fd >= 0 && read_all(fd, &config, false);
	if (fd >= 0)
		close(fd);
	struct text changed = whole ? hooked(config) : (struct text){0};
	return changed.at && replace(path, changed);
}

/* A runtime's caller reads its log for the reason; so the reason goes there too (runc's format). */
static void complain(const char *log, const char *message)
{
	struct text line = {0};
	fprintf(stderr, "%s\n", message);
	if (!log)
		return;
	say(&line, "{\"level\":\"error\",\"msg\":");
	quote(&line, message);
	say(&line, "}\n");
	int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (fd >= 0) {
		if (write(fd, line.at, line.length) < 0)
			fputs("stockade: the runtime's log cannot be written\n", stderr);
		close(fd);
	}
}

void begin(void)
{
	began = now_ms();
}

/* Return an option's value, written `--name value` or `--name=value`; step over the former. */
static const char *option(char **words, int *at, const char *name)
{
	const char *word = words[*at];
	while (*word == '-')
		word++;
	size_t length = strlen(name);
	if (word == words[*at] || strncmp(word, name, length))
		return NULL;
	if (word[length] == '=')
		return word + length + 1;
	return word[length] || !words[*at + 1] ? NULL : words[++*at];
}

void take_option(char **words, int *at)
{
	const char *found;
	if ((found = option(words, at, "socket")))
		snprintf(socket_path, sizeof socket_path, "%s", found);
	else if ((found = option(words, at, "births")))
		snprintf(births_path, sizeof births_path, "%s", found);
}

struct call {
	const char *command, *bundle, *log;
};

/* Read a runtime's command line (the OCI runtimes' common one: global options, command, its options, the id). */
static struct call read_call(char **words)
{
	static const char *valued[] = {"root", "log-format", "criu", "rootless", "log-level"};
	struct call call = {.bundle = "."};
	for (int at = 0; words[at]; at++) {
		const char *found;
		if (words[at][0] != '-') {
			if (!call.command)
				call.command = words[at];
		} else if (!call.command && (found = option(words, &at, "log"))) {
			call.log = found;
		} else if (call.command && ((found = option(words, &at, "bundle")) || (found = option(words, &at, "b")))) {
			call.bundle = found;
		} else if (!call.command) {
			for (size_t each = 0; each < sizeof valued / sizeof *valued; each++)
				if (option(words, &at, valued[each]))
					break;
		}
	}
	return call;
}

static int runtime(char **words)
{
	char where[1024];
	if (!words[0]) {
		fputs("stockade-gate runtime: name the runtime: stockade-gate runtime -- /usr/sbin/runc ...\n", stderr);
		return 2;
	}
	struct call call = read_call(words + 1);
	bool births = call.command && (!strcmp(call.command, "create") || !strcmp(call.command, "run"));
	if (births && !put_hook_into(call.bundle) && holds(where, sizeof where)) {
		complain(call.log, "stockade: not started: the gate cannot be put into the bundle's config.json, and this host "
		                   "holds unknown workloads (births: hold). Try: df, and stockade gate status");
		return 1;
	}
	execvp(words[0], words);
	char message[4200];
	snprintf(message, sizeof message, "stockade: the runtime %s cannot be run: %s", words[0], strerror(errno));
	complain(call.log, message);
	return 127;
}

int main(int count, char **words)
{
	const char *command = getenv("CNI_COMMAND"), *plugin = getenv("NRI_PLUGIN_SOCKET");
	begin();
	signal(SIGPIPE, SIG_IGN);
	if (count == 1 && plugin)
		return nri(atoi(plugin));
	alarm(DEADLINE_MS / 1000 + 2); /* whatever blocks where nothing should: a runtime takes that for a refusal */
	if (count == 1 && command)
		return cni(command);
	int at = 2;
	for (; at < count && strcmp(words[at], "--"); at++)
		take_option(words, &at);
	if (count > 1 && !strcmp(words[1], "oci"))
		return hook();
	if (count > 1 && !strcmp(words[1], "runtime")) {
		alarm(0);
		return runtime(words + (at < count ? at + 1 : count));
	}
	fputs("stockade-gate: an OCI hook, an OCI runtime's wrapper and a CNI plugin; runtimes call it.\n"
	      "  stockade gate install RUNTIME sets it up; stockade gate status shows where it is.\n", stderr);
	return 2;
}
