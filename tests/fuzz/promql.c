/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a query: parsed, or refused with a message; what parses keeps its promises, and a
 * selector for match[] is one that also parses as a query.
 */
#include <stdlib.h>
#include <string.h>

#include "mno/promql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_selector(const struct mno_selector *s)
{
	bool some = false;

	if (s->n == 0 || s->n > MNO_PROMQL_MAX_MATCHERS || s->range_ms < 0)
		abort();
	for (size_t i = 0; i < s->n; i++) {
		if (!s->matchers[i].name || !*s->matchers[i].name || !s->matchers[i].value)
			abort();
		some |= mno_matcher_test(&s->matchers[i], "") <= 0;
	}
	if (!some)
		abort();
}

static bool parse(const uint8_t *data, size_t size, bool matchers_only)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *s = NULL;
	struct mno_promql_error err = {};

	if (mno_selector_parse((const char *)data, size, matchers_only, &s, &err) < 0) {
		if (s || !err.msg[0] || !memchr(err.msg, 0, sizeof(err.msg)))
			abort();
		return false;
	}
	check_selector(s);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int64_t ms;

	if (parse(data, size, true) && !parse(data, size, false))
		abort();
	parse(data, size, false);
	if (mno_promql_duration((const char *)data, size, &ms) == 0 && ms < 0)
		abort();
	return 0;
}
