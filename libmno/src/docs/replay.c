/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of a feed made again, with their numbers and times. */
#include <errno.h>
#include "docs_internal.h"
#include "mno/err.h"

struct replay {
	const struct mno_doc_change *c;
	size_t n;
};

static int replay_one(struct mno_docs_txn *t, const struct mno_doc_change *c)
{
	const struct mno_doc_op op = {
		.verb = c->op == MNO_DOC_CHANGE_PUT ? MNO_DOC_PUT : MNO_DOC_DELETE,
		.ns = c->ns,
		.coll = c->coll,
		.id = c->doc.id,
		.id_len = c->doc.id_len,
		.kind = c->doc.kind,
		.value = c->doc.value,
		.len = c->doc.len};
	int r = 0;

	if (t->now_ms != c->time_ms) { /* a chunk of the feed has one time */
		r = docs_feed_flush(t, false);
		t->now_ms = c->time_ms;
	}
	if (r == 0)
		r = c->op >= MNO_DOC_CHANGE_DROP ? docs_replay_admin(t, c)
						 : mno_docs_txn_op(t, &op, NULL);
	if (r == 0 && t->state.next_seq != c->seq + 1)
		r = docs_fail(t->err, -MNO_ECORRUPT,
			"change %llu does not follow from what is stored",
			(unsigned long long)c->seq);
	return r;
}

static int run_replay(void *arg, struct mno_docs_txn *t)
{
	const struct replay *p = arg;
	int r = 0;

	t->unmetered = true;
	for (size_t i = 0; r == 0 && i < p->n; i++) {
		const struct mno_doc_change *c = &p->c[i];

		if (t->err)
			t->err->op = i;
		if (c->seq > t->state.next_seq)
			r = docs_fail(t->err, -MNO_EGONE, "changes %llu to %llu are missing",
				(unsigned long long)t->state.next_seq,
				(unsigned long long)c->seq - 1);
		else if (c->seq == t->state.next_seq)
			r = replay_one(t, c);
	}
	return r;
}

int mno_docs_replay(
	struct mno_docs *d, const struct mno_doc_change *c, size_t n, struct mno_docs_error *err)
{
	struct replay p = {c, n};

	return docs_submit(d, run_replay, &p, true, err);
}
