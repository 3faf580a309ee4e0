/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents of form 1 below the load of fault_load.h: they are migrated while it writes, taken back
 * and migrated again; and what must hold of them after any cut.
 */
#pragma once

#include "fault_load.h"
#include "mno/map.h"

#define FORM_UNDO_AT  34 /* documents of the load: by then theirs were migrated */
#define FORM_AGAIN_AT 54

/* Two steps of the migration with each write. */
static inline int form_some(struct load *l, int i)
{
	int r = 0;

	if (i == FORM_UNDO_AT)
		r = mno_docs_form_want(l->docs, MNO_DOCS_FORM_UNDO);
	if (i == FORM_AGAIN_AT)
		r = mno_docs_form_want(l->docs, MNO_DOCS_FORM_RUN);
	for (int k = 0; k < 2 && r >= 0; k++)
		r = mno_docs_work(l->docs);
	return r;
}

static inline int form_sum_doc(void *arg, const struct mno_doc *d)
{
	static const uint8_t secret[16] = "documents' sum";
	uint64_t v[5] = {d->version, (uint64_t)d->created_ms, (uint64_t)d->updated_ms, d->kind,
		mno_siphash(secret, d->value, d->len)};

	*(uint64_t *)arg +=
		mno_siphash(secret, v, sizeof(v)) ^ mno_siphash(secret, d->id, d->id_len);
	return 0;
}

/* All documents of the fixture as one number. */
static inline int form_sum(struct mno_docs *d, uint64_t *ret)
{
	static const char *const colls[][2] = {
		{"assets", "hosts"}, {"blobs", "raw"}, {"blobs", "text"}, {"blobs", "numbers"}};
	uint64_t sum = 0;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(colls) && r == 0; i++) {
		struct mno_docs_query q = {.ns = colls[i][0], .coll = colls[i][1], .limit = 1000};
		struct mno_docs_found f;

		r = mno_docs_find(d, &q, form_sum_doc, &sum, &f, NULL);
	}
	*ret = sum;
	return r;
}

static inline int form_same(struct load *l, uint64_t want)
{
	uint64_t sum = 0;
	int r = form_sum(l->docs, &sum);

	return r == 0 && sum != want ? load_wrong("documents are not what they were") : r;
}

/* What a migration may be brought to after a cut; FORM_LEFT leaves it where it is. */
enum form_end { FORM_LEFT, FORM_RESUMED, FORM_UNDONE };

static inline int form_finish(struct load *l, enum form_end end, enum mno_docs_form_stage at)
{
	bool undo = end == FORM_UNDONE && at >= MNO_DOCS_FORM_COPYING && at <= MNO_DOCS_FORM_DONE;
	uint64_t n, faults = 0;
	struct mno_docs_form f;
	int r = undo ? mno_docs_form_want(l->docs, MNO_DOCS_FORM_UNDO) : 0;

	while (r == 0 && (r = mno_docs_work(l->docs)) == 1)
		r = 0;
	if (r == 0)
		r = mno_docs_form(l->docs, &f);
	if (r == 0 && f.failed)
		r = load_wrong("the migration has failed");
	/* undone it is where it was to be, and where a cut fell into the undoing */
	if (r == 0 && f.stage != MNO_DOCS_FORM_DONE && f.stage != MNO_DOCS_FORM_UNDONE)
		r = load_wrong("neither resumed nor undone: %s", mno_docs_form_stage_name(f.stage));
	if (r == 0 && undo != (f.stage == MNO_DOCS_FORM_UNDONE) && at <= MNO_DOCS_FORM_DONE)
		r = load_wrong("%s, found %s", mno_docs_form_stage_name(f.stage),
			mno_docs_form_stage_name(at));
	if (r == 0)
		r = mno_docs_check(l->docs, 0, load_fault, NULL, &n, &faults);
	return r == 0 && faults ? -MNO_ECORRUPT : r;
}

/* The fixture's documents are what they were (@want), also when the migration has come to @end. */
static inline int form_check(
	const char *dir, uint64_t want, enum form_end end, enum mno_docs_form_stage *ret)
{
	struct mno_docs_form f = {0};
	struct load l;
	int r = load_open(&l, dir);

	if (r == 0)
		r = form_same(&l, want);
	if (r == 0)
		r = mno_docs_form(l.docs, &f);
	if (r == 0 && end != FORM_LEFT)
		r = form_finish(&l, end, f.stage);
	if (r == 0 && end != FORM_LEFT)
		r = form_same(&l, want);
	if (r < 0)
		load_wrong("fixture: %s", mno_strerror(r));
	else
		*ret = f.stage;
	load_close(&l);
	return r;
}
