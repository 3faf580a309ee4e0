/* SPDX-License-Identifier: Apache-2.0 */
/* Records into the label index and out of it, in batches sorted by list. */
#include <errno.h>
#include <inttypes.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "series_internal.h"

#define STATE_KEY     "series_index"
#define INDEX_VERSION 1u
#define BATCH_SERIES  1024u      /* few lists are common to all: each is written once for a batch */
#define BATCH_BYTES   (1u << 20) /* of label text; one series may exceed it */

/* --- batches -------------------------------------------------------------------------------------- */

/* One id of one list. */
struct pair {
	uint8_t fp[FP_BYTES];
	uint32_t id;
	const char *name, *value; /* as in label_fp() */
};
/* A text that appeared in, or vanished from, the values of @name (NULL: from the names). */
struct change {
	const char *name;
	struct value_edit edit;
};
/* A key without the room that parsing needs. */
struct batch_key {
	size_t n;
	struct key_label *v;
	char *text;
};
struct index_batch {
	struct mno_series *s;
	struct batch_key *keys;
	uint32_t *ids;
	size_t n, cap, bytes;
	struct pair *pairs;
	size_t n_pairs;
	struct change *changes;
	size_t n_changes;
};

struct index_batch *index_batch_new(struct mno_series *s)
{
	struct index_batch *b = calloc(1, sizeof(*b));

	if (b)
		b->s = s;
	return b;
}

static void batch_clear(struct index_batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		free(b->keys[i].v);
		free(b->keys[i].text);
	}
	free(b->pairs);
	free(b->changes);
	b->pairs = NULL;
	b->changes = NULL;
	b->n = b->bytes = b->n_pairs = b->n_changes = 0;
}

struct index_batch *index_batch_free(struct index_batch *b)
{
	if (!b)
		return NULL;
	batch_clear(b);
	free(b->keys);
	free(b->ids);
	free(b);
	return NULL;
}

int index_batch_add(struct index_batch *b, uint32_t id, struct key_labels *k)
{
	struct key_label *v;

	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 16;
		struct batch_key *keys = reallocarray(b->keys, cap, sizeof(*keys));
		uint32_t *ids;

		if (!keys)
			return -ENOMEM;
		b->keys = keys;
		ids = reallocarray(b->ids, cap, sizeof(*ids));
		if (!ids)
			return -ENOMEM;
		b->ids = ids;
		b->cap = cap;
	}
	v = malloc(k->n * sizeof(*v));
	if (!v)
		return -ENOMEM;
	memcpy(v, k->v, k->n * sizeof(*v));
	for (size_t i = 0; i < k->n; i++)
		b->bytes += strlen(k->v[i].name) + strlen(k->v[i].value) + 2;
	b->n_pairs += 2 * k->n + 1;
	b->ids[b->n] = id;
	b->keys[b->n++] = (struct batch_key){k->n, v, k->text};
	k->text = NULL;
	k->n = 0;
	return 0;
}

size_t index_batch_size(const struct index_batch *b)
{
	return b->bytes;
}

static int by_list(const void *pa, const void *pb)
{
	const struct pair *a = pa, *b = pb;
	int c = memcmp(a->fp, b->fp, FP_BYTES);

	return c ? c : (a->id > b->id) - (a->id < b->id);
}

static int make_pairs(struct index_batch *b)
{
	struct pair *p = b->pairs = calloc(b->n_pairs, sizeof(*p));

	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++) {
		const struct batch_key *k = &b->keys[i];

		*p++ = (struct pair){.id = b->ids[i]};
		for (size_t j = 0; j < k->n; j++) {
			*p++ = (struct pair){.id = b->ids[i], .name = k->v[j].name};
			*p++ = (struct pair){{0}, b->ids[i], k->v[j].name, k->v[j].value};
		}
	}
	for (size_t i = 0; i < b->n_pairs; i++)
		label_fp(b->s, b->pairs[i].name, b->pairs[i].value, b->pairs[i].fp);
	qsort(b->pairs, b->n_pairs, sizeof(*b->pairs), by_list);
	b->changes = calloc(b->n_pairs, sizeof(*b->changes));
	return b->changes ? 0 : -ENOMEM;
}

static void note_change(struct index_batch *b, const struct pair *p, bool del)
{
	const char *text = p->value ? p->value : p->name;

	if (!text) /* the list of all */
		return;
	b->changes[b->n_changes++] = (struct change){
		p->value ? p->name : NULL, {.text = text, .len = strlen(text), .del = del}};
}

/* Pairs [0, n) of one list. */
static int apply_list(struct index_batch *b, struct mno_txn *txn, const struct pair *p, size_t n,
	bool del, struct id_set *set)
{
	bool was, is;
	int r = 0;

	set->n = 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = set_add(set, p[i].id / GROUP_SERIES, 1ULL << (p[i].id % GROUP_SERIES));
	if (r == 0)
		r = posting_apply(b->s, txn, p->fp, set, del, &was, &is);
	if (r == 0 && was != is)
		note_change(b, p, !is);
	return r;
}

static int by_tree(const void *pa, const void *pb)
{
	const struct change *a = pa, *b = pb;
	int c = a->name && b->name ? strcmp(a->name, b->name)
				   : (a->name != NULL) - (b->name != NULL);

	return c ? c : strcmp(a->edit.text, b->edit.text);
}

static bool same_tree(const struct change *a, const struct change *b)
{
	return a->name && b->name ? strcmp(a->name, b->name) == 0 : a->name == b->name;
}

static int apply_changes(struct index_batch *b, struct mno_txn *txn)
{
	_cleanup_free_ struct value_edit *v = calloc(b->n_changes + 1, sizeof(*v));
	uint8_t tree[FP_BYTES];
	int r = 0;

	if (!v)
		return -ENOMEM;
	if (b->n_changes)
		qsort(b->changes, b->n_changes, sizeof(*b->changes), by_tree);
	for (size_t i = 0, n; i < b->n_changes && r == 0; i += n) {
		for (n = 0; i + n < b->n_changes && same_tree(&b->changes[i], &b->changes[i + n]);
			n++)
			v[n] = b->changes[i + n].edit;
		label_fp(b->s, b->changes[i].name, NULL, tree);
		r = values_apply(b->s, txn, tree, v, n);
	}
	return r;
}

int index_batch_apply(struct index_batch *b, struct mno_txn *txn, bool del)
{
	_cleanup_(set_done)
	struct id_set set = {0};
	int r = b->n ? make_pairs(b) : 0;

	for (size_t i = 0, n; b->n && i < b->n_pairs && r == 0; i += n) {
		for (n = 1; i + n < b->n_pairs &&
			    memcmp(b->pairs[i].fp, b->pairs[i + n].fp, FP_BYTES) == 0;
			n++)
			;
		r = apply_list(b, txn, &b->pairs[i], n, del, &set);
	}
	if (r == 0)
		r = apply_changes(b, txn);
	batch_clear(b);
	return r;
}

/* --- following the dictionary ----------------------------------------------------------------- */

int index_state_get(struct mno_series *s, MDB_txn *t, struct index_state *ret)
{
	MDB_val k = {strlen(STATE_KEY), (void *)STATE_KEY}, v;
	_cleanup_buf_ struct mno_buf raw = {0};
	struct mno_seal info;
	int r = mno_lmdb_error(mdb_get(t, s->env->main->dbi[MNO_DB_META], &k, &v));

	*ret = (struct index_state){.version = INDEX_VERSION, .next = 1};
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = mno_seal_open(s->env->main, MNO_DB_META, NULL, k.mv_data, k.mv_size, v.mv_data,
		v.mv_size, MNO_SEAL_META, &info, &raw);
	if (r == -ENOMEM || r == -ENOKEY)
		return r;
	if (r == 0 && raw.len == sizeof(*ret))
		memcpy(ret, raw.data, sizeof(*ret));
	else
		ret->version = 0;
	/* damaged, or of another version: nothing in it counts */
	if (ret->version != INDEX_VERSION || ret->next == 0)
		*ret = (struct index_state){.version = 0, .next = 1};
	return 0;
}

static int state_put(struct mno_series *s, struct mno_txn *txn, uint64_t next)
{
	struct index_state st = {.version = INDEX_VERSION, .next = next};
	struct mno_seal info = {.kind = MNO_SEAL_META};

	__atomic_store_n(&s->indexed, next, __ATOMIC_RELAXED);
	return mno_seal_put(
		txn, MNO_DB_META, STATE_KEY, strlen(STATE_KEY), &info, &st, sizeof(st), NULL);
}

void index_damaged(struct mno_series *s, const char *what)
{
	s->env->damaged++;
	__atomic_fetch_add(&s->damaged_lists, 1, __ATOMIC_RELAXED);
	if (!__atomic_exchange_n(&s->index_bad, true, __ATOMIC_RELAXED))
		mno_err("series: the label index is damaged (%s): it is made anew from the "
			"records, "
			"which are searched one by one meanwhile",
			what);
}

int index_reset(struct mno_series *s, struct mno_txn *txn)
{
	static const enum mno_db dbs[] = {MNO_DB_POSTING, MNO_DB_VALUES, MNO_DB_SPAN};

	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++) {
		int r = mno_txn_error(txn, mdb_drop(txn->t, s->env->main->dbi[dbs[i]], 0));

		if (r < 0)
			return r;
	}
	return state_put(s, txn, 1);
}

static int take_record(struct mno_series *s, struct mno_txn *txn, const struct records *g,
	unsigned col, struct mno_buf *raw, struct index_batch *b)
{
	_cleanup_(key_labels_done)
	struct key_labels labels = {0};
	struct record rec;
	int r = records_key(s, txn->t, s->z, g, col, raw, &rec);

	if (r == 0)
		r = key_parse(rec.key, rec.len, &labels);
	if (r == 0)
		r = index_batch_add(b, g->no * GROUP_SERIES + col, &labels);
	if (r == 0 && rec.last_ms != INT64_MAX)
		r = span_widen(s, txn, g->no, rec.first_ms, rec.last_ms);
	/* a damaged record is lost with its series: it has no labels to be found by */
	return r == -MNO_ECORRUPT || r == -EINVAL ? 0 : r;
}

/* Records from id *@next on, until the batch is full; *@next goes on behind the last. */
static int take_records(
	struct mno_series *s, struct mno_txn *txn, struct index_batch *b, uint64_t *next)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	_cleanup_(records_done)
	struct records g = {0};
	int r = records_sync(s, txn);

	while (r == 0 && b->n < BATCH_SERIES && b->bytes < BATCH_BYTES) {
		uint32_t no = (uint32_t)(*next / GROUP_SERIES);
		uint64_t left;

		r = records_next(s, txn->t, &no);
		if (r == 0)
			r = records_load(s, txn->t, s->z, no, &g);
		if (r < 0)
			break;
		left = records_all(&g);
		if (no == *next / GROUP_SERIES)
			left &= UINT64_MAX << (*next % GROUP_SERIES);
		for (; left && r == 0 && b->bytes < BATCH_BYTES; left &= left - 1) {
			unsigned col = (unsigned)__builtin_ctzll(left);

			r = take_record(s, txn, &g, col, &raw, b);
			*next = (uint64_t)no * GROUP_SERIES + col + 1;
		}
		if (!left)
			*next = ((uint64_t)no + 1) * GROUP_SERIES;
	}
	*next = r == -ENOENT ? s->now.next_id : MNO_MIN(*next, s->now.next_id);
	return r == -ENOENT ? 0 : r;
}

static int step(struct mno_series *s, struct mno_txn *txn, struct index_batch *b, uint64_t *next)
{
	int r = take_records(s, txn, b, next);

	if (r == 0)
		r = index_batch_apply(b, txn, false);
	return r < 0 ? r : state_put(s, txn, *next);
}

int index_step(struct mno_series *s, struct mno_txn *txn, uint64_t min, uint64_t budget_ns)
{
	_cleanup_(index_batch_free_p)
	struct index_batch *b = NULL;
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + budget_ns;
	struct index_state st;
	int r;

	if (__atomic_exchange_n(&s->index_bad, false, __ATOMIC_RELAXED)) {
		r = index_reset(s, txn);
		if (r < 0)
			return r;
	}
	r = index_state_get(s, txn->t, &st);
	if (r == 0 && st.version == 0)
		r = index_reset(s, txn);
	__atomic_store_n(&s->indexed, st.next, __ATOMIC_RELAXED);
	if (r < 0 || s->now.next_id < st.next + min)
		return r;
	b = index_batch_new(s);
	if (!b)
		return -ENOMEM;
	while (r == 0 && st.next < s->now.next_id) {
		r = step(s, txn, b, &st.next);
		if (budget_ns && mno_now_ns(CLOCK_MONOTONIC) >= end)
			break;
	}
	if (r != -MNO_ECORRUPT)
		return r;
	index_damaged(s, "a list");
	return index_reset(s, txn);
}

int dict_rebuild(struct mno_series *s)
{
	bool first = true, more = true;
	int r = 0;

	while (r == 0 && more) {
		struct index_state st;
		struct mno_txn *txn;

		r = mno_store_begin(s->env, &txn);
		if (r < 0)
			return r;
		if (first)
			r = index_reset(s, txn);
		first = false;
		if (r == 0)
			r = index_step(s, txn, 1, 50 * NS_PER_MS);
		if (r == 0)
			r = index_state_get(s, txn->t, &st);
		if (r < 0) {
			mno_store_abort(s->env, txn);
			return r;
		}
		more = st.next < s->now.next_id;
		r = mno_store_commit(s->env, txn);
	}
	return r;
}
