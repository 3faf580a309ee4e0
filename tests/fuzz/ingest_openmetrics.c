/* SPDX-License-Identifier: Apache-2.0 */
/* OpenMetrics text: see fuzz_ingest.h. */
#include "../support/fuzz_ingest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_format("openmetrics", data, size);
	return 0;
}
