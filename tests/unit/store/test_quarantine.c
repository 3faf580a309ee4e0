/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a damaged value: its bytes are kept, a mark stays until it is dropped, and rollups
 * are made again from what they were made of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mno/map.h"
#include "values_files.h"

struct kept {
	uint8_t bytes[1 << 19];
	size_t len, n;
	uint64_t id;
	bool rebuilt;
	char env[40], lost[256];
};

static int keep_bytes(void *arg, const struct mno_quarantined *q)
{
	struct kept *k = arg;

	k->n++;
	k->id = q->id;
	k->len = MNO_MIN(q->len, sizeof(k->bytes));
	memcpy(k->bytes, q->bytes, k->len);
	k->rebuilt = q->rebuilt;
	snprintf(k->env, sizeof(k->env), "%s", q->env);
	snprintf(k->lost, sizeof(k->lost), "%s", q->lost);
	assert_true(*q->lost && *q->key && q->time_ms > 0);
	return 0;
}

static const struct value *find_value(const char *db)
{
	for (size_t i = 0; i < w.n; i++)
		if (!strcmp(w.v[i].db, db))
			return &w.v[i];
	return NULL;
}

static uint64_t damage_of(struct v_world *v)
{
	struct mno_verify_opts o = {.sz = sizeof(o)};
	struct mno_verify_progress p = {0};

	assert_int_equal(mno_store_verify(v->store, &o, &p), 0);
	return p.damaged;
}

/* The bytes are kept as they were, the answer stays incomplete, and a drop ends it. */
static void test_quarantine(void **state)
{
	static const char *const dbs[] = {"pack", "late", "hist", "proc", "event"};

	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++) {
		const struct value *x = find_value(dbs[i]);
		_cleanup_free_ uint8_t *was = malloc(x->len);
		struct kept *k = calloc(1, sizeof(*k));
		struct v_world v;
		char path[PATH_MAX];
		int fd;

		restore();
		flip(x, 60 * 8 + 3);
		snprintf(path, sizeof(path), "%s/%s/data.mdb", w.work.dir, w.env[x->env]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(pread(fd, was, x->len, (off_t)x->at), (ssize_t)x->len);
		close(fd);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		assert_int_equal(damage_of(&v), 1);
		assert_int_equal(v_quarantine(&v), 0);
		v_close(&v);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		assert_int_equal(mno_quarantine_each(v.store, NULL, 0, keep_bytes, k), 0);
		assert_int_equal(k->n, 1);
		assert_int_equal(k->len, x->len);
		assert_memory_equal(k->bytes, was, k->len);
		assert_int_equal(damage_of(&v), 1);
		assert_int_equal(v_quarantine(&v), 0);
		assert_int_equal(mno_quarantine_drop(v.store, k->env, k->id + 1), -ENOENT);
		assert_int_equal(mno_quarantine_drop(v.store, k->env, k->id), 0);
		assert_int_equal(v_quarantine(&v), 0);
		k->n = 0;
		assert_int_equal(mno_quarantine_each(v.store, NULL, 0, keep_bytes, k), 0);
		assert_int_equal(k->n, 0);
		assert_int_equal(damage_of(&v), 0);
		v_close(&v);
		free(k);
	}
}

struct in_quarantine {
	size_t n;
	uint64_t id;
	char env[40];
};

static int last_record(void *arg, const struct mno_quarantined *q)
{
	struct in_quarantine *a = arg;

	a->n++;
	a->id = q->id;
	snprintf(a->env, sizeof(a->env), "%s", q->env);
	return 0;
}

/* Drops one record; what stays. */
static size_t drop_one(struct v_world *v)
{
	struct in_quarantine a = {0};

	assert_int_equal(mno_quarantine_each(v->store, NULL, 0, last_record, &a), 0);
	assert_int_equal(mno_quarantine_drop(v->store, a.env, a.id), 0);
	assert_int_equal(v_quarantine(v), 0);
	a.n = 0;
	assert_int_equal(mno_quarantine_each(v->store, NULL, 0, last_record, &a), 0);
	return a.n;
}

/* Names of series, documents, changes: what others refer to. */
static void test_drop_known(void **state)
{
	static const char *const dbs[] = {"series_group", "series", "doc", "doc_feed"};
	struct mno_verify_opts o = {.sz = sizeof(o)};
	struct mno_verify_progress p;
	struct mno_quarantine_stat st;
	struct v_seen seen = {0};
	struct v_world v;

	restore();
	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++)
		flip(find_value(dbs[i]), 30 * 8 + 1);
	assert_int_equal(v_open(&v, w.work.dir), 0);
	assert_int_equal(damage_of(&v), ARRAY_SIZE(dbs));
	assert_int_equal(v_quarantine(&v), 0);
	for (size_t left = ARRAY_SIZE(dbs); left--;) {
		mno_quarantine_stat(v.store, &st);
		assert_int_equal(st.held, left + 1);
		assert_int_equal(damage_of(&v), left + 1);
		assert_int_equal(drop_one(&v), left);
	}
	for (unsigned start = 0; start < 2; start++) {
		mno_quarantine_stat(v.store, &st);
		assert_int_equal(st.held, 0);
		assert_int_equal(st.waiting, 0);
		assert_int_equal(mno_store_verify(v.store, &o, &p), 0);
		assert_int_equal(p.damaged, 0);
		assert_int_equal(p.gone, ARRAY_SIZE(dbs));
		v_read(&v, 0, &seen);
		assert_int_equal(seen.failed, 0);
		assert_int_equal(seen.wrong, 0);
		assert_true(seen.missing && seen.reports); /* it is still told what is not there */
		v_close(&v);
		assert_int_equal(v_open(&v, w.work.dir), 0);
	}
	v_write(&v, &seen); /* writes over document 0, among others */
	assert_int_equal(seen.failed, 0);
	assert_int_equal(mno_store_verify(v.store, &o, &p), 0);
	assert_int_equal(p.damaged, 0);
	assert_true(p.gone < ARRAY_SIZE(dbs));
	v_close(&v);
}

/* --- rollups ---------------------------------------------------------------------------------------- */

struct rolls {
	uint64_t n, sum, damaged;
};

static int add_points(void *arg, uint32_t id, const struct mno_rollup *p, size_t n)
{
	static const uint8_t secret[16] = "rollups' sum";
	struct rolls *a = arg;

	a->n += n;
	for (size_t i = 0; i < n; i++)
		a->sum += mno_siphash(secret, &p[i], sizeof(p[i])) * (id + 1);
	return 0;
}

static struct rolls roll_all(struct v_world *v)
{
	struct rolls a = {0};
	struct mno_ids ids = {0};

	assert_int_equal(mno_series_select(v->series, NULL, 0, SIZE_MAX, &ids), 0);
	for (unsigned t = 0; t < MNO_TIER_MAX; t++) {
		uint64_t damaged;

		assert_int_equal(mno_rollup_read(v->series, t, ids.v, ids.n, 0, INT64_MAX / 2,
					 add_points, &a, NULL, &damaged),
			0);
		a.damaged += damaged;
	}
	mno_ids_done(&ids);
	return a;
}

/* What was found by the last read is made again, or put into quarantine; *@ret: the one record. */
static void settle(struct v_world *v, struct kept *ret)
{
	assert_int_equal(v_quarantine(v), 0);
	assert_int_equal(v_rollups(v), 0);
	assert_int_equal(v_quarantine(v), 0);
	*ret = (struct kept){0};
	assert_int_equal(mno_quarantine_each(v->store, NULL, 0, keep_bytes, ret), 0);
}

static const struct value *first_r10s(void)
{
	for (size_t i = 0; i < w.n; i++)
		if (!strcmp(w.v[i].db, "roll") && !strncmp(w.env[w.v[i].env], "r10s", 4))
			return &w.v[i];
	return NULL;
}

static bool is_raw(const struct value *x)
{
	return !strcmp(x->db, "pack") || !strcmp(x->db, "part") || !strcmp(x->db, "window") ||
	       !strcmp(x->db, "late");
}

/* Every rollup is made again to the last bit from what it was made of, and told of as such. */
static void test_rebuild(void **state)
{
	struct kept *k = calloc(1, sizeof(*k));
	struct mno_quarantine_stat st;
	struct rolls want, is;
	struct v_world v;
	size_t n = 0, seen = 0;

	restore();
	assert_int_equal(v_open(&v, w.work.dir), 0);
	want = roll_all(&v);
	v_close(&v);
	assert_true(want.n > 1000 && !want.damaged);
	for (size_t i = 0; i < w.n; i++) {
		const struct value *x = &w.v[i];

		if (strcmp(x->db, "roll") != 0 ||
			(seen++ % 9 && !strncmp(w.env[x->env], "r10s", 4)))
			continue;
		n++;
		restore();
		flip(x, 70 * 8 + i % 8);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		is = roll_all(&v);
		assert_true(is.damaged >= 1 && is.n < want.n);
		settle(&v, k);
		assert_int_equal(k->n, 1);
		assert_true(k->rebuilt);
		assert_int_equal(k->len, x->len);
		is = roll_all(&v);
		assert_int_equal(is.damaged, 0);
		assert_int_equal(is.n, want.n);
		assert_true(is.sum == want.sum);
		assert_int_equal(damage_of(&v), 0);
		mno_quarantine_stat(v.store, &st);
		assert_int_equal(st.rebuilt, 1);
		assert_int_equal(st.held, 0);
		v_close(&v);
	}
	print_message("%zu rollups\n", n);
	assert_true(n > 9);
	free(k);
}

/* Where samples are damaged, too, or gone, or its head is: it stays lost, and the rest is whole. */
static void test_no_rebuild(void **state)
{
	static const char *const why[] = {"not all there", "not all there", "its head is damaged"};
	const struct value *x = first_r10s();
	struct kept *k = calloc(1, sizeof(*k));

	for (unsigned how = 0; how < ARRAY_SIZE(why); how++) {
		struct v_world v;
		struct rolls was, is;
		size_t n;

		restore();
		flip(x, how == 2 ? 5 : 70 * 8);
		for (size_t i = 0; i < w.n && how == 0; i++)
			if (is_raw(&w.v[i]))
				flip(&w.v[i], 70 * 8);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		if (how == 1)
			assert_int_equal(
				mno_store_drop(v.store, MNO_CLASS_TS, V_START + 9 * V_DAY_MS, &n),
				0);
		was = roll_all(&v);
		assert_true(was.damaged >= 1);
		settle(&v, k);
		assert_true(how == 0 ? k->n > 1 : k->n == 1); /* blocks are in quarantine, too */
		is = roll_all(&v);
		assert_true(is.damaged >= 1 && is.n == was.n && is.sum == was.sum);
		assert_true(damage_of(&v) >= 1);
		if (how) {
			assert_false(k->rebuilt);
			assert_non_null(strstr(k->lost, why[how]));
		}
		v_close(&v);
	}
	free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quarantine),
		cmocka_unit_test(test_drop_known),
		cmocka_unit_test(test_rebuild),
		cmocka_unit_test(test_no_rebuild),
	};

	return cmocka_run_group_tests_name("quarantine", tests, setup, teardown);
}
