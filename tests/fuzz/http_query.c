/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query strings, form bodies and paths: nothing is read past the end, values hold no NUL, and
 * what is escaped comes back the same.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "mno/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* @s escaped and read again is @s */
static void round_trip(const char *s)
{
	_cleanup_buf_ struct mno_buf b = {};
	struct mno_params p = {};
	const char *v;

	mno_buf_adds(&b, "k=");
	mno_url_escape(&b, s);
	if (b.err)
		return;
	v = mno_params_add(&p, b.data, b.len) == 0 ? mno_params_get(&p, "k") : NULL;
	if (!v || strcmp(v, s))
		abort();
	mno_params_done(&p);
}

static void read_times(const char *s)
{
	uint64_t ns;
	int64_t ms;

	if (api_parse_time(s, &ms) == 0 && (ms > 9000000000000000 || ms < -9000000000000000))
		abort();
	api_parse_since(s, 1800000000ULL * NS_PER_SEC, &ns);
}

static void find_route(const char *path)
{
	const char *allow;
	struct api_names names;

	if (api_route_find("GET", path, strlen(path), &names, &allow) && names.n > API_NAMES_MAX)
		abort();
	api_route_guess(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mno_params p = {};
	char *path;

	mno_params_add(&p, (const char *)data, size);
	if (p.n > MNO_PARAMS_MAX)
		abort();
	for (size_t i = 0; i < p.n; i++) {
		round_trip(p.v[i].value);
		read_times(p.v[i].value);
		if (!mno_params_get(&p, p.v[i].name))
			abort();
	}
	mno_params_done(&p);
	path = mno_url_unescape((const char *)data, size, false);
	if (path) {
		if (strlen(path) > size)
			abort();
		find_route(path);
	}
	free(path);
	return 0;
}
