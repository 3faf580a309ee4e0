/* SPDX-License-Identifier: Apache-2.0 */
/* crypt-seal, crypt-open: one value sealed in place, opened beside it, per suite and size; 40 bytes of
 * additional data. CPU time of this thread, best of 7. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../../libmno/src/crypt/crypt.h"
#include "mno/err.h"

#define ROUNDS 7
#define BYTES  (24u << 20) /* of values in a round */
#define AAD    40

static const struct {
	const char *name;
	enum mno_suite suite;
} suites[] = {
	{"none (authenticated)", MNO_SUITE_NONE},
	{"aes-256-gcm", MNO_SUITE_AES256GCM},
	{"xchacha20-poly1305", MNO_SUITE_XCHACHA20},
};
static const size_t sizes[] = {64, 512, 4096, 16384};

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void die(const char *what, int r)
{
	fprintf(stderr, "bench crypt: %s: %s\n", what, mno_strerror(r));
	exit(1);
}

static void measure(struct mno_cipher *c, size_t size, double *ret_seal, double *ret_open)
{
	static uint8_t v[16384], out[16384], aad[AAD];
	unsigned n = (unsigned)MNO_MIN(BYTES / size, 100000);
	double seal = 1e18, open = 1e18;
	struct mno_seal_tag t;

	for (int round = 0; round < ROUNDS; round++) {
		double t0 = cpu_ns(), t1, bad = 0;

		for (unsigned i = 0; i < n; i++)
			bad += mno_cipher_seal(c, aad, AAD, v, size, v, &t) != 0;
		t1 = cpu_ns();
		seal = MNO_MIN(seal, (t1 - t0) / n);
		t0 = cpu_ns();
		for (unsigned i = 0; i < n; i++)
			bad += mno_cipher_open_value(c, &t, aad, AAD, v, size, out) != 0;
		open = MNO_MIN(open, (cpu_ns() - t0) / n);
		if (bad)
			die("a value does not open", -MNO_ECORRUPT);
	}
	*ret_seal = seal;
	*ret_open = open;
}

static void one_suite(const struct mno_keys *k, int dir, size_t s)
{
	static const uint8_t env[16] = "benchmark";
	struct mno_cipher *c = NULL;
	int r = mno_cipher_create(k, dir, env, suites[s].suite, &c);

	if (r == -EOPNOTSUPP) {
		printf("%-22s not on this CPU\n", suites[s].name);
		return;
	}
	if (r < 0)
		die("create", r);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		double seal, open;

		measure(c, sizes[i], &seal, &open);
		printf("%-22s %6zu B   seal %7.0f ns %6.2f GB/s   open %7.0f ns %6.2f GB/s\n",
			suites[s].name, sizes[i], seal, (double)sizes[i] / seal, open,
			(double)sizes[i] / open);
	}
	mno_cipher_close(c);
	mno_cipher_erase(dir);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
	return remove(path);
}

int main(void)
{
	char path[] = "/tmp/mno-bench-XXXXXX";
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	_cleanup_close_ int dir = -1;
	int r;

	if (!mkdtemp(path))
		die(path, -errno);
	dir = open(path, O_RDONLY | O_DIRECTORY);
	r = dir < 0 ? -errno : mno_keys_open(dir, NULL, true, &k);
	if (r < 0)
		die("keys", r);
	for (size_t s = 0; s < ARRAY_SIZE(suites); s++)
		one_suite(k, dir, s);
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
