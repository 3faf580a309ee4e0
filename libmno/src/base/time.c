/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "mno/macro.h"
#include "mno/time.h"

#define MAX_DURATION_NS (100ULL * 365 * 86400 * NS_PER_SEC)

static const struct {
	const char *unit;
	uint64_t ns;
} units[] = {
	{"ns", 1},
	{"us", 1000},
	{"ms", NS_PER_MS},
	{"s", NS_PER_SEC},
	{"m", 60 * NS_PER_SEC},
	{"min", 60 * NS_PER_SEC},
	{"h", 3600 * NS_PER_SEC},
	{"d", 86400 * NS_PER_SEC},
	{"w", 7 * 86400 * NS_PER_SEC},
	{"y", 365 * 86400 * NS_PER_SEC},
};

uint64_t mno_now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

int64_t mno_now_ms(void)
{
	return mno_now_ns(CLOCK_REALTIME) / NS_PER_MS;
}

int mno_cond_wait_ns(pthread_cond_t *c, pthread_mutex_t *m, uint64_t ns)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + ns;
	struct timespec at = {
		.tv_sec = (time_t)(end / NS_PER_SEC), .tv_nsec = (long)(end % NS_PER_SEC)};

	return -pthread_cond_clockwait(c, m, CLOCK_MONOTONIC, &at);
}

int64_t mno_boot_offset_ns(void)
{
	uint64_t best = UINT64_MAX;
	int64_t off = 0;

	/* the reading with the least time between its two boottime stamps is the truest */
	for (int i = 0; i < 16; i++) {
		uint64_t a = mno_now_ns(CLOCK_BOOTTIME);
		uint64_t r = mno_now_ns(CLOCK_REALTIME);
		uint64_t b = mno_now_ns(CLOCK_BOOTTIME);

		if (b - a < best) {
			best = b - a;
			off = (int64_t)(r - (a + (b - a) / 2));
		}
	}
	return off;
}

static uint64_t unit_ns(const char *s, size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (strlen(units[i].unit) == n && !strncmp(units[i].unit, s, n))
			return units[i].ns;
	return 0;
}

int mno_duration_parse(const char *s, uint64_t *ret_ns)
{
	uint64_t total = 0;

	if (!s || !*s)
		return -EINVAL;
	while (*s) {
		size_t digits = strspn(s, "0123456789"), letters;
		uint64_t v = 0, ns;

		if (!digits || digits > 19)
			return digits ? -ERANGE : -EINVAL;
		for (size_t i = 0; i < digits; i++)
			v = v * 10 + (uint64_t)(s[i] - '0');
		s += digits;
		letters = strcspn(s, "0123456789");
		/* a bare number is seconds, but only alone: "1h30" would be a guess */
		ns = letters ? unit_ns(s, letters) : (total ? 0 : NS_PER_SEC);
		if (!ns)
			return -EINVAL;
		if (v > MAX_DURATION_NS / ns || total > MAX_DURATION_NS - v * ns)
			return -ERANGE;
		total += v * ns;
		s += letters;
	}
	*ret_ns = total;
	return 0;
}

const char *mno_duration_format(uint64_t ns, char *buf, size_t size)
{
	uint64_t s = ns / NS_PER_SEC;

	if (ns < 1000)
		snprintf(buf, size, "%llu ns", (unsigned long long)ns);
	else if (ns < NS_PER_MS)
		snprintf(buf, size, "%.*f us", ns < 10000, (double)ns / 1e3);
	else if (ns < NS_PER_SEC)
		snprintf(buf, size, "%.*f ms", ns < 10 * NS_PER_MS, (double)ns / 1e6);
	else if (s < 60)
		snprintf(buf, size, "%.*f s", s < 10, (double)ns / 1e9);
	else if (s < 3600)
		snprintf(buf, size, "%llu min %llu s", (unsigned long long)s / 60,
			(unsigned long long)s % 60);
	else if (s < 86400)
		snprintf(buf, size, "%llu h %llu min", (unsigned long long)s / 3600,
			(unsigned long long)s / 60 % 60);
	else
		snprintf(buf, size, "%llu d %llu h", (unsigned long long)s / 86400,
			(unsigned long long)s / 3600 % 24);
	return buf;
}
