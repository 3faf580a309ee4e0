/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a condition, as a transaction, as a value of each kind, as words: read or refused
 * with a message; what was read keeps its promises. The first byte chooses.
 */
#include <stdlib.h>
#include <string.h>

#include "../../libmno/src/docs/value.h"
#include "mno/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_where(struct mno_arena *a, const char *s, size_t n)
{
	struct mno_docs_error err = {0};
	struct mno_doc_cond c;
	struct docs_match m;

	if (mno_docs_where(a, s, n, &c, &err) < 0) {
		if (!err.msg[0])
			abort();
		return;
	}
	if (docs_match_new(a, &c, 1, &m, &err) == 0) {
		int r = docs_match_test(&m, MNO_DOC_TEXT, c.text ?: "", c.len);

		/* what is equal to itself is, if it is a text at all */
		if ((r < 0 && r != -MNO_ESYNTAX) ||
			(c.cmp == MNO_DOC_EQ && c.type == MNO_DOC_STRING && m.v[0].path.n == 0 &&
				r == 0))
			abort();
		docs_match_done(&m);
	} else if (!err.msg[0]) {
		abort();
	}
}

static void try_ops(struct mno_arena *a, const char *s, size_t n)
{
	struct mno_docs_error err;
	struct mno_doc_op *ops;
	size_t count;

	if (mno_docs_ops_parse(a, s, n, &ops, &count, &err) < 0) {
		if (!err.msg[0])
			abort();
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (!ops[i].verb || !ops[i].kind || !ops[i].id || !ops[i].ns ||
			(ops[i].verb == MNO_DOC_PUT && !ops[i].value))
			abort();
}

static int count_scalar(void *arg, unsigned path, const struct docs_scalar *v)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct docs_key k;

	if (docs_scalar_encode(&b, v) == 0) {
		docs_key_make(&k, b.data, b.len);
		if (!k.len || k.len > DOCS_KEY_MAX)
			abort();
	}
	return 0;
}

static void try_value(const char *s, size_t n)
{
	_cleanup_buf_ struct mno_buf scratch = {0};
	struct docs_path p[3] = {0};
	const struct docs_path *paths[] = {&p[0], &p[1], &p[2]};

	docs_path_parse("a", 1, &p[1]);
	docs_path_parse("a.b", 3, &p[2]);
	for (int kind = MNO_DOC_JSON; kind < MNO_DOC_KIND_END; kind++) {
		size_t at = 0;
		int r = docs_scan_value(kind, s, n, paths, 3, &scratch, count_scalar, NULL, &at);

		if (at > n || (r == 0) != (docs_value_check(kind, s, n, &scratch, NULL) == 0))
			abort();
	}
}

static void try_words(const char *s, size_t n)
{
	struct docs_groups g;
	struct docs_words w;

	docs_words_begin(&w, s, n);
	while (docs_words_next(&w))
		if (!w.n || w.n > DOCS_WORD_MAX)
			abort();
	if (docs_groups_parse(s, n, &g) == 0 && (g.n == 0 || g.n > DOCS_GROUPS_MAX))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *s = (const char *)data + 1;
	struct mno_arena *a;

	if (size == 0 || mno_arena_new(8 << 20, &a) < 0)
		return 0;
	switch (data[0] % 4) {
	case 0:
		try_where(a, s, size - 1);
		break;
	case 1:
		try_ops(a, s, size - 1);
		break;
	case 2:
		try_value(s, size - 1);
		break;
	default:
		try_words(s, size - 1);
	}
	mno_arena_free(a);
	return 0;
}
