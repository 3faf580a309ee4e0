/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "mno/log.h"
#include "mno/util.h"

/* The one piece of process-wide state: set once by main() before threads start. */
static struct {
	mno_log_fn fn;
	void *arg;
	enum mno_log_level max;
} sink;

void mno_log_set(mno_log_fn fn, void *arg, enum mno_log_level max)
{
	sink.fn = fn;
	sink.arg = arg;
	sink.max = max;
}

void mno_log(enum mno_log_level level, const char *fmt, ...)
{
	char raw[1024], safe[1024];
	va_list ap;
	int n;

	if (!sink.fn || level > sink.max)
		return;
	va_start(ap, fmt);
	n = vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof(raw))
		n = sizeof(raw) - 1;
	mno_escape_terminal(safe, sizeof(safe), raw, n);
	sink.fn(sink.arg, level, safe);
}
