/* SPDX-License-Identifier: Apache-2.0 */
/* What the two text formats have in common: a line that is `series value [time]`. */
#include "ingest_internal.h"

const char *ingest_series_end(const char *s, const char *end)
{
	const char *p = s;

	while (p < end && !ingest_is_blank(*p) && *p != '{')
		p++;
	s = ingest_blanks(p, end);
	if (s == end || *s != '{')
		return p;
	for (s++; s < end; s++) {
		if (*s == '}')
			return s + 1;
		if (*s != '"')
			continue;
		for (s++; s < end && *s != '"'; s++)
			if (*s == '\\')
				s++;
	}
	return NULL;
}

static bool read_time(struct mno_ingest *p, const char *s, const char *end, bool seconds)
{
	size_t n = (size_t)(end - s);
	int64_t t;

	if (n == p->t_len && memcmp(s, p->t_text, n) == 0)
		return true;
	if (seconds ? !ingest_seconds(p->c_locale, s, end, &t) : !ingest_i64(s, end, &t))
		return false;
	if (t > INGEST_T_MAX || t < -INGEST_T_MAX)
		return false;
	p->t_ms = t;
	p->t_len = 0;
	if (n <= sizeof(p->t_text)) {
		memcpy(p->t_text, s, n);
		p->t_len = n;
	}
	return true;
}

/* ` # {labels} value [time]` behind a sample of OpenMetrics: not kept, but it must be one. */
static bool read_exemplar(struct mno_ingest *p, const char *s, const char *end)
{
	const char *close, *word;
	double v;

	if (s == end)
		return true;
	s = ingest_blanks(s + 1, end);
	if (s == end || *s != '{')
		return false;
	close = ingest_series_end(s, end);
	if (!close)
		return false;
	s = ingest_blanks(close, end);
	word = ingest_word_end(s, end);
	if (!ingest_f64(p->c_locale, s, word, &v))
		return false;
	s = ingest_blanks(word, end);
	word = ingest_word_end(s, end);
	if (s < end && (!ingest_f64(p->c_locale, s, word, &v) || ingest_blanks(word, end) != end))
		return false;
	p->st.exemplars++;
	return true;
}

/* The value and what follows it. */
static enum mno_ingest_reason text_rest(
	struct mno_ingest *p, const char *s, const char *end, bool exact, double *ret_v)
{
	const char *word = ingest_word_end(s, end);

	if (s == end)
		return MNO_INGEST_BAD_SYNTAX;
	if (!ingest_f64(p->c_locale, s, word, ret_v))
		return MNO_INGEST_BAD_VALUE;
	s = ingest_blanks(word, end);
	if (s == end || (exact && *s == '#')) {
		if (!p->o.has_default_ms)
			return MNO_INGEST_NO_TIME;
		p->t_ms = p->o.default_ms;
		p->t_len = 0;
	} else {
		word = ingest_word_end(s, end);
		if (!read_time(p, s, word, exact))
			return MNO_INGEST_BAD_TIME;
		s = ingest_blanks(word, end);
	}
	if (s < end && (!exact || *s != '#' || !read_exemplar(p, s, end)))
		return MNO_INGEST_BAD_SYNTAX;
	return ingest_check_time(p, p->t_ms);
}

/* A series is told of when a sample of it is stored: one whose lines are all refused is none. */
void ingest_text_sample(struct mno_ingest *p, const char *s, const char *end, bool exact)
{
	uint32_t e = ingest_cache_guess(&p->cache, s, end), series = INGEST_NONE;
	enum mno_ingest_reason why;
	const char *rest;
	double v;

	if (e != INGEST_NONE) {
		series = p->cache.v[e].series;
		rest = s + p->cache.v[e].len;
	} else {
		rest = ingest_series_end(s, end);
	}
	why = rest ? text_rest(p, ingest_blanks(rest, end), end, exact, &v) : MNO_INGEST_BAD_SYNTAX;
	if (!why && series == INGEST_NONE)
		series = ingest_series(p, s, rest, &why);
	else if (why && rest && e == INGEST_NONE)
		why = ingest_series_why(p, s, rest) ?: why; /* what is wrong first is told */
	if (why)
		ingest_refuse(p, why, 1, s, end);
	else
		ingest_emit(p, series, p->t_ms, v);
}

/* --- guessing ----------------------------------------------------------------------------------- */

static bool looks_like_sample(const char *s, const char *end, int *seconds)
{
	locale_t none = (locale_t)0; /* short decimals only */
	const char *rest = ingest_series_end(s, end), *word;
	int64_t t;
	double v;

	if (!rest || rest == s)
		return false;
	s = ingest_blanks(rest, end);
	word = ingest_word_end(s, end);
	if (word == s || word - s > 15 || !ingest_f64(none, s, word, &v))
		return false;
	s = ingest_blanks(word, end);
	word = ingest_word_end(s, end);
	if (s < end && *s != '#')
		*seconds = !ingest_i64(s, word, &t) || (t < 100000000000 && t > -100000000000);
	return true;
}

unsigned ingest_text_looks(const char *s, size_t n, int *ret_seconds)
{
	const char *end = s + n;
	unsigned good = 0, all = 0;

	*ret_seconds = -1;
	for (const char *nl; s < end && all < 64 && *ret_seconds < 0; s = nl + 1) {
		nl = memchr(s, '\n', (size_t)(end - s));
		if (!nl) /* cut, unless it is the only one */
			nl = all ? NULL : end;
		if (!nl)
			break;
		if (nl == s)
			continue;
		all++;
		if (*s == '#')
			good += nl - s > 1 && s[1] == ' ';
		else
			good += looks_like_sample(s, nl, ret_seconds);
		if (nl == end)
			break;
	}
	return all ? good * 90 / all : 0;
}
