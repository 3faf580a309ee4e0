/* SPDX-License-Identifier: Apache-2.0 */
/* A store with documents that lives as long as a test. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "../../support/tmpstate.h"
#include "mno/arena.h"
#include "mno/docs.h"
#include "mno/err.h"

struct rig {
	struct tmpstate tmp;
	struct mno_store *s;
	struct mno_docs *d;
	struct mno_docs_opts opts;
	bool plain;
	struct mno_docs_error err;
};

static inline void rig_open(struct rig *r)
{
	const struct mno_store_opts o = {.sz = sizeof(o), .plain = r->plain, .floor_bytes = 1};

	r->opts.sz = sizeof(r->opts);
	assert_int_equal(mno_store_open(r->tmp.dir, &o, &r->s), 0);
	assert_int_equal(mno_docs_open(r->s, &r->opts, &r->d), 0);
}

static inline void rig_close(struct rig *r)
{
	r->d = mno_docs_close(r->d);
	r->s = mno_store_close(r->s);
}

static inline void rig_new(struct rig *r)
{
	tmpstate_new(&r->tmp);
	rig_open(r);
}

static inline void rig_done(struct rig *r)
{
	rig_close(r);
	tmpstate_done(&r->tmp);
}

static inline void rig_reopen(struct rig *r)
{
	rig_close(r);
	rig_open(r);
}

static inline struct mno_doc_op put_op(const char *coll, const char *id, const char *json)
{
	return (struct mno_doc_op){.verb = MNO_DOC_PUT,
		.ns = "test",
		.coll = coll,
		.id = id,
		.id_len = strlen(id),
		.kind = MNO_DOC_JSON,
		.value = json,
		.len = strlen(json)};
}

static inline int rig_apply(struct rig *r, struct mno_doc_op op, uint64_t *ret_version)
{
	struct mno_doc_result res = {0};
	int e = mno_docs_apply(r->d, &op, 1, &res, &r->err);

	if (ret_version)
		*ret_version = res.version;
	return e;
}

static inline int rig_put(struct rig *r, const char *coll, const char *id, const char *json)
{
	return rig_apply(r, put_op(coll, id, json), NULL);
}

static inline int rig_delete(struct rig *r, const char *coll, const char *id)
{
	struct mno_doc_op op = put_op(coll, id, "");

	op.verb = MNO_DOC_DELETE;
	return rig_apply(r, op, NULL);
}

/* The text of a document, or NULL: valid until the next call with the same buffer. */
static inline const char *rig_get(
	struct rig *r, const char *coll, const char *id, struct mno_buf *b)
{
	struct mno_doc doc;
	int e = mno_docs_get(r->d, "test", coll, id, strlen(id), b, &doc);

	if (e == -ENOENT)
		return NULL;
	assert_int_equal(e, 0);
	mno_buf_cstr(b);
	return doc.value;
}

static inline void rig_work(struct rig *r)
{
	int e;

	do
		e = mno_docs_work(r->d);
	while (e == 1);
	assert_int_equal(e, 0);
}

static inline void rig_fault(void *arg, const char *fault)
{
	print_message("fault: %s\n", fault);
}

static inline void rig_check(struct rig *r, uint64_t docs)
{
	uint64_t n = 0, faults = 0;

	assert_int_equal(mno_docs_check(r->d, 0, rig_fault, NULL, &n, &faults), 0);
	assert_int_equal(faults, 0);
	assert_int_equal(n, docs);
}

/* Ids of what @where... finds, joined by blanks, following cursors. @page: limit of one answer. */
struct rig_found {
	char ids[8192];
	char index[MNO_DOC_NAME_MAX + 1];
	uint64_t scanned, damaged;
	double building;
	size_t n;
};
static inline int rig_found_add(void *arg, const struct mno_doc *doc)
{
	struct rig_found *f = arg;
	size_t at = strlen(f->ids);

	f->n++;
	snprintf(f->ids + at, sizeof(f->ids) - at, "%s%.*s", at ? " " : "", (int)doc->id_len,
		(const char *)doc->id);
	return 0;
}

static inline int rig_find(struct rig *r, const char *coll, const char *const *where, size_t n,
	size_t page, struct rig_found *ret)
{
	struct mno_doc_cond conds[8];
	struct mno_docs_query q = {
		.ns = "test", .coll = coll, .conds = conds, .n_conds = n, .limit = page};
	struct mno_docs_found f = {.cursor = ""};
	char cursor[MNO_DOC_CURSOR_MAX] = "";
	struct mno_arena *a;
	int e = mno_arena_new(1 << 20, &a);

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < n && e == 0; i++)
		e = mno_docs_where(a, where[i], strlen(where[i]), &conds[i], &r->err);
	do {
		q.cursor = cursor;
		if (e == 0)
			e = mno_docs_find(r->d, &q, rig_found_add, ret, &f, &r->err);
		if (e)
			break;
		if (!*cursor)
			strcpy(ret->index, f.index);
		ret->scanned += f.scanned;
		ret->damaged += f.damaged;
		ret->building = f.building;
		strcpy(cursor, f.cursor);
	} while (*cursor);
	mno_arena_free(a);
	return e;
}
