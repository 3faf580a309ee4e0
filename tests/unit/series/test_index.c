/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the label index: tables, sets, lists, ordered texts. */
#include <stdio.h>
#include "rig.h"

/* --- tables and sets -------------------------------------------------------------------------- */

static void test_sparse(void **state)
{
	static const uint32_t at[] = {
		0, 1, 63, 511, 512, 5000, 262143, 262144, 1u << 25, SPARSE_MAX - 1};
	struct sparse t = {0};
	int marks[ARRAY_SIZE(at)];
	size_t n = 0;
	int *p;

	for (size_t i = ARRAY_SIZE(at); i--;)
		assert_int_equal(sparse_put(&t, at[i], &marks[i]), 0);
	assert_int_equal(sparse_put(&t, SPARSE_MAX, &marks[0]), -ERANGE);
	assert_null(sparse_get(&t, SPARSE_MAX));
	assert_null(sparse_get(&t, 2));
	SPARSE_EACH(&t, no, p)
	{
		assert_int_equal(no, at[n]);
		assert_ptr_equal(p, &marks[n++]);
	}
	assert_int_equal(n, ARRAY_SIZE(at));
	assert_int_equal(t.n, n);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		assert_int_equal(sparse_put(&t, at[i], NULL), 0);
	assert_int_equal(t.n, 0);
	assert_int_equal(t.bytes, 0); /* nothing is left of what was */
	sparse_done(&t);
}

static uint64_t some_mask(uint64_t *seed)
{
	switch (rnd(seed) % 4) {
	case 0:
		return 1ULL << (rnd(seed) % 64);
	case 1:
		return UINT64_MAX;
	case 2:
		return 1ULL << (rnd(seed) % 64) | 1ULL << (rnd(seed) % 64) | 1;
	default:
		return rnd(seed) | 1;
	}
}

static void test_sets(void **state)
{
	uint64_t seed = 7;

	for (unsigned round = 0; round < 500; round++) {
		struct id_set a = {0}, b = {0}, c = {0};
		_cleanup_buf_ struct mno_buf raw = {0};
		uint64_t mask_a[64] = {0}, mask_b[64] = {0};

		for (unsigned i = 0; i < 20; i++) {
			uint32_t ga = rnd(&seed) % 64, gb = rnd(&seed) % 64;
			uint64_t ma = some_mask(&seed), mb = some_mask(&seed);

			mask_a[ga] |= ma;
			mask_b[gb] |= mb;
			assert_int_equal(set_add(&a, ga, ma), 0);
			assert_int_equal(set_add(&b, gb, mb), 0);
		}
		set_sort(&a);
		set_sort(&b);
		set_encode(&a, 0, a.n, &raw);
		assert_int_equal(set_decode(raw.data, raw.len, &c), 0);
		assert_int_equal(c.n, a.n);
		assert_memory_equal(c.v, a.v, 0);
		for (size_t i = 0; i < a.n; i++)
			assert_true(a.v[i].group == c.v[i].group && a.v[i].mask == c.v[i].mask);
		/* every cut is noticed or is a set of fewer groups */
		for (size_t cut = 0; cut < raw.len; cut++) {
			struct id_set d = {0};
			int r = set_decode(raw.data, cut, &d);

			assert_true(r == -MNO_ECORRUPT || (r == 0 && d.n < a.n));
			set_done(&d);
		}
		if (round % 3 == 0)
			set_and(&a, &b);
		else if (round % 3 == 1)
			set_sub(&a, &b);
		else
			assert_int_equal(set_or(&a, &b), 0);
		for (uint32_t g = 0; g < 64; g++) {
			size_t i = set_find(&a, g);
			uint64_t got = i < a.n && a.v[i].group == g ? a.v[i].mask : 0;
			uint64_t want = round % 3 == 0   ? mask_a[g] & mask_b[g]
					: round % 3 == 1 ? mask_a[g] & ~mask_b[g]
							 : mask_a[g] | mask_b[g];

			assert_true(got == want);
		}
		set_done(&a);
		set_done(&b);
		set_done(&c);
	}
}

/* --- lists on disk ------------------------------------------------------------------------------- */

#define L_GROUPS 4096
static void test_lists(void **state)
{
	struct st *s = *state;
	static uint64_t want[L_GROUPS];
	uint64_t seed = 99;
	uint8_t fp[FP_BYTES], other[FP_BYTES];

	label_fp(s->s, "name", "value", fp);
	label_fp(s->s, "name", NULL, other);
	memset(want, 0, sizeof(want));
	for (unsigned round = 0; round < 120; round++) {
		struct mno_txn *t = begin(s);
		struct id_set part = {0}, got = {0};
		bool del = round >= 60 || rnd(&seed) % 3 == 0, was, is, any = false, now = false;
		struct rd rd;
		size_t n = 0;

		for (uint32_t g = 0; g < L_GROUPS; g++)
			any |= want[g] != 0;
		for (uint32_t g = round < 20 ? round * 200 : 0; g < L_GROUPS; g++) {
			uint64_t mask = round < 110 ? some_mask(&seed) : UINT64_MAX;

			if (rnd(&seed) % 8 && round < 110)
				continue;
			assert_int_equal(set_add(&part, g, mask), 0);
			want[g] = del ? want[g] & ~mask : want[g] | mask;
		}
		assert_int_equal(posting_apply(s->s, t, fp, &part, del, &was, &is), 0);
		assert_int_equal(mno_store_commit(s->e, t), 0);
		assert_int_equal(rd_open(&rd, s->s), 0);
		assert_int_equal(posting_load(&rd, fp, NULL, &got), 0);
		for (uint32_t g = 0; g < L_GROUPS; g++) {
			uint64_t mask = n < got.n && got.v[n].group == g ? got.v[n++].mask : 0;

			assert_true(mask == want[g]);
			now |= want[g] != 0;
		}
		assert_int_equal(was, any);
		assert_int_equal(is, now);
		/* only what is asked for is read, and all of that */
		got.n = 0;
		set_sub(&part, &(struct id_set){.v = part.v, .n = part.n / 2});
		assert_int_equal(posting_load(&rd, fp, &part, &got), 0);
		set_sort(&got);
		set_and(&got, &part);
		for (size_t i = 0; i < part.n; i++) {
			size_t at = set_find(&got, part.v[i].group);
			uint64_t mask = at < got.n && got.v[at].group == part.v[i].group
						? got.v[at].mask
						: 0;

			assert_true(mask == (want[part.v[i].group] & part.v[i].mask));
		}
		got.n = 0;
		assert_int_equal(posting_load(&rd, other, NULL, &got), 0);
		assert_int_equal(got.n, 0);
		rd_done(&rd);
		set_done(&part);
		set_done(&got);
	}
}

/* --- ordered texts ------------------------------------------------------------------------------- */

#define V_TEXTS 6000
struct walk {
	char (*text)[24];
	const bool *in;
	size_t at, n;
};

static int walk_text(void *arg, const char *text, size_t len)
{
	struct walk *w = arg;

	while (!w->in[w->at])
		w->at++;
	assert_int_equal(strlen(w->text[w->at]), len);
	assert_memory_equal(w->text[w->at], text, len);
	w->at++;
	w->n++;
	return 0;
}

static void check_texts(struct st *s, const uint8_t *tree, char (*text)[24], const bool *in)
{
	struct walk w = {.text = text, .in = in};
	size_t total = 0;
	uint64_t count;
	struct rd rd;

	for (size_t i = 0; i < V_TEXTS; i++)
		total += in[i];
	assert_int_equal(rd_open(&rd, s->s), 0);
	assert_int_equal(values_walk(&rd, tree, "", 0, walk_text, &w), 0);
	assert_int_equal(w.n, total);
	assert_int_equal(values_count(&rd, tree, &count), 0);
	assert_int_equal(count, total);
	for (unsigned p = 0; p < 30; p++) {
		char prefix[8];
		size_t len, want = 0, first = V_TEXTS;

		len = (size_t)snprintf(prefix, sizeof(prefix), "v%u", p * 7);
		for (size_t i = V_TEXTS; i--;)
			if (in[i] && strncmp(text[i], prefix, len) == 0) {
				want++;
				first = i;
			}
		w.n = 0;
		w.at = first;
		assert_int_equal(values_walk(&rd, tree, prefix, len, walk_text, &w), 0);
		assert_int_equal(w.n, want);
	}
	rd_done(&rd);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void test_texts(void **state)
{
	struct st *s = *state;
	static char text[V_TEXTS][24];
	static bool in[V_TEXTS];
	uint8_t tree[FP_BYTES];
	uint64_t seed = 3;

	label_fp(s->s, "name", NULL, tree);
	for (unsigned i = 0; i < V_TEXTS; i++)
		snprintf(text[i], sizeof(text[i]), "v%u-%x", i, i * 7919);
	qsort(text, V_TEXTS, sizeof(*text), by_text);
	memset(in, 0, sizeof(in));
	for (unsigned round = 0; round < 90; round++) {
		static struct value_edit v[V_TEXTS];
		struct mno_txn *t = begin(s);
		bool del = round >= 45 && round < 89;
		size_t n = 0;

		/* ascending, anywhere, everywhere; then away again; a few at the end, and all */
		for (size_t i = 0; i < V_TEXTS; i++) {
			bool hit = round < 20   ? i / 300 == round
				   : round < 45 ? rnd(&seed) % 50 == 0
				   : round < 80 ? rnd(&seed) % 20 == 0
				   : round < 88 ? rnd(&seed) % 2 == 0
						: true;

			if (round < 20 && i % 3)
				hit = false;
			if (!hit)
				continue;
			v[n++] = (struct value_edit){text[i], strlen(text[i]), del};
			in[i] = !del;
		}
		assert_int_equal(values_apply(s->s, t, tree, v, n), 0);
		assert_int_equal(mno_store_commit(s->e, t), 0);
		check_texts(s, tree, text, in);
	}
	{
		struct mno_txn *t = begin(s);
		static struct value_edit v[V_TEXTS];
		MDB_stat st;

		for (size_t i = 0; i < V_TEXTS; i++)
			v[i] = (struct value_edit){text[i], strlen(text[i]), true};
		assert_int_equal(values_apply(s->s, t, tree, v, V_TEXTS), 0);
		assert_int_equal(mdb_stat(t->t, s->e->main->dbi[MNO_DB_VALUES], &st), 0);
		assert_int_equal(st.ms_entries, 0); /* all nodes went */
		assert_int_equal(mno_store_commit(s->e, t), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_sparse),
		T(test_sets),
		T(test_lists),
		T(test_texts),
	};

	return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
