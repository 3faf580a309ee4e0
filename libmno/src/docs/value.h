/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with values without a store: JSON paths, order-preserving keys, words, conditions. */
#pragma once

#include "mno/arena.h"
#include "mno/docs.h"

#define DOCS_DEPTH_MAX  32u
#define DOCS_SEGS_MAX   16u
#define DOCS_NUMBER_MAX 300u /* bytes of a number's text */
#define DOCS_EXP_MAX    30000
#define DOCS_KEY_MAX    240u /* of an encoded value in an index: longer ones end in a hash */
#define DOCS_KEY_PREFIX 224u
#define DOCS_WORD_MAX   64u /* longer words are cut */
#define DOCS_GROUPS_MAX 8u  /* alternatives of a query for words */
#define DOCS_WORDS_MAX  16u /* of one alternative */
#define DOCS_SCAN_PATHS 32u

/* --- paths and the JSON scanner (scan.c) ------------------------------------------------------ */

struct docs_path {
	uint8_t n; /* segments; 0 = the root */
	uint16_t off[DOCS_SEGS_MAX + 1];
	char text[MNO_DOC_PATH_MAX]; /* segments, unescaped, one after the other */
};
/* -EINVAL: empty, too long, or an empty segment. */
int docs_path_parse(const char *s, size_t n, struct docs_path *ret);

struct docs_scalar {
	enum mno_doc_type type;
	const char *p; /* strings unescaped, numbers as written; borrowed for the call */
	size_t n;
	bool in_array;
};
typedef int (*docs_scan_fn)(void *arg, unsigned path, const struct docs_scalar *v);
/*
 * Reads all of a strict JSON text and calls @fn (may be NULL when @n_paths is 0) for each scalar
 * at one of the paths, in order of the text; non-zero stops and is returned. @scratch holds
 * unescaped strings. *@ret_at (may be NULL): where it went wrong. -MNO_ESYNTAX, -ENOMEM.
 */
int docs_scan(const char *s, size_t len, const struct docs_path *const *paths, unsigned n_paths,
	struct mno_buf *scratch, docs_scan_fn fn, void *arg, size_t *ret_at);
/*
 * Calls @fn for each member of an object, or element of an array (@key NULL), with its text as it
 * stands; @s has been checked by docs_scan(). -MNO_ESYNTAX: neither object nor array.
 */
typedef int (*docs_member_fn)(
	void *arg, const char *key, size_t key_len, const char *text, size_t len);
int docs_scan_members(
	const char *s, size_t len, struct mno_buf *scratch, docs_member_fn fn, void *arg);
/* The same for a value of any kind: those that are not JSON have a root only, binary nothing. */
int docs_scan_value(enum mno_doc_kind kind, const char *s, size_t len,
	const struct docs_path *const *paths, unsigned n_paths, struct mno_buf *scratch,
	docs_scan_fn fn, void *arg, size_t *ret_at);
/* Whether @s is of @kind. 0, -MNO_ESYNTAX. */
int docs_value_check(
	enum mno_doc_kind kind, const char *s, size_t len, struct mno_buf *scratch, size_t *ret_at);

/* --- order (order.c) -------------------------------------------------------------------------- */

enum docs_tag { /* first byte of an encoded value */
	DOCS_TAG_NULL = 0x10,
	DOCS_TAG_FALSE = 0x20,
	DOCS_TAG_TRUE = 0x21,
	DOCS_TAG_NUMBER = 0x40,
	DOCS_TAG_STRING = 0x60,
	DOCS_TAG_WORD = 0x80,
	DOCS_TAG_SECRET = 0x90
};
/* Whether it is a JSON number, or a decimal's text: the same grammar. */
bool docs_is_number(const char *s, size_t n);
/*
 * Appends a number in base 100, so that memcmp() of two encodings is the order of the exact values
 * and equal values ("1", "1.0", "10e-1") have equal bytes. -ERANGE: more than 256 digits or beyond
 * 1e+-30000.
 */
int docs_number_encode(struct mno_buf *out, const char *s, size_t n);
/* Appends the whole encoding of a scalar: tag, then a number, or a string whose NULs are escaped
 * and that ends in two. */
int docs_scalar_encode(struct mno_buf *out, const struct docs_scalar *v);
/* Cuts an encoding to what an index has: prefix and hash. */
struct docs_key {
	uint16_t len;
	uint8_t b[DOCS_KEY_MAX];
};
void docs_key_make(struct docs_key *ret, const void *enc, size_t len);
void docs_key_secret(struct docs_key *ret, const uint8_t key[32], const void *enc, size_t len);
void docs_key_word(struct docs_key *ret, const char *word, size_t n, bool whole);
/* <0, 0, >0 as memcmp() of keys of different lengths. */
int docs_bytes_compare(const void *a, size_t na, const void *b, size_t nb);
/* The next string after all that begin with @b: false when there is none. */
bool docs_bytes_after(uint8_t *b, size_t *len);

/* --- words (words.c) -------------------------------------------------------------------------- */

struct docs_words {
	const char *p, *end;
	char word[DOCS_WORD_MAX + 4];
	size_t n;
};
/* Words of a text: letters and digits of any script, lower case, at most DOCS_WORD_MAX bytes;
 * ideographs one by one. Invalid bytes separate words. */
void docs_words_begin(struct docs_words *w, const char *s, size_t n);
bool docs_words_next(struct docs_words *w);

struct docs_term {
	bool prefix;
	uint8_t n;
	char word[DOCS_WORD_MAX];
};
struct docs_groups { /* alternatives, each of terms that must all be there */
	uint8_t n;
	struct {
		uint8_t n;
		struct docs_term terms[DOCS_WORDS_MAX];
	} g[DOCS_GROUPS_MAX];
};
/* "backup fail* | restore": -EINVAL when it is too long or has no word. */
int docs_groups_parse(const char *s, size_t n, struct docs_groups *ret);

/* --- conditions (match.c) ---------------------------------------------------------------------- */

struct docs_match {
	unsigned n;
	struct docs_match_cond {
		struct mno_doc_cond c;
		struct docs_path path;
		struct mno_buf enc;         /* of the value */
		struct docs_groups *groups; /* of MNO_DOC_WORDS */
		/* of the document at hand */
		bool hit, some;
		uint32_t found[DOCS_GROUPS_MAX];
	} * v;
	const struct docs_path *paths[MNO_DOC_COND_MAX];
	struct mno_buf scratch, enc;
};
/* Memory from @a, but for buffers: give it to docs_match_done(). -EINVAL with @err. */
int docs_match_new(struct mno_arena *a, const struct mno_doc_cond *conds, size_t n,
	struct docs_match *ret, struct mno_docs_error *err);
void docs_match_done(struct docs_match *m);
/* 1 when all conditions hold, 0 when not, or an error. */
int docs_match_test(struct docs_match *m, enum mno_doc_kind kind, const char *s, size_t len);
/* The first alternative of words that held in the last test. */
unsigned docs_match_group(const struct docs_match_cond *c);

int docs_fail(struct mno_docs_error *err, int r, const char *fmt, ...) _printf_(3, 4);
bool docs_name_ok(const char *s);
