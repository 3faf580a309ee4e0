/* SPDX-License-Identifier: Apache-2.0 */
/* Values of the label index, unsealed. First byte: a piece of an id list, a node, the root node. */
#include <assert.h>
#include <errno.h>

#include "../../libmno/src/series/series_internal.h"
#include "mno/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is an id list encodes to the same list again, and no longer than it was. */
static void id_list(const uint8_t *p, size_t n)
{
	struct id_set set = {0}, again = {0};
	struct mno_buf out = {0};

	if (set_decode(p, n, &set) == 0 && set.n) {
		for (size_t i = 1; i < set.n; i++)
			assert(set.v[i - 1].group < set.v[i].group);
		set_encode(&set, 0, set.n, &out);
		assert(!out.err && out.len <= n + 8 * set.n);
		assert(set_decode(out.data, out.len, &again) == 0 && again.n == set.n);
		for (size_t i = 0; i < set.n; i++)
			assert(again.v[i].group == set.v[i].group &&
				again.v[i].mask == set.v[i].mask);
	}
	set_done(&set);
	set_done(&again);
	mno_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mno_buf raw = {0};

	if (!size)
		return 0;
	if (data[0] % 3 == 0) {
		id_list(data + 1, size - 1);
		return 0;
	}
	mno_buf_add(&raw, data + 1, size - 1);
	mno_buf_add(&raw, "\0\0\0\0\0\0\0", 8);
	raw.len -= 8;
	assert(values_check(&raw, data[0] % 3 == 2) != -EINVAL);
	mno_buf_done(&raw);
	return 0;
}
