/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Series that live a minute: 700 new ones each minute, 200,000 in all, with an hour's retention.
 * Memory, the store's pages and the time to select what is alive stay as they are after that hour.
 */
#include <stdio.h>
#include <time.h>
#include "rig.h"

#define NEW_A_MINUTE 700
#define MINUTES      286
#define KEEP         60 /* minutes */
#define MS           1000

struct figures {
	uint64_t memory, pages, lag;
	double select_ms;
	size_t found;
};

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double worst_step; /* CPU time of one call that expires, ms */

static void expire(struct st *s, struct mno_txn *t, int64_t t_ms)
{
	bool more = true;

	while (more) {
		double t0 = cpu_ms();

		more = false;
		assert_int_equal(mno_series_expire(s->s, t, t_ms, &more), 0);
		worst_step = MNO_MAX(worst_step, cpu_ms() - t0);
	}
}

static void one_minute(struct st *s, unsigned minute)
{
	static uint32_t ids[NEW_A_MINUTE];
	static double v[NEW_A_MINUTE];
	struct mno_txn *t = begin(s);
	char key[200];

	for (unsigned i = 0; i < NEW_A_MINUTE; i++) {
		snprintf(key, sizeof(key),
			"job_seconds_total{job=\"batch\",node=\"n%u\",pod=\"pod-%u-%x\"}", i % 20,
			minute, i * 2654435761u);
		ids[i] = resolve(s, t, key);
	}
	for (unsigned second = 0; second < 60; second++) {
		int64_t now = ((int64_t)minute * 60 + second + 1) * MS;

		for (unsigned i = 0; i < NEW_A_MINUTE; i++)
			v[i] = (double)(second * i);
		assert_int_equal(mno_series_append(s->s, t, now, ids, v, NEW_A_MINUTE), 0);
		if (second % 10 == 9) {
			commit(s, t);
			t = begin(s);
		}
	}
	if (minute >= KEEP)
		expire(s, t, ((int64_t)minute - KEEP) * 60 * MS);
	commit(s, t);
	/* those of a minute are neighbours, so that a group is alive as long as one of them */
	assert_true(ids[NEW_A_MINUTE - 1] - ids[0] == NEW_A_MINUTE - 1);
}

static void measure(struct st *s, unsigned minute, struct figures *f)
{
	struct mno_matcher m[2] = {
		{MNO_MATCH_EQ, "job", "batch", NULL}, {MNO_MATCH_RE, "pod", "pod-.*", NULL}};
	int64_t now = (int64_t)(minute + 1) * 60 * MS;
	struct mno_series_stat st;
	struct mno_store_stat es;
	struct mno_ids ids = {0};
	char err[100];
	double t0;

	assert_int_equal(mno_matchers_compile(m, 2, err, sizeof(err)), 0);
	t0 = cpu_ms();
	for (unsigned i = 0; i < 10; i++) {
		mno_ids_done(&ids);
		assert_int_equal(
			mno_series_select_range(s->s, m, 2, now - 300 * MS, now, SIZE_MAX, &ids),
			0);
	}
	f->select_ms = (cpu_ms() - t0) / 10;
	f->found = ids.n;
	mno_series_stat(s->s, &st);
	assert_int_equal(mno_store_stat(s->e, &es), 0);
	f->memory = st.memory_bytes;
	f->pages = es.used_bytes;
	f->lag = st.index_lag;
	mno_ids_done(&ids);
	mno_matchers_done(m, 2);
}

static void worst(struct figures *w, const struct figures *f)
{
	w->memory = MNO_MAX(w->memory, f->memory);
	w->pages = MNO_MAX(w->pages, f->pages);
	w->lag = MNO_MAX(w->lag, f->lag);
	w->select_ms = MNO_MAX(w->select_ms, f->select_ms);
	w->found = MNO_MAX(w->found, f->found);
}

static void test_minutes(void **state)
{
	struct st *s = *state;
	struct figures early = {0}, late = {0}, f;
	struct mno_ids ids = {0};
	struct mno_series_stat st;

	for (unsigned minute = 0; minute < MINUTES; minute++) {
		one_minute(s, minute);
		if (minute == 200) { /* a start in between scatters nothing */
			down(s);
			up(s);
		}
		if (minute < KEEP + 10 || minute % 5)
			continue;
		measure(s, minute, &f);
		worst(minute < 150 ? &early : &late, &f);
	}
	print_message("early: memory %.1f MiB, pages %.1f MiB, select %.2f ms of %zu\n"
		      "late:  memory %.1f MiB, pages %.1f MiB, select %.2f ms of %zu\n"
		      "a step of expiry: %.2f ms at most\n",
		(double)early.memory / (1 << 20), (double)early.pages / (1 << 20), early.select_ms,
		early.found, (double)late.memory / (1 << 20), (double)late.pages / (1 << 20),
		late.select_ms, late.found, worst_step);
	assert_true(late.memory <= early.memory + early.memory / 10);
	assert_true(late.pages <= early.pages + early.pages / 5);
	assert_true(late.select_ms < early.select_ms * 4 + 1);
	assert_in_range(late.found, 5 * NEW_A_MINUTE, 16 * NEW_A_MINUTE);
	assert_true(late.lag <= 2 * 1024 + NEW_A_MINUTE);
	mno_series_stat(s->s, &st);
	assert_true(st.series < (KEEP + 12) * NEW_A_MINUTE);
	assert_int_equal(st.ids_left, UINT32_MAX - 64u - MINUTES * NEW_A_MINUTE);
	/* nobody was alive an hour ago and an hour before that, but for what retention has not taken */
	assert_int_equal(mno_series_select_range(
				 s->s, NULL, 0, 0, (MINUTES - 2 * KEEP) * 60 * MS, SIZE_MAX, &ids),
		0);
	assert_int_equal(ids.n, 0);
	mno_ids_done(&ids);
}

/* There is no other id to give: the series is refused, those that are there go on. */
static void test_last_id(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	struct mno_series_stat st;
	uint32_t id, first = resolve(s, t, "first");

	s->s->now.next_id = SERIES_ID_MAX;
	id = resolve(s, t, "last");
	assert_int_equal(id, SERIES_ID_MAX);
	assert_int_equal(mno_series_resolve(s->s, t, "none", 4, &id), -EOVERFLOW);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.ids_left, 0);
	assert_int_equal(st.refused, 1);
	id = SERIES_ID_MAX;
	assert_int_equal(
		mno_series_append(s->s, t, 1, (uint32_t[]){first, id}, (double[]){1, 2}, 2), 0);
	commit(s, t);
	down(s);
	up(s);
	t = begin(s);
	assert_int_equal(resolve(s, t, "last"), id);
	assert_int_equal(resolve(s, t, "first"), first);
	assert_int_equal(mno_series_resolve(s->s, t, "none", 4, &id), -EOVERFLOW);
	commit(s, t);
}

/* Labels in memory have a bound: a series more is refused, until others have left the head. */
static void test_label_memory(void **state)
{
	struct st *s = *state;
	_cleanup_buf_ struct mno_buf key = {0};
	struct mno_txn *t = begin(s);
	struct mno_series_stat st;
	uint32_t live = resolve(s, t, "live"), id;
	unsigned n = 0;
	int r = 0;

	s->s->index_max = 1 << 20;
	for (; r == 0 && n < 1000; n += r == 0) {
		mno_buf_reset(&key);
		mno_buf_addf(&key, "m{i=\"%u\",v=\"%08000u\"}", n, n);
		r = mno_series_resolve(s->s, t, key.data, key.len, &id);
	}
	assert_int_equal(r, -MNO_ELIMIT);
	assert_true(n > 30);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.refused, 1);
	assert_true(st.index_bytes <= 1 << 20);
	commit(s, t);
	add_rows(s, &live, 1, 1, 1000);
	t = begin(s);
	assert_int_equal(mno_series_resolve(s->s, t, key.data, key.len, &id), 0);
	commit(s, t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_minutes),
		T(test_last_id),
		T(test_label_memory),
	};

	return cmocka_run_group_tests_name("minutes", tests, NULL, NULL);
}
