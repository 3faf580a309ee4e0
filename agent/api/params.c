/* SPDX-License-Identifier: Apache-2.0 */
#include "params.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mno/err.h"

void mno_params_done(struct mno_params *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].name);
		free(p->v[i].value);
	}
	free(p->v);
	*p = (struct mno_params){};
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *mno_url_unescape(const char *s, size_t n, bool plus)
{
	char *out = malloc(n + 1), *o = out;

	for (size_t i = 0; out && i < n; i++) {
		int c = (unsigned char)s[i];

		if (c == '%') {
			c = i + 2 < n && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0
				    ? hex(s[i + 1]) << 4 | hex(s[i + 2])
				    : 0;
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c == 0) {
			free(out);
			return NULL;
		}
		*o++ = (char)c;
	}
	if (out)
		*o = 0;
	return out;
}

static int add_pair(struct mno_params *p, const char *s, size_t n)
{
	const char *eq = memchr(s, '=', n);
	size_t name_len = eq ? (size_t)(eq - s) : n;
	struct mno_param pair = {};

	if (p->n == MNO_PARAMS_MAX)
		return -MNO_ELIMIT;
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 8;
		struct mno_param *v = reallocarray(p->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->cap = cap;
	}
	if (!memchr(s, ';', n)) {
		pair.name = mno_url_unescape(s, name_len, true);
		pair.value = mno_url_unescape(eq ? eq + 1 : s, eq ? n - name_len - 1 : 0, true);
	}
	if (pair.name && pair.value) {
		p->v[p->n++] = pair;
		return 0;
	}
	free(pair.name);
	free(pair.value);
	p->bad++;
	return 0;
}

int mno_params_add(struct mno_params *p, const char *s, size_t n)
{
	const char *end = s + n;
	int r = 0;

	while (r == 0 && s < end) {
		const char *amp = memchr(s, '&', (size_t)(end - s));
		size_t len = amp ? (size_t)(amp - s) : (size_t)(end - s);

		if (len)
			r = add_pair(p, s, len);
		s += len + 1;
	}
	return r;
}

const char *mno_params_next(const struct mno_params *p, const char *name, size_t *pos)
{
	for (; *pos < p->n; (*pos)++)
		if (!strcmp(p->v[*pos].name, name))
			return p->v[(*pos)++].value;
	return NULL;
}

const char *mno_params_get(const struct mno_params *p, const char *name)
{
	size_t pos = 0;

	return mno_params_next(p, name, &pos);
}
