/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tsc_khz: prints this machine's TSC frequency in kHz. A guest under emulation reads the host's
 * TSC; told its frequency, it need not measure it, which goes wrong by factors on a busy host.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <x86intrin.h>

#define TRIES 20

struct stamp {
	uint64_t tsc, ns;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Both clocks at one moment: the try with the least time between the two TSC readings. */
static struct stamp stamp_take(void)
{
	struct stamp best = {0};
	uint64_t width = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = __rdtsc(), ns = now_ns(), after = __rdtsc();

		if (after - before < width) {
			width = after - before;
			best = (struct stamp){.tsc = before + width / 2, .ns = ns};
		}
	}
	return best;
}

int main(void)
{
	const struct timespec wait = {.tv_nsec = 50 * 1000 * 1000};
	struct stamp a = stamp_take(), b;

	nanosleep(&wait, NULL);
	b = stamp_take();
	printf("%" PRIu64 "\n", (b.tsc - a.tsc) * 1000000u / (b.ns - a.ns));
	return 0;
}
