/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "mno/macro.h"
#include "mno/util.h"

int mno_parse_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!s || !*s)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

int mno_parse_f64(const char *s, double *ret)
{
	char *end;
	double v;

	/* strtod takes leading space, hexadecimal and "nan(...)"; Prometheus does not */
	if (!s || !*s || strspn(s, " \t\n\v\f\r") || strpbrk(s, "xX("))
		return -EINVAL;
	v = strtod(s, &end);
	if (*end)
		return -EINVAL;
	*ret = v;
	return 0;
}

unsigned mno_edit_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned d[3][65];

	if (n > 63 || m > 63)
		return 64;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *cur = d[i % 3], *prev = d[(i - 1) % 3], *prev2 = d[(i + 1) % 3];

		cur[0] = i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = prev[j - 1] + (a[i - 1] != b[j - 1]);

			best = MNO_MIN(best, prev[j] + 1);
			best = MNO_MIN(best, cur[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MNO_MIN(best, prev2[j - 2] + 1);
			cur[j] = best;
		}
	}
	return d[n % 3][m];
}

const char *mno_human_count(double v, char *buf, size_t size)
{
	static const char suffix[] = " kMGTP";
	int i = 0;

	if (fabs(v) < 10000) {
		long long n = llround(v);

		if (fabs(v - (double)n) > 0.005)
			snprintf(buf, size, "%.2f", v);
		else if (n >= 1000 || n <= -1000)
			snprintf(buf, size, "%lld,%03lld", n / 1000, llabs(n) % 1000);
		else
			snprintf(buf, size, "%lld", n);
		return buf;
	}
	while (fabs(v) >= 1000 && i < 5) {
		v /= 1000;
		i++;
	}
	snprintf(buf, size, "%.*f %c", fabs(v) < 100, v, suffix[i]);
	return buf;
}

const char *mno_human_bytes(double v, char *buf, size_t size)
{
	static const char *const suffix[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	size_t i = 0;

	while (fabs(v) >= 1024 && i + 1 < ARRAY_SIZE(suffix)) {
		v /= 1024;
		i++;
	}
	snprintf(buf, size, "%.*f %s", i && fabs(v) < 100, v, suffix[i]);
	return buf;
}

size_t mno_utf8_len(const char *s, size_t n)
{
	const uint8_t *p = (const uint8_t *)s;
	size_t len;
	uint32_t c;

	if (!n)
		return 0;
	if (p[0] < 0x80)
		return 1;
	len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || n < len)
		return 0;
	c = p[0] & (0x7f >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	/* overlong forms, surrogates, beyond Unicode */
	if ((len == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
		(len == 4 && (c < 0x10000 || c > 0x10ffff)))
		return 0;
	return len;
}

static bool is_control(const char *s, size_t len)
{
	uint8_t c = (uint8_t)s[0];

	/* C0, DEL, and the C1 controls U+0080..U+009F */
	return c < 0x20 || c == 0x7f || (len == 2 && c == 0xc2 && (uint8_t)s[1] < 0xa0);
}

char *mno_escape_terminal(char *dst, size_t size, const char *s, size_t n)
{
	size_t o = 0;

	for (size_t i = 0; i < n;) {
		size_t len = mno_utf8_len(s + i, n - i);

		if (len && !is_control(s + i, len)) {
			if (o + len >= size)
				break;
			memcpy(dst + o, s + i, len);
			o += len;
			i += len;
			continue;
		}
		len = len ?: 1;
		if (o + 4 * len >= size)
			break;
		for (size_t k = 0; k < len; k++)
			o += (size_t)sprintf(dst + o, "\\x%02x", (uint8_t)s[i + k]);
		i += len;
	}
	dst[o] = '\0';
	return dst;
}
