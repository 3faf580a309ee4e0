/* SPDX-License-Identifier: Apache-2.0 */
/* Ten thousand flipped bits (MNO_FLIPS=n: as many; MNO_FLIPS_KILLED=1: of a store that was
 * not closed), what became of each kind. */
#include <stdio.h>
#include <stdlib.h>
#include "flips.h"
#include "mno/time.h"

int main(void)
{
	const char *env = getenv("MNO_FLIPS"), *seed = getenv("MNO_SEED");
	unsigned n = env ? (unsigned)strtoul(env, NULL, 10) : 10000;
	uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC);
	struct flips_result f;
	int r = flips_run(
		n, seed ? strtoull(seed, NULL, 10) : 42, getenv("MNO_FLIPS_KILLED") != NULL, &f);

	printf("%u flips in %.0f s: mended %u, part lost and reported %u, refused %u, unused bytes "
	       "%u; crashed %u, wrong %u, silent %u, unproven %u\n",
		f.n, (double)(mno_now_ns(CLOCK_MONOTONIC) - t0) / 1e9, f.mended, f.lost, f.refused,
		f.unused, f.crashed, f.wrong, f.silent, f.unproven);
	return r < 0 || f.crashed || f.wrong || f.silent || f.unproven;
}
