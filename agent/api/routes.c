/* SPDX-License-Identifier: Apache-2.0 */
#include "api_internal.h"

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

/* Whether @path fits @pattern; "<...>" takes one segment, decoded into @name. */
static bool fits(const char *pattern, const char *path, char *name, size_t name_size)
{
	const char *open = strchr(pattern, '<');
	const char *close = open ? strchr(open, '>') : NULL;
	size_t before, n;

	if (!close)
		return !strcmp(pattern, path);
	before = (size_t)(open - pattern);
	if (strncmp(pattern, path, before))
		return false;
	n = strcspn(path + before, "/");
	if (n == 0 || n >= name_size || strcmp(path + before + n, close + 1))
		return false;
	memcpy(name, path + before, n);
	name[n] = 0;
	return true;
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

const struct api_route *api_route_find(
	const char *method, const char *path, char *name, size_t name_size, const char **ret_allow)
{
	if (!strcmp(method, "HEAD"))
		method = "GET";
	*ret_allow = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!fits(routes[i].pattern, path, name, name_size))
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
