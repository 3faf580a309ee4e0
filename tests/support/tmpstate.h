/* SPDX-License-Identifier: Apache-2.0 */
/* A state directory that lives as long as one test, and a generator with a fixed seed. */
#pragma once

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct tmpstate {
	char dir[64], data[96];
};

static inline void tmpstate_new(struct tmpstate *s)
{
	snprintf(s->dir, sizeof(s->dir), "/tmp/mno-test-XXXXXX");
	if (!mkdtemp(s->dir)) {
		perror(s->dir);
		exit(1);
	}
	snprintf(s->data, sizeof(s->data), "%s/main/data.mdb", s->dir);
}

static inline int tmpstate_remove(const char *path, const struct stat *st, int type, struct FTW *f)
{
	return remove(path);
}

static inline void tmpstate_done(struct tmpstate *s)
{
	nftw(s->dir, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* xorshift64*: the same numbers in every run */
static inline uint64_t rnd(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}
