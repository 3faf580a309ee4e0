/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expression and subject, separated by the first newline; and both as series keys. */
#include <assert.h>

#include "../../libmno/src/series/series_internal.h"
#include "mno/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What parses must come back the same from its own text. */
static void key_round_trip(const char *key, size_t len)
{
	struct key_labels k = {0}, again = {0};
	struct mno_buf text = {0}, second = {0};

	if (key_parse(key, len, &k) < 0)
		return;
	key_format(k.v, k.n, &text);
	assert(!text.err && key_parse(text.data, text.len, &again) == 0 && again.n == k.n);
	key_format(again.v, again.n, &second);
	assert(second.len == text.len && memcmp(second.data, text.data, text.len) == 0);
	key_labels_done(&k);
	key_labels_done(&again);
	mno_buf_done(&text);
	mno_buf_done(&second);
}

/* What an expression takes begins with its literals, or is one of them, and all of these it takes. */
static void literals(const struct mno_matcher *m, const char *subject, int yes)
{
	struct mno_buf lit = {0};
	bool exact, found = false;

	assert(match_literals(m->value, &lit, &exact) == 0);
	for (size_t at = 0; exact && at < lit.len; at += strlen(lit.data + at) + 1) {
		assert(match_regex(m, lit.data + at) != 0);
		found |= strcmp(lit.data + at, subject) == 0;
	}
	if (yes == 1 && exact)
		assert(found || !*subject);
	if (yes == 1 && !exact && lit.len)
		assert(strncmp(subject, lit.data, lit.len) == 0);
	mno_buf_done(&lit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *subject, err[64];
	struct mno_matcher m = {MNO_MATCH_RE, "a", text, NULL};

	if (!text)
		return 0;
	key_round_trip((const char *)data, size);
	subject = strchr(text, '\n');
	if (subject)
		*subject++ = '\0';
	if (mno_matchers_compile(&m, 1, err, sizeof(err)) == 0) {
		int yes = match_text(&m, subject ? subject : ""), no;

		literals(&m, subject ? subject : "", yes);
		m.op = MNO_MATCH_NRE;
		no = match_text(&m, subject ? subject : "");
		assert(yes < 0 ? no == yes : yes + no == 1);
	}
	mno_matchers_done(&m, 1);
	free(text);
	return 0;
}
