/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus text exposition format 0.0.4: `name{labels} value [ms]`, comments begin with '#'. */
#include "../ingest_internal.h"

static void on_line(struct mno_ingest *p, const char *s, const char *end)
{
	s = ingest_blanks(s, end);
	if (s == end)
		return;
	if (*s == '#') /* TYPE, HELP and remarks */
		p->st.metadata++;
	else
		ingest_text_sample(p, s, end, false);
}

static void feed(struct mno_ingest *p, const char *s, size_t n)
{
	ingest_lines(p, s, n, on_line);
}

static void end(struct mno_ingest *p)
{
	ingest_lines_end(p, on_line);
}

static unsigned looks(const char *s, size_t n)
{
	int seconds;
	unsigned score = ingest_text_looks(s, n, &seconds);

	return seconds == 1 || memmem(s, n, "\n# EOF", 6) ? score / 2 : score;
}

const struct ingest_ops ingest_prometheus_text = {.feed = feed, .end = end, .looks = looks};
