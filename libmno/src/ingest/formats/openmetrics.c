/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenMetrics 1.0 text: as Prometheus text, but seconds, exemplars, and "# EOF" at the end.
 * "_created" samples are samples like others, as Prometheus takes them.
 */
#include "../ingest_internal.h"

struct om {
	bool ended;
};

static bool is_word(const char *s, const char *end, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(end - s) >= n && !memcmp(s, word, n) &&
	       ((size_t)(end - s) == n || s[n] == ' ');
}

/* Only these are comments; anything else behind '#' is an error of its writer. */
static bool is_metadata(const char *s, const char *end)
{
	static const char *const words[] = {"# TYPE", "# HELP", "# UNIT"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (is_word(s, end, words[i]))
			return true;
	return false;
}

static void on_line(struct mno_ingest *p, const char *s, const char *end)
{
	struct om *om = p->state;

	if (om->ended || s == end) {
		if (s < end)
			ingest_refuse(p, MNO_INGEST_BAD_SYNTAX, 1, s, end);
		return;
	}
	if (*s != '#')
		ingest_text_sample(p, s, end, true);
	else if (is_metadata(s, end))
		p->st.metadata++;
	else if (is_word(s, end, "# EOF") && end - s == 5)
		om->ended = true;
	else
		ingest_refuse(p, MNO_INGEST_BAD_SYNTAX, 1, s, end);
}

static void feed(struct mno_ingest *p, const char *s, size_t n)
{
	ingest_lines(p, s, n, on_line);
}

static void end(struct mno_ingest *p)
{
	const struct om *om = p->state;

	ingest_lines_end(p, on_line);
	p->st.no_end = !om->ended;
}

static unsigned looks(const char *s, size_t n)
{
	int seconds;
	unsigned score = ingest_text_looks(s, n, &seconds);

	if (memmem(s, n, "\n# EOF", 6) || memmem(s, n, "# UNIT ", 7))
		return score;
	return seconds == 1 ? score : score / 2;
}

const struct ingest_ops ingest_openmetrics = {
	.state_size = sizeof(struct om), .feed = feed, .end = end, .looks = looks};
