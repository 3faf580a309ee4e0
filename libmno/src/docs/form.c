/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another form of documents: in steps of a few milliseconds between other writers, from a place
 * that is kept with each step. Copying keeps each old value in DOC_OLD; checking compares all
 * documents with those; undoing puts back what is there, and what was written since in the old
 * form. A writer takes away the old value of what it changes: so a pair in DOC_OLD is always the
 * same document as its pair in DOC, which is checked.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include "form.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/store_clock.h"
#include "mno/time.h"
#include "mno/util.h"

#define FLOOR_DEFAULT (256ULL << 20)
#define NEED_FIXED    (4ULL << 20)

static const char *const stage_names[MNO_DOCS_FORM_STAGES] = {"none", "needed", "copying",
	"checking", "done", "undoing", "undoing", "undone", "confirming"};

const char *mno_docs_form_stage_name(enum mno_docs_form_stage s)
{
	return s < MNO_DOCS_FORM_STAGES ? stage_names[s] : "?";
}

/* --- where it is: row DOCS_META_FORM -------------------------------------------------------------- */

/* The row, or its copy. */
static int place_row(struct mno_docs *d, MDB_txn *t, struct mno_buf *row)
{
	int r = docs_meta_get(d, t, DOCS_META_FORM, 0, row);

	if (r != -MNO_ECORRUPT && r != -MNO_EVERSION)
		return r;
	r = docs_meta_get(d, t, docs_meta_copy(DOCS_META_FORM), 0, row);
	/* there may be no copy yet; and of a newer form than this store's no row can be */
	return r == -MNO_EVERSION || r == -ENOENT ? -MNO_ECORRUPT : r;
}

static int place_get(struct mno_docs *d, MDB_txn *t, struct place *ret)
{
	_cleanup_buf_ struct mno_buf row = {0};
	int r = place_row(d, t, &row);
	struct mno_reader in;

	*ret = (struct place){0};
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	in = (struct mno_reader){
		(const uint8_t *)row.data, (const uint8_t *)row.data + row.len, false};
	for (unsigned i = 0; i < F_MAX; i++)
		ret->v[i] = mno_read_varint(&in);
	ret->len = mno_reader_left(&in);
	if (in.bad || ret->len > sizeof(ret->key) || ret->v[F_STAGE] >= MNO_DOCS_FORM_STAGES ||
		ret->v[F_FROM] < DOCS_FORM_1 || ret->v[F_FROM] >= ret->v[F_TO])
		return -MNO_ECORRUPT;
	if (ret->v[F_TO] > DOCS_FORM)
		return -MNO_EVERSION;
	memcpy(ret->key, in.p, ret->len);
	return 0;
}

static int place_put(struct mno_docs_txn *t, const struct place *p)
{
	_cleanup_buf_ struct mno_buf row = {0};

	for (unsigned i = 0; i < F_MAX; i++)
		mno_varint_add(&row, p->v[i]);
	mno_buf_add(&row, p->key, p->len);
	return docs_meta_put(t->d, t->t, DOCS_META_FORM, 0, &row);
}

static void next_stage(struct place *p, enum mno_docs_form_stage stage)
{
	p->v[F_STAGE] = stage;
	p->v[F_DONE] = 0;
	p->len = 0;
}

static uint64_t entries(struct mno_docs *d, MDB_txn *t, enum mno_db db, uint64_t *ret_bytes)
{
	MDB_stat s;

	if (mdb_stat(t, d->e->dbi[db], &s))
		return 0;
	if (ret_bytes)
		*ret_bytes = (s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages) *
			     (uint64_t)s.ms_psize;
	return s.ms_entries;
}

/* Counters and what is there: with nothing being emptied they agree. */
static int check_counts(struct pass *q)
{
	const struct docs_cat *c = q->t->cat;
	uint64_t docs = 0;
	struct docs_usage u;
	bool dropping = false;
	int r = 0;

	for (size_t i = 0; i < c->n_coll && r == 0; i++) {
		dropping |= c->coll[i].dropping;
		r = docs_usage_get(q->t->d, q->t->t, c->coll[i].id, &u);
		docs += r == 0 ? u.docs : 0;
	}
	if (r < 0)
		return r;
	if (q->p->v[F_STALE] > q->p->v[F_DAMAGED])
		return -MNO_ECORRUPT;
	return dropping || docs == entries(q->t->d, q->t->t, MNO_DB_DOC, NULL) ? 0 : -MNO_ECORRUPT;
}

static int end_of_copying(struct pass *q)
{
	next_stage(q->p, MNO_DOCS_FORM_CHECKING);
	q->p->v[F_STALE] = 0;
	return place_put(q->t, q->p);
}

static int end_of_checking(struct pass *q)
{
	int r = check_counts(q);

	if (r < 0)
		return r;
	next_stage(q->p, MNO_DOCS_FORM_DONE);
	q->p->v[F_ENDED] = (uint64_t)q->t->now_ms;
	return place_put(q->t, q->p);
}

static int end_of_undoing(struct pass *q)
{
	next_stage(q->p, MNO_DOCS_FORM_CLEARING);
	return place_put(q->t, q->p);
}

static int end_of_clearing(struct pass *q)
{
	q->t->state.old_seq = 0;
	next_stage(q->p, MNO_DOCS_FORM_UNDONE);
	if (q->p->v[F_FROM] == DOCS_FORM_1) {
		int r = mno_env_format_put(q->t->d->e, q->t->t, MNO_STORE_FORMAT);

		if (r < 0)
			return r;
	}
	return place_put(q->t, q->p);
}

static int end_of_confirming(struct pass *q)
{
	q->t->state.old_seq = 0;
	return docs_meta_del(q->t->d, q->t->t, DOCS_META_FORM, 0);
}

static const struct {
	int (*doc)(struct pass *q); /* NULL: DOC_OLD is emptied */
	int (*end)(struct pass *q);
	bool grows;
} stages[MNO_DOCS_FORM_STAGES] = {
	[MNO_DOCS_FORM_COPYING] = {form_copy_doc, end_of_copying, true},
	[MNO_DOCS_FORM_CHECKING] = {form_check_doc, end_of_checking, false},
	[MNO_DOCS_FORM_UNDOING] = {form_undo_doc, end_of_undoing, false},
	[MNO_DOCS_FORM_CLEARING] = {NULL, end_of_clearing, false},
	[MNO_DOCS_FORM_CONFIRMING] = {NULL, end_of_confirming, false},
};

static int form_step(void *arg, struct mno_docs_txn *t)
{
	struct docs_step *s = arg;
	struct place p;
	struct pass q = {.t = t, .p = &p};
	int r = place_get(t->d, t->t, &p);

	s->more = true;
	if (r < 0 || !stages[p.v[F_STAGE]].end)
		return r;
	t->unmetered = true;
	r = stages[p.v[F_STAGE]].doc ? form_walk(&q, stages[p.v[F_STAGE]].doc) : form_clear(&q);
	if (r == 0)
		r = stages[p.v[F_STAGE]].end(&q);
	else if (r == 1)
		r = place_put(t, &p);
	mno_buf_done(&q.value);
	mno_buf_done(&q.other);
	return r;
}

/* --- beginning and ending -------------------------------------------------------------------------- */

static int begin_step(void *arg, struct mno_docs_txn *t)
{
	struct docs_step *s = arg;
	struct place p = {.v = {[F_STAGE] = MNO_DOCS_FORM_COPYING,
				  [F_FROM] = t->state.form,
				  [F_TO] = DOCS_FORM,
				  [F_TOTAL] = entries(t->d, t->t, MNO_DB_DOC, NULL),
				  [F_BEGAN] = (uint64_t)t->now_ms}};
	int r;

	s->more = true;
	if (t->state.form == DOCS_FORM)
		return 0;
	/* from now on an older version would find what it cannot read */
	r = mno_env_format_put(t->d->e, t->t, mno_env_format_newest(MNO_CLASS_DOCS));
	t->state.form = DOCS_FORM;
	t->state.old_seq = t->state.next_seq;
	return r < 0 ? r : place_put(t, &p);
}

/*
 * Where it was is lost: each stage is one that may be done again, so it begins with the first in
 * the direction that the documents' own state tells. What was damaged is counted again.
 */
static int restart_step(void *arg, struct mno_docs_txn *t)
{
	struct docs_step *s = arg;
	bool forth = t->state.form == DOCS_FORM;
	struct place p;
	int r = place_get(t->d, t->t, &p);

	s->more = true;
	if (r != -MNO_ECORRUPT)
		return r;
	p = (struct place){.v = {[F_STAGE] = forth ? MNO_DOCS_FORM_COPYING : MNO_DOCS_FORM_UNDOING,
				   [F_FROM] = DOCS_FORM_1,
				   [F_TO] = DOCS_FORM,
				   [F_TOTAL] = entries(t->d, t->t, MNO_DB_DOC, NULL),
				   [F_BEGAN] = (uint64_t)t->now_ms}};
	mno_err("documents: how far their migration was cannot be read: it %s from the beginning",
		forth ? "is done again" : "is taken back");
	t->state.old_seq = t->state.next_seq;
	r = mno_env_format_put(t->d->e, t->t, mno_env_format_newest(MNO_CLASS_DOCS));
	return r < 0 ? r : place_put(t, &p);
}
_Static_assert(DOCS_FORM == DOCS_FORM_1 + 1, "restart_step(): from which form is lost, too");

static int go_back(struct mno_docs_txn *t, struct place *p, bool failed)
{
	t->state.form = (unsigned)p->v[F_FROM];
	p->v[F_FAILED] = failed;
	p->v[F_TOTAL] = entries(t->d, t->t, MNO_DB_DOC, NULL);
	next_stage(p, MNO_DOCS_FORM_UNDOING);
	return place_put(t, p);
}

static int confirm(struct mno_docs_txn *t, struct place *p)
{
	p->v[F_TOTAL] = entries(t->d, t->t, MNO_DB_DOC_OLD, NULL);
	next_stage(p, MNO_DOCS_FORM_CONFIRMING);
	return place_put(t, p);
}

static int auto_confirm(void *arg, struct mno_docs_txn *t)
{
	struct docs_step *s = arg;
	struct place p;
	int r = place_get(t->d, t->t, &p);

	s->more = true;
	return r == 0 && p.v[F_STAGE] == MNO_DOCS_FORM_DONE ? confirm(t, &p) : r;
}

static int fail_step(void *arg, struct mno_docs_txn *t)
{
	struct place p;
	int r = place_get(t->d, t->t, &p);

	if (r < 0)
		return r;
	return p.v[F_STAGE] == MNO_DOCS_FORM_COPYING || p.v[F_STAGE] == MNO_DOCS_FORM_CHECKING
		       ? go_back(t, &p, true)
		       : -ENOENT;
}

bool docs_form_failed(struct mno_docs *d, int r)
{
	if (r != -MNO_ECORRUPT || docs_submit(d, fail_step, NULL, true, NULL) < 0)
		return false;
	mno_err("documents: their new form is not the same as the old one: the migration is "
		"undone");
	return true;
}

static uint64_t room(struct mno_docs *d)
{
	uint64_t floor_bytes = d->store->opts.floor_bytes, avail;
	struct statvfs v;

	if (fstatvfs(d->store->dir_fd, &v) < 0)
		return 0;
	avail = (uint64_t)v.f_bavail * v.f_frsize;
	if (!floor_bytes)
		floor_bytes = MNO_MIN(FLOOR_DEFAULT, (uint64_t)v.f_blocks * v.f_frsize / 20);
	return avail - MNO_MIN(avail, floor_bytes);
}

static uint64_t need(struct mno_docs *d, MDB_txn *t)
{
	uint64_t bytes = 0;

	entries(d, t, MNO_DB_DOC, &bytes);
	return bytes + bytes / 4 + NEED_FIXED;
}

/* Old forms beside new ones: that there is room is known before. */
static bool may_begin(struct mno_docs *d, MDB_txn *t)
{
	uint64_t want = need(d, t), is = room(d);
	char a[16], b[16];

	if (is >= want)
		return true;
	if (!d->form_told)
		mno_warn("documents: they are of an older form, and stay so for want of room: %s "
			 "of free disk are needed, there are %s",
			mno_human_bytes((double)want, a, sizeof(a)),
			mno_human_bytes((double)is, b, sizeof(b)));
	d->form_told = true;
	return false;
}

static void tell_stage(struct mno_docs *d, const struct place *p)
{
	char n[16];
	uint64_t stage = p->v[F_STAGE];

	if (d->form_stage == stage)
		return;
	d->form_at = p->v[F_DONE];
	d->form_ns = mno_now_ns(CLOCK_MONOTONIC);
	d->form_stage = stage;
	if (stage != MNO_DOCS_FORM_NONE && stage != MNO_DOCS_FORM_CLEARING)
		mno_info("documents: migration from form %llu to %llu: %s, %s documents, %llu of "
			 "them damaged",
			(unsigned long long)p->v[F_FROM], (unsigned long long)p->v[F_TO],
			stage_names[stage], mno_human_count((double)p->v[F_TOTAL], n, sizeof(n)),
			(unsigned long long)p->v[F_DAMAGED]);
}

docs_step_fn docs_form_due(struct mno_docs *d, MDB_txn *t, struct docs_step *s)
{
	struct docs_state state;
	struct place p;
	uint64_t stage;
	int r;

	if (docs_state_get(d, t, &state) < 0)
		return NULL;
	r = place_get(d, t, &p);
	if (r < 0)
		return r == -MNO_ECORRUPT ? restart_step : NULL;
	tell_stage(d, &p);
	stage = p.v[F_STAGE];
	s->grows = stages[stage].grows;
	if (stages[stage].end)
		return form_step;
	if (stage == MNO_DOCS_FORM_DONE &&
		mno_store_now_ms(d->e->store) - (int64_t)p.v[F_ENDED] > MNO_DOCS_FORM_KEEP_MS)
		return auto_confirm;
	if (stage != MNO_DOCS_FORM_NONE || state.form == DOCS_FORM || !may_begin(d, t))
		return NULL;
	s->grows = true;
	return begin_step;
}

static int want_run(struct mno_docs_txn *t, struct place *p)
{
	return p->v[F_STAGE] == MNO_DOCS_FORM_UNDONE ? docs_meta_del(t->d, t->t, DOCS_META_FORM, 0)
						     : -ENOENT;
}

static int want_undo(struct mno_docs_txn *t, struct place *p)
{
	bool can = p->v[F_STAGE] >= MNO_DOCS_FORM_COPYING && p->v[F_STAGE] <= MNO_DOCS_FORM_DONE;

	return can ? go_back(t, p, false) : -ENOENT;
}

static int want_confirm(struct mno_docs_txn *t, struct place *p)
{
	return p->v[F_STAGE] == MNO_DOCS_FORM_DONE ? confirm(t, p) : -ENOENT;
}

static int want_step(void *arg, struct mno_docs_txn *t)
{
	static int (*const fns[])(struct mno_docs_txn * t, struct place * p) = {
		[MNO_DOCS_FORM_RUN] = want_run,
		[MNO_DOCS_FORM_UNDO] = want_undo,
		[MNO_DOCS_FORM_CONFIRM] = want_confirm};
	const enum mno_docs_form_want *want = arg;
	struct place p;
	int r = place_get(t->d, t->t, &p);

	return r < 0 ? r : fns[*want](t, &p);
}

int mno_docs_form_want(struct mno_docs *d, enum mno_docs_form_want want)
{
	int r;

	if (want > MNO_DOCS_FORM_CONFIRM)
		return -EINVAL;
	r = docs_submit(d, want_step, &want, true, NULL);
	if (r == 0)
		docs_committed(d, 0, true); /* the worker looks at once */
	return r;
}

/* --- how far it is --------------------------------------------------------------------------------- */

static void estimate(struct mno_docs *d, const struct place *p, struct mno_docs_form *ret)
{
	uint64_t ns = mno_now_ns(CLOCK_MONOTONIC) - d->form_ns, at = d->form_at, left;

	ret->remaining_ms = -1;
	if (!stages[ret->stage].end || d->form_stage != ret->stage || ret->done <= at || !ns)
		return;
	ret->rate = (double)(ret->done - at) * 1e9 / (double)ns;
	left = ret->total - MNO_MIN(ret->done, ret->total);
	if (ret->stage == MNO_DOCS_FORM_COPYING) /* then they are compared */
		left += ret->total;
	ret->remaining_ms = (int64_t)((double)left * 1e3 / ret->rate);
}

static void fill(const struct place *p, struct mno_docs_form *ret)
{
	ret->stage = (enum mno_docs_form_stage)p->v[F_STAGE];
	ret->from = (unsigned)p->v[F_FROM];
	ret->to = (unsigned)p->v[F_TO];
	ret->done = p->v[F_DONE];
	ret->total = p->v[F_TOTAL];
	ret->damaged = p->v[F_DAMAGED];
	ret->failed = p->v[F_FAILED];
	ret->began_ms = (int64_t)p->v[F_BEGAN];
	ret->done_ms = (int64_t)p->v[F_ENDED];
	if (ret->stage == MNO_DOCS_FORM_DONE)
		ret->keep_until_ms = ret->done_ms + MNO_DOCS_FORM_KEEP_MS;
}

int mno_docs_form(struct mno_docs *d, struct mno_docs_form *ret)
{
	struct mno_docs_form f = {0};
	struct docs_state state;
	struct place p;
	MDB_txn *t;
	int r = mno_read_begin(d->e, &t);

	if (r < 0)
		return r;
	r = docs_state_get(d, t, &state);
	if (r == 0)
		r = place_get(d, t, &p);
	if (r == 0) {
		fill(&p, &f);
		entries(d, t, MNO_DB_DOC_OLD, &f.old_bytes);
		if (!f.stage) {
			f.from = state.form;
			f.to = DOCS_FORM;
			f.stage = f.from < f.to ? MNO_DOCS_FORM_NEEDED : MNO_DOCS_FORM_NONE;
			f.total = entries(d, t, MNO_DB_DOC, NULL);
			f.need_bytes = f.stage ? need(d, t) : 0;
		}
	}
	mno_read_end(d->e, t);
	if (r < 0)
		return r;
	f.name = form_name(f.from);
	f.free_bytes = room(d);
	estimate(d, &p, &f);
	*ret = f;
	return 0;
}
