/* SPDX-License-Identifier: Apache-2.0 */
/* Stored rows and records: round trips with hostile content, times, damage, expiry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "../../../libmno/src/ledger/batch.h"
#include "../../support/tmpstate.h"
#include "mno/err.h"
#include "mno/time.h"
#include "mno_wire.h"

struct st {
	struct tmpstate tmp;
	struct mno_store *e;
};

static int setup(void **state)
{
	struct st *s = calloc(1, sizeof(*s));

	tmpstate_new(&s->tmp);
	assert_int_equal(mno_store_open(s->tmp.dir, NULL, &s->e), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct st *s = *state;

	mno_store_close(s->e);
	tmpstate_done(&s->tmp);
	free(s);
	return 0;
}

static void store(struct st *s, const struct mno_proc *rows, size_t n)
{
	struct mno_txn *t;

	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_ledger_store(s->e, t, rows, n), 0);
	assert_int_equal(mno_store_commit(s->e, t), 0);
}

/* --- rows ---------------------------------------------------------------------------------------- */

static char long_text[4096];

static struct mno_proc hostile_row(uint64_t *seed)
{
	static const char *const texts[] = {
		"", "/bin/sh", "/\xff\xfe\x01/\x7f", long_text, "/a b\"\\\n", "/usr/bin/python3"};
	static const char argvs[] = "sh\0-c\0\0\xc0\x80\nrm -rf /\0";
	struct mno_proc p = {0};

	for (size_t i = 0; i < offsetof(struct mno_proc, killer_comm) / 4; i++)
		((uint32_t *)&p)[i] = (uint32_t)(rnd(seed) >> (rnd(seed) % 64));
	p.start_ns = rnd(seed) >> (rnd(seed) % 64);
	/* of 60 days, and a few of any time: each day is a partition */
	p.end_ns = rnd(seed) % 500 ? rnd(seed) % (60 * 86400 * NS_PER_SEC)
				   : rnd(seed) >> (rnd(seed) % 64);
	p.duration_ns = rnd(seed);
	p.cpu_ns = rnd(seed) >> (rnd(seed) % 64);
	p.rss_peak_bytes = rnd(seed) >> (rnd(seed) % 64);
	p.io_read_bytes = rnd(seed) >> (rnd(seed) % 64);
	p.io_write_bytes = UINT64_MAX;
	memcpy(p.comm, "0123456789abcdef", rnd(seed) % 17); /* may lack its NUL */
	memcpy(p.killer_comm, "kill", rnd(seed) % 5);
	p.exe = texts[rnd(seed) % ARRAY_SIZE(texts)];
	p.cgroup = texts[rnd(seed) % ARRAY_SIZE(texts)];
	p.argv = argvs;
	p.argv_len = (uint32_t)(rnd(seed) % sizeof(argvs));
	return p;
}

static bool same_row(const struct mno_proc *a, const struct mno_proc *b)
{
	return memcmp(a, b, offsetof(struct mno_proc, exe)) == 0 && strcmp(a->exe, b->exe) == 0 &&
	       strcmp(a->cgroup, b->cgroup) == 0 && a->argv_len == b->argv_len &&
	       memcmp(a->argv, b->argv, a->argv_len) == 0;
}

struct check {
	struct mno_proc *rows;
	bool *seen;
	size_t n, found, strange;
	uint64_t t0, t1;
};

static int check_row(void *arg, const struct mno_proc *p)
{
	struct check *c = arg;

	assert_true(p->end_ns >= c->t0 && p->start_ns <= c->t1);
	for (size_t i = 0; i < c->n; i++)
		if (!c->seen[i] && same_row(&c->rows[i], p)) {
			c->seen[i] = true;
			c->found++;
			return 0;
		}
	c->strange++;
	return 0;
}

static void test_hostile(void **state)
{
	enum { N = 3000 };
	struct st *s = *state;
	struct mno_proc *rows = calloc(N, sizeof(*rows));
	uint64_t seed = 31;

	memset(long_text, 'x', sizeof(long_text) - 1);
	for (size_t i = 0; i < N; i++)
		rows[i] = hostile_row(&seed);
	for (size_t i = 0; i < N;) {
		size_t some = 1 + rnd(&seed) % 700, n = MNO_MIN(some, N - i);

		store(s, rows + i, n);
		i += n;
	}
	for (unsigned round = 0; round < 20; round++) {
		struct check c = {.rows = rows, .n = N, .seen = calloc(N, 1), .t1 = UINT64_MAX};
		size_t want = 0;

		if (round) {
			c.t0 = rnd(&seed) >> (rnd(&seed) % 64);
			c.t1 = c.t0 + (rnd(&seed) >> (rnd(&seed) % 64));
			c.t1 = c.t1 < c.t0 ? UINT64_MAX : c.t1;
		}
		for (size_t i = 0; i < N; i++)
			want += rows[i].end_ns >= c.t0 && rows[i].start_ns <= c.t1;
		assert_int_equal(mno_ledger_read(s->e, c.t0, c.t1, check_row, &c), 0);
		assert_int_equal(c.strange, 0);
		assert_int_equal(c.found, want);
		free(c.seen);
	}
	free(rows);
}

static void short_lived(struct mno_proc *p, uint64_t i, uint64_t *seed)
{
	uint64_t start = 1700000000000000000 + i * 700000 + rnd(seed) % 500000;

	*p = (struct mno_proc){.pid = 1000 + (uint32_t)(i % 30000),
		.ppid = 900,
		.uid = 0,
		.flags = MNO_PROC_ENDED | MNO_PROC_EXECED,
		.start_ns = start,
		.start_boottime_ns = start - 1600000000000000000,
		.parent_start_boottime_ns = 12345678901,
		.cgroup_id = 4242,
		.execs = 1,
		.end_ns = start + 2500000 + rnd(seed) % 900000,
		.cpu_ns = 700000 + rnd(seed) % 400000,
		.rss_peak_bytes = (300 + rnd(seed) % 60) * 4096,
		.io_write_bytes = rnd(seed) % 4 ? 0 : 4096,
		.comm = "true",
		.exe = "/usr/bin/true",
		.cgroup = "/system.slice/build.service",
		.argv = "true\0--quiet",
		.argv_len = 13};
	p->duration_ns = p->end_ns - p->start_ns;
}

struct order {
	uint64_t last;
	size_t n;
};

static int order_row(void *arg, const struct mno_proc *p)
{
	struct order *o = arg;

	/* exact within what was stored at once, which overlaps by one process's life */
	assert_true(p->end_ns <= o->last || p->end_ns - o->last < 4000000);
	o->last = p->end_ns;
	o->n++;
	return 0;
}

static int stop_third(void *arg, const struct mno_proc *p)
{
	return ++*(int *)arg == 3 ? -ENOENT : 0; /* any result comes through */
}

static void test_many(void **state)
{
	enum { N = 100000 };
	struct st *s = *state;
	struct mno_proc *rows = calloc(N, sizeof(*rows));
	struct order o = {.last = UINT64_MAX};
	struct mno_store_stat before, after;
	uint64_t seed = 8, t0;
	double per_row;
	int n = 0;

	for (size_t i = 0; i < N; i++)
		short_lived(&rows[i], i, &seed);
	mno_store_stat(s->e, &before);
	for (size_t i = 0; i < N; i += 5000)
		store(s, rows + i, 5000);
	mno_store_stat(s->e, &after);
	per_row = (double)(after.used_bytes - before.used_bytes) / N;
	printf("%.1f bytes per stored row\n", per_row);
	assert_true(per_row < 60);
	t0 = mno_now_ns(CLOCK_MONOTONIC);
	assert_int_equal(mno_ledger_read(s->e, 0, UINT64_MAX, order_row, &o), 0);
	printf("100,000 rows read in %.1f ms\n", (double)(mno_now_ns(CLOCK_MONOTONIC) - t0) / 1e6);
	assert_int_equal(o.n, N);
	assert_int_equal(mno_ledger_read(s->e, 0, UINT64_MAX, stop_third, &n), -ENOENT);
	assert_int_equal(n, 3);
	free(rows);
}

static int count_row(void *arg, const struct mno_proc *p)
{
	++*(size_t *)arg;
	return 0;
}

static void flip(struct st *s, enum mno_db db, size_t bit)
{
	_cleanup_buf_ struct mno_buf k = {0}, v = {0};
	uint8_t from[12] = {0};
	_cleanup_free_ int64_t *parts = NULL;
	struct mno_txn *t, *part;
	struct mno_env *e;
	size_t n;

	assert_int_equal(
		mno_store_partitions(s->e, MNO_CLASS_EVENT, INT64_MIN, INT64_MAX, &parts, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(mno_store_env(s->e, MNO_CLASS_EVENT, parts[0], false, &e), 0);
	assert_int_equal(mno_env_fetch(e, db, MNO_SEEK_GE, from, sizeof(from), &k, &v), 0);
	mno_env_unref(e);
	v.data[bit / 8] ^= (char)(1 << bit % 8);
	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_txn_part(t, MNO_CLASS_EVENT, parts[0], &part), 0);
	assert_int_equal(mno_txn_put(part, db, k.data, k.len, v.data, v.len), 0);
	assert_int_equal(mno_store_commit(s->e, t), 0);
}

static void test_damage_and_expiry(void **state)
{
	struct st *s = *state;
	struct mno_proc rows[20];
	struct mno_store_stat st;
	struct mno_txn *t;
	uint64_t seed = 4;
	size_t n = 0;
	bool more = true;

	for (size_t i = 0; i < 20; i++)
		short_lived(&rows[i], i * 1000, &seed);
	store(s, rows, 10);
	store(s, rows + 10, 10);
	for (size_t bit = 0; bit < 48 * 8 + 80; bit += 3) {
		n = 0;
		flip(s, MNO_DB_PROC, bit);
		assert_int_equal(mno_ledger_read(s->e, 0, UINT64_MAX, count_row, &n), 0);
		assert_int_equal(n, 10); /* the other batch */
		flip(s, MNO_DB_PROC, bit);
	}
	assert_int_equal(mno_store_stat(s->e, &st), 0);
	assert_true(st.damaged > 0);
	flip(s, MNO_DB_PROC, 400); /* a damaged one expires like any other */
	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_ledger_expire(s->e, t, rows[15].end_ns, &more), 0);
	assert_false(more);
	assert_int_equal(mno_store_commit(s->e, t), 0);
	n = 0;
	assert_int_equal(mno_ledger_read(s->e, 0, UINT64_MAX, count_row, &n), 0);
	assert_int_equal(n, 10);
	assert_int_equal(mno_store_stat(s->e, &st), 0);
}

static void test_expire_in_steps(void **state)
{
	struct st *s = *state;
	struct mno_txn *t;
	struct mno_proc p;
	uint64_t seed = 4;
	bool more = true;
	int calls = 0;

	assert_int_equal(mno_store_begin(s->e, &t), 0);
	for (size_t i = 0; i < 600; i++) {
		short_lived(&p, 0, &seed); /* many with one key time */
		p.end_ns = 1000 + i / 100;
		assert_int_equal(mno_ledger_store(s->e, t, &p, 1), 0);
	}
	assert_int_equal(mno_store_commit(s->e, t), 0);
	assert_int_equal(mno_store_begin(s->e, &t), 0);
	while (more && calls++ < 10)
		assert_int_equal(mno_ledger_expire(s->e, t, 5000, &more), 0);
	assert_int_equal(mno_store_commit(s->e, t), 0);
	assert_int_equal(calls, 3);
}

/* Expiry only takes away: a limit before the only partition there is makes none. */
static void test_expire_makes_nothing(void **state)
{
	const uint64_t day_ns = 86400 * 1000000000ULL;
	struct st *s = *state;
	int64_t *days;
	struct mno_txn *t;
	struct mno_proc p;
	uint64_t seed = 5;
	bool more = true;
	size_t n;

	short_lived(&p, 0, &seed);
	p.end_ns = 9 * day_ns + 5;
	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_ledger_store(s->e, t, &p, 1), 0);
	assert_int_equal(mno_store_commit(s->e, t), 0);
	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_ledger_expire(s->e, t, 3 * day_ns, &more), 0);
	assert_int_equal(mno_store_commit(s->e, t), 0);
	assert_false(more);
	assert_int_equal(
		mno_store_partitions(s->e, MNO_CLASS_EVENT, INT64_MIN, INT64_MAX, &days, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(days[0], (int64_t)(9 * day_ns / 1000000));
	free(days);
}

/* Whatever the bytes are: an error or rows whose strings lie inside. */
static void test_decode_damage(void **state)
{
	struct mno_proc rows[50], *out;
	const struct mno_proc *v[50];
	_cleanup_buf_ struct mno_buf raw = {0};
	uint8_t key[16] = {0};
	uint64_t seed = 6;
	size_t n, refused = 0;

	for (size_t i = 0; i < 50; i++) {
		rows[i] = hostile_row(&seed);
		v[i] = &rows[i];
	}
	assert_int_equal(batch_encode(v, 50, key, &raw), 0);
	for (unsigned round = 0; round < 5000; round++) {
		size_t len = round % 3 ? raw.len : rnd(&seed) % raw.len;
		uint8_t *copy = malloc(len + 1);

		memcpy(copy, raw.data, len);
		for (unsigned k = 0; len && k < 1 + round % 4; k++)
			copy[rnd(&seed) % len] ^= (uint8_t)(1 << rnd(&seed) % 8);
		if (batch_decode(copy, len, &out, &n) < 0) {
			refused++;
		} else {
			for (size_t i = 0; i < n; i++) {
				assert_true((const uint8_t *)out[i].exe >= copy &&
					    (const uint8_t *)out[i].argv + out[i].argv_len <
						    copy + len);
				assert_true(strlen(out[i].exe) < len);
			}
			free(out);
		}
		free(copy);
	}
	assert_true(refused > 1000);
}

/* --- records ----------------------------------------------------------------------------------------- */

struct rec {
	struct mno_hdr hdr;
	uint64_t n;
};

static void store_events(
	struct st *s, uint64_t boot, uint64_t offset, uint64_t first, unsigned count)
{
	struct rec r[64];
	struct mno_txn *t;

	for (unsigned i = 0; i < count; i++)
		r[i] = (struct rec){
			.hdr = {.size = sizeof(*r), .kind = 3, .ktime = boot + i}, .n = first + i};
	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_events_store(s->e, t, boot + offset, boot + offset + count - 1, r,
				 count * sizeof(*r), count),
		0);
	assert_int_equal(mno_store_commit(s->e, t), 0);
}

struct events {
	uint64_t next, offset, t0, t1;
	size_t n;
};

static int event(void *arg, const void *rec, size_t len)
{
	struct events *q = arg;
	const struct rec *r = rec;
	uint64_t t = r->hdr.ktime + (uint64_t)mno_boot_offset_ns();

	assert_int_equal(len, sizeof(*r));
	assert_true((uintptr_t)rec % 8 == 0);
	assert_int_equal(r->n, q->next);
	/* the boot offset is measured anew each time: a few microseconds apart */
	assert_true(t + 1000000 > q->t0 && t < q->t1 + 1000000);
	q->next++;
	q->n++;
	return 0;
}

static void test_events(void **state)
{
	struct st *s = *state;
	const uint64_t base = 1700000000000000000;
	struct events q = {.t0 = base, .t1 = base + 200};
	struct mno_txn *t;
	bool more = true;

	/* three batches, of two boots */
	store_events(s, 5000, base - 5000, 0, 50);
	store_events(s, 5050, base - 5000, 50, 50);
	store_events(s, 100, base, 100, 50);
	assert_int_equal(mno_events_read(s->e, base, base + 200, event, &q), 0);
	assert_int_equal(q.n, 150);
	q = (struct events){.next = 70, .t0 = base + 70, .t1 = base + 119};
	assert_int_equal(mno_events_read(s->e, base + 70, base + 119, event, &q), 0);
	assert_int_equal(q.n, 50);
	q = (struct events){0};
	assert_int_equal(mno_events_read(s->e, base + 1000, UINT64_MAX, event, &q), 0);
	assert_int_equal(mno_events_read(s->e, 0, base - 1, event, &q), 0);
	assert_int_equal(q.n, 0);
	flip(s, MNO_DB_EVENT, 48 * 8 + 5);
	q = (struct events){.next = 50, .t0 = base, .t1 = base + 200};
	assert_int_equal(mno_events_read(s->e, 0, UINT64_MAX, event, &q), 0);
	assert_int_equal(q.n, 100);
	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_events_expire(s->e, t, base + 110, &more), 0);
	assert_false(more);
	assert_int_equal(mno_store_commit(s->e, t), 0);
	q = (struct events){.next = 100, .t0 = base, .t1 = base + 200};
	assert_int_equal(mno_events_read(s->e, 0, UINT64_MAX, event, &q), 0);
	assert_int_equal(q.n, 50);
}

static void test_bad_events(void **state)
{
	struct st *s = *state;
	struct rec r[2] = {{.hdr = {.size = sizeof(*r)}}, {.hdr = {.size = sizeof(*r)}}};
	struct mno_txn *t;

	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_events_store(s->e, t, 1, 2, r, sizeof(r) - 1, 2), -EINVAL);
	assert_int_equal(mno_events_store(s->e, t, 2, 1, r, sizeof(r), 2), -EINVAL);
	assert_int_equal(mno_events_store(s->e, t, 1, 2, r, 0, 0), 0);
	r[1].hdr.size = 0;
	assert_int_equal(mno_events_store(s->e, t, 1, 2, r, sizeof(r), 2), -EINVAL);
	r[1].hdr.size = 44;
	assert_int_equal(mno_events_store(s->e, t, 1, 2, r, sizeof(r), 2), -EINVAL);
	mno_store_abort(s->e, t);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_hostile),
		T(test_many),
		T(test_damage_and_expiry),
		T(test_expire_in_steps),
		T(test_expire_makes_nothing),
		cmocka_unit_test(test_decode_damage),
		T(test_events),
		T(test_bad_events),
	};

	return cmocka_run_group_tests_name("ledger store", tests, NULL, NULL);
}
