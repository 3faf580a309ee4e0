/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new data key of the documents: values that an older one sealed are opened and sealed again in
 * the background, some in each transaction, from the place kept in META; when all are done and on
 * disk, the old key is dropped. Damaged values stay: they could not be read before either.
 */
#include <errno.h>
#include <string.h>
#include "../crypt/crypt.h"
#include "docs_crypt.h"
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"

#define PLACE_KEY  "reseal"
#define STEP_BYTES (1u << 20)

static const enum mno_db dbs[] = {MNO_DB_DOC_META, MNO_DB_DOC, MNO_DB_DOC_OLD, MNO_DB_DOC_FEED};

/* In META, followed by the key that was done last. */
struct place {
	uint8_t with, any, pad[6];
	uint64_t done;
};
struct step {
	struct mno_docs *d;
	struct mno_txn *t;
	struct place at;
	struct mno_buf key, val, plain;
	uint8_t now;
	bool end;
};

static int load_place(struct step *q)
{
	const void *p;
	size_t n;
	int r = mno_txn_get(q->t, MNO_DB_META, PLACE_KEY, strlen(PLACE_KEY), &p, &n);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (n < sizeof(q->at))
		return 0; /* from the begin: what is done is only looked at */
	memcpy(&q->at, p, sizeof(q->at));
	mno_buf_add(&q->key, (const char *)p + sizeof(q->at), n - sizeof(q->at));
	if (q->at.with >= ARRAY_SIZE(dbs) || q->key.len > 511) {
		q->at = (struct place){0};
		mno_buf_reset(&q->key);
	}
	return q->key.err;
}

static int save_place(struct step *q)
{
	int r;

	if (q->end) {
		r = mno_txn_del(q->t, MNO_DB_META, PLACE_KEY, strlen(PLACE_KEY));
		return r == -ENOENT ? 0 : r;
	}
	mno_buf_reset(&q->val);
	mno_buf_add(&q->val, &q->at, sizeof(q->at));
	mno_buf_add(&q->val, q->key.data, q->key.len);
	return q->val.err
		       ?: mno_txn_put(q->t, MNO_DB_META, PLACE_KEY, strlen(PLACE_KEY), q->val.data,
				  q->val.len);
}

/* The value in q->val. What is packed stays so: it keeps its size, which is counted. */
static int reseal_value(struct step *q, enum mno_db db)
{
	MDB_val k = {q->key.len, q->key.data}, v = {q->val.len, NULL};
	int r;

	if (q->val.len <= DOCS_HEAD || (uint8_t)q->val.data[DOCS_HEAD] == q->now ||
		(db == MNO_DB_DOC_META && q->key.data[0] == DOCS_META_GEN))
		return 0;
	mno_buf_reset(&q->plain);
	r = docs_crypt_open(q->d, db, q->key.data, q->key.len, q->val.data, q->val.len, &q->plain);
	if (r < 0 || (q->val.data[0] & 15) != docs_crypt_suite(q->d))
		return r == -ENOMEM ? r : 0;
	r = mno_txn_error(q->t, mdb_put(q->t->t, q->d->e->dbi[db], &k, &v, MDB_RESERVE));
	if (r < 0)
		return r;
	memcpy(v.mv_data, q->val.data, DOCS_HEAD);
	q->at.done++;
	return docs_crypt_seal(
		q->d, db, q->key.data, q->key.len, v.mv_data, q->plain.data, q->plain.len);
}

/* Copies the pair behind q->key: a put moves pages. -ENOENT: that was the last. */
static int next_pair(struct step *q, enum mno_db db)
{
	int r = q->at.any ? mno_read_fetch(q->d->e, q->t->t, db, MNO_SEEK_GT, q->key.data,
				    q->key.len, &q->key, &q->val)
			  : mno_read_fetch(
				    q->d->e, q->t->t, db, MNO_SEEK_GE, "", 1, &q->key, &q->val);

	if (r == 0)
		q->at.any = 1;
	return r;
}

static int run(struct step *q)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + DOCS_STEP_NS;

	for (size_t n = 0, bytes = 0; n < DOCS_STEP_DOCS && bytes < STEP_BYTES; n++) {
		enum mno_db db = dbs[q->at.with];
		int r = next_pair(q, db);

		if (r == 0)
			r = reseal_value(q, db);
		if (r == -ENOENT) {
			q->at.any = 0;
			mno_buf_reset(&q->key);
			r = 0;
			if (++q->at.with == ARRAY_SIZE(dbs)) {
				q->end = true;
				break;
			}
		}
		if (r < 0)
			return r;
		bytes += q->val.len;
		if (mno_now_ns(CLOCK_MONOTONIC) > end)
			break;
	}
	return 0;
}

static uint64_t count(struct step *q)
{
	uint64_t n = 0;
	MDB_stat st;

	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++)
		if (mdb_stat(q->t->t, q->d->e->dbi[dbs[i]], &st) == 0)
			n += st.ms_entries;
	return n;
}

static int reseal_step(void *arg, struct mno_txn *t)
{
	struct step *q = arg;
	uint64_t all;
	int r;

	q->t = t;
	q->at = (struct place){0};
	q->end = false;
	mno_buf_reset(&q->key);
	q->now = mno_cipher_current(q->d->e->cipher);
	r = load_place(q);
	if (r == 0)
		r = run(q);
	if (r == 0)
		r = save_place(q);
	all = r == 0 ? count(q) : 0;
	q->d->store->reseal_docs.left = q->end || all < q->at.done ? 0 : all - q->at.done;
	return r;
}

bool docs_reseal_due(struct mno_docs *d)
{
	return d->e->cipher && mno_cipher_count(d->e->cipher) > 1 && !d->store->opts.read_only;
}

static int drop_old(struct mno_docs *d)
{
	struct mno_store *s = d->store;
	int r = mno_env_drop_old_keys(d->e);

	if (r < 0)
		return r;
	d->reseal_end_ns = 0;
	s->reseal_docs.from = false;
	mno_info("docs: %llu values were sealed with the new data key; the old one is gone",
		(unsigned long long)s->reseal_docs.done);
	return 1;
}

int docs_reseal(struct mno_docs *d)
{
	struct mno_store *s = d->store;
	struct step q = {.d = d};
	int r;

	if (d->reseal_end_ns && mno_env_still_read(d->e, d->reseal_end_ns))
		return 0;
	if (d->reseal_end_ns)
		return drop_old(d);
	s->reseal_docs.from = true;
	r = mno_committer_run(d->committer, reseal_step, &q, true);
	mno_buf_done(&q.key);
	mno_buf_done(&q.val);
	mno_buf_done(&q.plain);
	if (r < 0)
		return r;
	s->reseal_docs.done = q.at.done;
	d->reseal_end_ns = q.end ? mno_now_ns(CLOCK_MONOTONIC) : 0;
	return 1;
}
