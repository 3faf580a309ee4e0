/* SPDX-License-Identifier: Apache-2.0 */
/* Remote write messages, as they come and as the content of a packed one: see fuzz_ingest.h. */
#include <snappy-c.h>
#include "../support/fuzz_ingest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t n = snappy_max_compressed_length(size);
	char *packed = malloc(n);

	fuzz_format("remote-write", data, size);
	if (packed && snappy_compress((const char *)data, size, packed, &n) == SNAPPY_OK)
		fuzz_format("remote-write", (const uint8_t *)packed, n);
	free(packed);
	return 0;
}
