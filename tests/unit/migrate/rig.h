/* SPDX-License-Identifier: Apache-2.0 */
/* A state directory that holds the fixture of format 1, and all answers of a store as text. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#define STORE struct mno_store
#include "../../fixtures/store-1/dump.h"
#include "../../support/tmpstate.h"
#include "mno/err.h"
#include "mno/migrate.h"

#define T(fn)   cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define FIXTURE "tests/fixtures/store-1/"

static inline char *read_zst(const char *path, size_t *ret_n)
{
	FILE *f = fopen(path, "rb");
	char *in = malloc(1 << 20), *out;
	size_t n, size;

	if (!f)
		fail_msg("%s: %s", path, strerror(errno));
	n = fread(in, 1, 1 << 20, f);
	fclose(f);
	size = ZSTD_getFrameContentSize(in, n);
	assert_true(size < 64u << 20);
	out = calloc(1, size + 1);
	assert_int_equal(ZSTD_decompress(out, size, in, n), size);
	free(in);
	*ret_n = size;
	return out;
}

static inline void put_file(const char *dir, const char *name, const void *p, size_t n)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	close(fd);
}

static inline void put_fixture(const char *dir)
{
	size_t n;
	char *p = read_zst(FIXTURE "data.mdb.zst", &n);

	put_file(dir, "data.mdb", p, n);
	free(p);
}

static inline bool there(const char *dir, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

static inline const struct mno_store_opts *store_opts(void)
{
	static const struct mno_store_opts o = {.sz = sizeof(o), .floor_bytes = 1};

	return &o;
}

/* Free it. */
static inline char *answers(const char *dir)
{
	struct mno_store *e;
	struct mno_series *s;
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert_int_equal(mno_store_open(dir, store_opts(), &e), 0);
	assert_int_equal(mno_series_open(e, &s), 0);
	assert_int_equal(dump_all(e, s, f), 0);
	fclose(f);
	mno_series_close(s);
	mno_store_close(e);
	return text;
}

/* The first line that differs is shown. */
static inline void assert_answers(const char *got, const char *want)
{
	for (; *got && *want; got++, want++) {
		size_t a = strcspn(got, "\n"), b = strcspn(want, "\n");

		if (a != b || memcmp(got, want, a))
			fail_msg("got \"%.*s\", want \"%.*s\"", (int)a, got, (int)b, want);
		got += a;
		want += b;
		if (!*got || !*want)
			break;
	}
	assert_int_equal(*got, *want);
}

static inline int setup(void **state)
{
	struct tmpstate *t = calloc(1, sizeof(*t));

	tmpstate_new(t);
	put_fixture(t->dir);
	*state = t;
	return 0;
}

static inline int teardown(void **state)
{
	tmpstate_done(*state);
	free(*state);
	return 0;
}
