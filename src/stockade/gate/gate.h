/*
 * What the parts of stockade-gate share.
 * SPDX-License-Identifier: Apache-2.0
 */

#ifndef STOCKADE_GATE_H
#define STOCKADE_GATE_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that grow; `at` ends in a zero that `length` does not count. */
struct text {
	char *at;
	size_t length;
};

void add(struct text *to, const void *bytes, size_t length);

/* Read an option of the command line, `--socket PATH` or `--births PATH`, into the gate's settings; step over its value. */
void take_option(char **words, int *at);

/* Begin to count the time in which an answer must be there. */
void begin(void);

/* Get a processor before others who want one, whom a start has nothing to do with; where that is not permitted, like them. */
void go_first(void);

/* Return 0 where a workload may be born, 1 where the agent refuses, 2 where nobody can tell; `message` says all of it. */
int decide(const char *by, const char *id, const char *netns, char *message, size_t size);

/* Serve as a plugin of a runtime's Node Resource Interface, on a socket that is open already, until it is closed. */
int nri(int socket);

#endif
