/* SPDX-License-Identifier: Apache-2.0 */
/* What a document has in the indexes of its collection. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"

#define RAW_FACTOR 2u /* repetitions are taken out when so many times the bound is reached */

void docs_entries_done(struct docs_entries *e)
{
	free(e->v);
	mno_buf_done(&e->bytes);
	mno_buf_done(&e->scratch);
	mno_buf_done(&e->enc);
	*e = (struct docs_entries){0};
}

int docs_entry_compare(
	const struct docs_entries *a, size_t i, const struct docs_entries *b, size_t k)
{
	const struct docs_entry *x = &a->v[i], *y = &b->v[k];

	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	return docs_bytes_compare(docs_entry_bytes(a, i), x->len, docs_entry_bytes(b, k), y->len);
}

static int by_bytes(const void *a, const void *b, void *arg)
{
	const struct docs_entry *x = a, *y = b;
	const char *bytes = arg;

	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	return docs_bytes_compare(bytes + x->off, x->len, bytes + y->off, y->len);
}

static void settle(struct docs_entries *e)
{
	size_t kept = 0;

	if (e->n > 1)
		qsort_r(e->v, e->n, sizeof(*e->v), by_bytes, e->bytes.data);
	for (size_t i = 0; i < e->n; i++)
		if (!kept || docs_entry_compare(e, i, e, kept - 1))
			e->v[kept++] = e->v[i];
	e->n = kept;
}

static int make_room(struct docs_entries *e)
{
	size_t cap = e->cap ? e->cap * 2 : 16;
	struct docs_entry *v;

	if (e->n == RAW_FACTOR * MNO_DOC_MULTI_MAX) {
		settle(e);
		if (e->n > MNO_DOC_MULTI_MAX)
			return docs_fail(e->err, -MNO_ELIMIT,
				"the document has more than %u values in indexes",
				MNO_DOC_MULTI_MAX);
	}
	if (e->n < e->cap)
		return 0;
	v = reallocarray(e->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	e->v = v;
	e->cap = cap;
	return 0;
}

static int add_key(struct docs_entries *e, unsigned index, const struct docs_key *k)
{
	int r = make_room(e);

	if (r < 0)
		return r;
	e->v[e->n++] = (struct docs_entry){(uint32_t)e->bytes.len, k->len, (uint8_t)index};
	mno_buf_add(&e->bytes, k->b, k->len);
	return e->bytes.err;
}

static int add_words(struct docs_entries *e, unsigned index, const struct docs_scalar *v)
{
	const struct docs_cat_index *x = e->coll->idx[index];
	struct docs_words w;
	struct docs_key k;
	int r = 0;

	if (v->type != MNO_DOC_STRING)
		return 0;
	docs_words_begin(&w, v->p, v->n);
	while (r == 0 && docs_words_next(&w)) {
		if (x->secret)
			docs_key_secret(&k, x->key, w.word, w.n);
		else
			docs_key_word(&k, w.word, w.n, true);
		r = add_key(e, index, &k);
	}
	return r;
}

static int add_scalar(void *arg, unsigned path, const struct docs_scalar *v)
{
	struct docs_entries *e = arg;
	unsigned index = e->only == UINT_MAX ? path : e->only;
	const struct docs_cat_index *x = e->coll->idx[index];
	struct docs_key k;
	int r;

	if (x->type == MNO_DOC_FULLTEXT)
		return add_words(e, index, v);
	if (v->in_array && !x->multi)
		return docs_fail(e->err, -EINVAL,
			"there is an array at \"%s\", and index %s is not declared multi",
			x->path_text, x->name);
	mno_buf_reset(&e->enc);
	r = docs_scalar_encode(&e->enc, v);
	if (r == -ERANGE)
		return docs_fail(e->err, -EINVAL,
			"the number at \"%s\" has more than 256 digits or is beyond 1e30000: index "
			"%s cannot hold it",
			x->path_text, x->name);
	if (r < 0)
		return r;
	if (x->secret)
		docs_key_secret(&k, x->key, e->enc.data, e->enc.len);
	else
		docs_key_make(&k, e->enc.data, e->enc.len);
	return add_key(e, index, &k);
}

int docs_entries_read(struct docs_entries *e, const struct docs_cat_coll *coll, unsigned only,
	enum mno_doc_kind kind, const char *s, size_t len, struct mno_docs_error *err)
{
	bool one = only != UINT_MAX;
	size_t at = 0;
	int r;

	e->coll = coll;
	e->only = only;
	e->err = err;
	e->n = 0;
	mno_buf_reset(&e->bytes);
	r = docs_scan_value(kind, s, len, one ? &coll->paths[only] : coll->paths,
		one ? 1 : coll->live, &e->scratch, add_scalar, e, &at);
	if (r == -MNO_ESYNTAX)
		return docs_fail(err, r, "the value is no %s: byte %zu",
			mno_doc_kind_name(kind) ?: "kind of value", at);
	if (r == 0)
		settle(e);
	if (r == 0 && e->n > MNO_DOC_MULTI_MAX)
		return docs_fail(err, -MNO_ELIMIT,
			"the document has more than %u values in indexes", MNO_DOC_MULTI_MAX);
	return r;
}
