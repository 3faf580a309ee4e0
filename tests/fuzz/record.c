/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that claim to come from the kernel: checked, then shown; never read out of bounds. */
#include <stdlib.h>
#include <string.h>
#include "probes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint64_t *copy = malloc(size + 8);
	_cleanup_buf_ struct mno_buf out = {0};
	struct mno_event_ctx ctx = {.boot_offset_ns = 1};
	const struct mno_kind *kd;
	struct mno_json j;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	if (mno_event_check(mno_probes_kinds(), copy, size, &kd) < 0)
		return 0;
	mno_json_init(&j, &out);
	mno_event_json(kd, copy, &ctx, &j);
	return 0;
}
