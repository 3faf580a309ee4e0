/* SPDX-License-Identifier: Apache-2.0 */
#include "api_internal.h"

#include <stdio.h>
#include <string.h>

#include "mno/util.h"

static const struct api_route routes[] = {
#define ROUTE(methods, pattern, fn, summary)        {methods, pattern, fn, summary, false, false},
#define ROUTE_POOL(methods, pattern, fn, summary)   {methods, pattern, fn, summary, true, false},
#define ROUTE_UPLOAD(methods, pattern, fn, summary) {methods, pattern, fn, summary, true, true},
#include "routes.def"
#undef ROUTE
#undef ROUTE_POOL
#undef ROUTE_UPLOAD
};

/* Decodes one segment and compares it with that of a pattern, or takes it as a name. */
static bool segment_fits(
	const char *pattern, size_t plen, const char *path, size_t n, struct api_names *names)
{
	_cleanup_free_ char *text = mno_url_unescape(path, n, false);
	size_t len = text ? strlen(text) : 0;

	if (!text)
		return false;
	if (plen < 2 || pattern[0] != '<' || pattern[plen - 1] != '>')
		return len == plen && !memcmp(text, pattern, plen);
	if (len == 0 || names->n == API_NAMES_MAX)
		return false;
	names->too_long |= len >= API_NAME_MAX;
	snprintf(names->v[names->n++], API_NAME_MAX, "%s", text);
	return true;
}

/* Whether the path fits @pattern, segment by segment. */
static bool fits(const char *pattern, const char *path, size_t n, struct api_names *names)
{
	names->n = 0;
	names->too_long = false;
	for (;;) {
		const char *slash = memchr(path, '/', n);
		size_t k = slash ? (size_t)(slash - path) : n, p = strcspn(pattern, "/");

		if (!segment_fits(pattern, p, path, k, names))
			return false;
		pattern += p;
		if (!slash || !*pattern)
			return !slash && !*pattern;
		pattern++;
		path += k + 1;
		n -= k + 1;
	}
}

static bool has_method(const char *methods, const char *method)
{
	size_t n = strlen(method);

	for (const char *m = methods; m; m = strchr(m, ' ')) {
		m += *m == ' ';
		if (!strncmp(m, method, n) && (m[n] == 0 || m[n] == ','))
			return true;
	}
	return false;
}

const struct api_route *api_route_find(const char *method, const char *path, size_t n,
	struct api_names *ret, const char **ret_allow)
{
	if (!strcmp(method, "HEAD"))
		method = "GET";
	*ret_allow = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!fits(routes[i].pattern, path, n, ret))
			continue;
		if (has_method(routes[i].methods, method))
			return &routes[i];
		*ret_allow = routes[i].methods;
	}
	return NULL;
}

const char *api_route_guess(const char *path)
{
	unsigned best = 8;
	const char *guess = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		unsigned d = mno_edit_distance(path, routes[i].pattern);

		if (d < best && d * 2 < strlen(routes[i].pattern)) {
			best = d;
			guess = routes[i].pattern;
		}
	}
	return guess;
}

int api_index(struct mno_req *q)
{
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "routes");
	mno_json_arr(&q->j);
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		mno_json_obj(&q->j);
		mno_json_kstr(&q->j, "methods", routes[i].methods);
		mno_json_kstr(&q->j, "path", routes[i].pattern);
		mno_json_kstr(&q->j, "summary", routes[i].summary);
		mno_json_end(&q->j);
	}
	mno_json_end_arr(&q->j);
	mno_json_end(&q->j);
	return api_done(q);
}
