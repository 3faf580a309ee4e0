/* SPDX-License-Identifier: Apache-2.0 */
/* Data keys: what is sealed opens again, only there and only unchanged. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "rig.h"
#include "../../../libmno/src/crypt/crypt_internal.h"

static const enum mno_suite suites[] = {MNO_SUITE_NONE, MNO_SUITE_AES256GCM, MNO_SUITE_XCHACHA20};

static const char *const suite_names[] = {"none", "aes-256-gcm", "xchacha20-poly1305"};

static bool runs_here(enum mno_suite s)
{
	if (suite_get(s)->available())
		return true;
	print_message("%s is left out: not on this CPU\n", suite_names[s]);
	return false;
}

static struct mno_cipher *cipher(struct rig *r, const struct mno_keys *k, enum mno_suite s)
{
	struct mno_cipher *c = NULL;

	unlinkat(r->env, "key", 0);
	assert_int_equal(mno_cipher_create(k, r->env, env_a, s, &c), 0);
	return c;
}

static void test_roundtrip(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	uint8_t in[5000], out[5000], back[5000];

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7 + 1);
	for (size_t s = 0; s < ARRAY_SIZE(suites); s++) {
		struct mno_cipher *c, *again = NULL;

		if (!runs_here(suites[s]))
			continue;
		c = cipher(r, k, suites[s]);
		assert_int_equal(mno_cipher_suite(c), suites[s]);
		assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), 0);
		assert_int_equal(mno_cipher_suite(again), suites[s]);
		for (size_t n = 0; n < sizeof(in); n = n < 70 ? n + 1 : n * 2 + 1) {
			struct mno_seal_tag t;

			assert_int_equal(mno_cipher_seal(c, "aad", n % 4, in, n, out, &t), 0);
			assert_int_equal(t.suite, suites[s]);
			assert_int_equal(t.key_id, mno_cipher_current(c));
			if (n > 16)
				assert_int_equal(!memcmp(in, out, n), suites[s] == MNO_SUITE_NONE);
			/* by another opener of the same file, and in place */
			assert_int_equal(
				mno_cipher_open_value(again, &t, "aad", n % 4, out, n, back), 0);
			assert_memory_equal(back, in, n);
			memcpy(back, in, n);
			assert_int_equal(mno_cipher_seal(c, NULL, 0, back, n, back, &t), 0);
			assert_int_equal(mno_cipher_open_value(c, &t, NULL, 0, back, n, back), 0);
			assert_memory_equal(back, in, n);
		}
		assert_true(mno_cipher_sealed(c) > 100);
		assert_int_equal(mno_cipher_sealed(again), 0);
		mno_cipher_close(c);
		mno_cipher_close(again);
	}
	mno_keys_close(k);
}

/* Each bit of value, tag and additional data; in the nonce those that are stored. */
static void test_bit_flips(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	uint8_t out[100], back[100];
	char aad[] = "env|db|key|1";

	for (size_t s = 0; s < ARRAY_SIZE(suites); s++) {
		struct mno_cipher *c;
		struct mno_seal_tag t;
		struct {
			uint8_t *p;
			size_t n;
		} parts[] = {{out, sizeof(out)}, {(uint8_t *)aad, sizeof(aad)}, {t.mac, 16},
			{t.nonce, mno_suite_nonce(suites[s])}, {&t.suite, 1}, {&t.key_id, 1}};
		size_t flips = 0;

		if (!runs_here(suites[s]))
			continue;
		c = cipher(r, k, suites[s]);
		memset(back, 'x', sizeof(back));
		assert_int_equal(
			mno_cipher_seal(c, aad, sizeof(aad), back, sizeof(back), out, &t), 0);
		for (size_t p = 0; p < ARRAY_SIZE(parts); p++)
			for (size_t bit = 0; bit < parts[p].n * 8; bit++, flips++) {
				int e;

				parts[p].p[bit / 8] ^= (uint8_t)(1u << bit % 8);
				e = mno_cipher_open_value(
					c, &t, aad, sizeof(aad), out, sizeof(out), back);
				parts[p].p[bit / 8] ^= (uint8_t)(1u << bit % 8);
				assert_int_equal(
					e, parts[p].p == &t.key_id ? -ENOKEY : -MNO_ECORRUPT);
			}
		for (size_t n = 0; n < sizeof(out); n++)
			assert_int_equal(
				mno_cipher_open_value(c, &t, aad, sizeof(aad), out, n, back),
				-MNO_ECORRUPT);
		assert_int_equal(
			mno_cipher_open_value(c, &t, aad, sizeof(aad), out, sizeof(out), back), 0);
		print_message("%s: %zu flipped bits refused\n", suite_names[suites[s]], flips);
		mno_cipher_close(c);
	}
	mno_keys_close(k);
}

/* A value moved to another key or database, an older one under the same key, another environment. */
static void test_swapped(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *a = cipher(r, k, MNO_SUITE_AUTO), *b = NULL;
	uint8_t va[8], vb[8], out[8];
	struct mno_seal_tag ta, tb;
	int other;

	assert_int_equal(mkdirat(r->fd, "docs", 0700), 0);
	other = openat(r->fd, "docs", O_RDONLY | O_DIRECTORY);
	assert_int_equal(mno_cipher_create(k, other, env_b, MNO_SUITE_AUTO, &b), 0);
	assert_int_equal(mno_cipher_seal(a, "db1|k1", 6, "value 1", 8, va, &ta), 0);
	assert_int_equal(mno_cipher_seal(a, "db1|k2", 6, "value 2", 8, vb, &tb), 0);
	assert_int_equal(mno_cipher_open_value(a, &tb, "db1|k1", 6, vb, 8, out), -MNO_ECORRUPT);
	assert_int_equal(mno_cipher_open_value(a, &ta, "db2|k1", 6, va, 8, out), -MNO_ECORRUPT);
	assert_int_equal(mno_cipher_open_value(a, &ta, "db1|k1", 6, vb, 8, out), -MNO_ECORRUPT);
	assert_int_equal(mno_cipher_open_value(a, &tb, "db1|k1", 6, va, 8, out), -MNO_ECORRUPT);
	assert_int_equal(mno_cipher_open_value(b, &ta, "db1|k1", 6, va, 8, out), -MNO_ECORRUPT);
	assert_int_equal(mno_cipher_open_value(a, &ta, "db1|k1", 6, va, 8, out), 0);
	assert_string_equal((char *)out, "value 1");
	mno_cipher_close(b);
	b = NULL;
	/* the file of keys of the one in the place of the other's */
	assert_int_equal(mno_cipher_open(k, r->env, env_b, &b), -MNO_ECORRUPT);
	rig_logged(r, "another environment");
	assert_int_equal(mno_cipher_open(k, other, env_b, &b), 0);
	mno_cipher_close(a);
	mno_cipher_close(b);
	mno_keys_close(k);
	close(other);
}

static void test_nonces(void **state)
{
	enum { N = 4096 };
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = cipher(r, k, MNO_SUITE_XCHACHA20);
	static uint64_t seen[N];
	struct mno_seal_tag t;
	int p[2], status;

	assert_int_equal(mno_suite_nonce(MNO_SUITE_NONE), 0);
	assert_int_equal(mno_suite_nonce(MNO_SUITE_AES256GCM), 12);
	assert_int_equal(mno_suite_nonce(MNO_SUITE_XCHACHA20), 24);
	assert_int_equal(mno_suite_nonce(99), 0);
	for (size_t i = 0; i < N; i++) {
		assert_int_equal(mno_cipher_seal(c, NULL, 0, NULL, 0, NULL, &t), 0);
		memcpy(&seen[i], t.nonce, 8);
		for (size_t j = 0; j < i; j++)
			assert_true(seen[j] != seen[i]);
	}
	/* a child does not go on with the parent's */
	assert_int_equal(pipe(p), 0);
	if (fork() == 0) {
		mno_cipher_seal(c, NULL, 0, NULL, 0, NULL, &t);
		_exit(write(p[1], t.nonce, 24) != 24);
	}
	wait(&status);
	assert_int_equal(status, 0);
	assert_int_equal(mno_cipher_seal(c, NULL, 0, NULL, 0, NULL, &t), 0);
	assert_int_equal(read(p[0], seen, 24), 24);
	assert_memory_not_equal(seen, t.nonce, 24);
	close(p[0]);
	close(p[1]);
	mno_cipher_close(c);
	mno_keys_close(k);
}

static void test_file_damage(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = cipher(r, k, MNO_SUITE_AUTO), *again = NULL;
	uint8_t good[KEYFILE_MAX], bad[KEYFILE_MAX], id;
	size_t n;

	assert_int_equal(mno_cipher_add(c, r->env, k, &id), 0);
	n = rig_read(r->env, "key", good, sizeof(good));
	assert_int_equal(n, KEYFILE_HEAD + 2 * KEYFILE_ENTRY + KEYFILE_MAC + CHECKSUM);
	for (size_t bit = 0; bit < n * 8; bit++) {
		memcpy(bad, good, n);
		bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
		rig_write(r->env, "key", bad, n, 0600);
		assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -MNO_ECORRUPT);
	}
	print_message("key file: %zu flipped bits refused\n", n * 8);
	for (size_t cut = 0; cut < n; cut++) {
		rig_write(r->env, "key", good, cut, 0600);
		assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -MNO_ECORRUPT);
	}
	memset(bad, 0, sizeof(bad));
	memcpy(bad, good, n);
	rig_write(r->env, "key", bad, n + 1, 0600);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -MNO_ECORRUPT);
	for (size_t i = 0; i < 3; i++)
		rig_write(r->env, "key", bad, sizeof(bad), 0600);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -MNO_ECORRUPT);
	unlinkat(r->env, "key", 0);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -ENOENT);
	assert_int_equal(mkdirat(r->env, "key", 0700), 0);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -MNO_ECORRUPT);
	unlinkat(r->env, "key", AT_REMOVEDIR);
	rig_write(r->env, "key", good, n, 0600);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), 0);
	mno_cipher_close(again);
	mno_cipher_close(c);
	mno_keys_close(k);
}

/* Someone who has no KEK but computes the open checksum anew. */
static void resum(uint8_t *p, size_t n)
{
	crypto_generichash_blake2b(p + n - CHECKSUM, CHECKSUM, p, n - CHECKSUM, NULL, 0);
}

static void test_file_forged(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = cipher(r, k, MNO_SUITE_AUTO), *again = NULL;
	uint8_t good[KEYFILE_MAX], bad[KEYFILE_MAX], id;
	const size_t head = KEYFILE_HEAD, entry = KEYFILE_ENTRY;
	size_t n;

	assert_int_equal(mno_cipher_add(c, r->env, k, &id), 0);
	n = rig_read(r->env, "key", good, sizeof(good));
	for (size_t i = 8; i < n - CHECKSUM; i++) {
		int e;

		memcpy(bad, good, n);
		bad[i] ^= 1;
		resum(bad, n);
		rig_write(r->env, "key", bad, n, 0600);
		e = mno_cipher_open(k, r->env, env_a, &again);
		/* another KEK's name, a later version: believed, and refused all the same */
		if (i >= 32 && i < 40)
			assert_int_equal(e, -ENOKEY);
		else if (i > 8 && i < 12)
			assert_int_equal(e, -MNO_EVERSION);
		else
			assert_int_equal(e, -MNO_ECORRUPT);
	}
	/* the second key left out, the first made current */
	memcpy(bad, good, head + entry);
	memcpy(bad + head + entry, good + head + 2 * entry, KEYFILE_MAC);
	bad[12] = 1;
	bad[14] = 1;
	resum(bad, n - entry);
	rig_write(r->env, "key", bad, n - entry, 0600);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -MNO_ECORRUPT);
	mno_cipher_close(c);
	mno_keys_close(k);
}

static void test_rotate_data_keys(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = cipher(r, k, MNO_SUITE_AUTO), *again = NULL;
	struct mno_seal_tag old, now;
	uint8_t a[4], b[4], out[4], id, last = 1;
	struct stat st;

	assert_int_equal(mno_cipher_current(c), 1);
	assert_int_equal(mno_cipher_seal(c, "x", 1, "old", 4, a, &old), 0);
	assert_int_equal(mno_cipher_drop(c, r->env, k, 1), -EBUSY);
	assert_int_equal(mno_cipher_add(c, r->env, k, &id), 0);
	assert_int_equal(id, 2);
	assert_int_equal(mno_cipher_current(c), 2);
	assert_int_equal(mno_cipher_sealed(c), 0);
	assert_int_equal(mno_cipher_seal(c, "x", 1, "new", 4, b, &now), 0);
	assert_int_equal(mno_cipher_sealed(c), 1);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), 0);
	assert_int_equal(mno_cipher_current(again), 2);
	assert_int_equal(mno_cipher_open_value(again, &old, "x", 1, a, 4, out), 0);
	assert_string_equal((char *)out, "old");
	assert_int_equal(mno_cipher_open_value(again, &now, "x", 1, b, 4, out), 0);
	mno_cipher_close(again);
	assert_int_equal(fstatat(r->env, "key", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);

	assert_int_equal(mno_cipher_drop(c, r->env, k, 9), -ENOENT);
	assert_int_equal(mno_cipher_drop(c, r->env, k, 0), -ENOENT);
	assert_int_equal(mno_cipher_drop(c, r->env, k, 1), 0);
	assert_int_equal(mno_cipher_open_value(c, &old, "x", 1, a, 4, out), -ENOKEY);
	assert_int_equal(mno_cipher_open_value(c, &now, "x", 1, b, 4, out), 0);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), 0);
	assert_int_equal(mno_cipher_open_value(again, &old, "x", 1, a, 4, out), -ENOKEY);
	mno_cipher_close(again);

	/* up to the bound, over it, and round: an id comes back last of all */
	for (unsigned n = 1; n < MNO_CIPHER_KEYS; n++)
		assert_int_equal(mno_cipher_add(c, r->env, k, &last), 0);
	assert_int_equal(last, 251);
	assert_int_equal(mno_cipher_add(c, r->env, k, &id), -ENOSPC);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), 0);
	assert_int_equal(mno_cipher_open_value(again, &now, "x", 1, b, 4, out), 0);
	mno_cipher_close(again);
	for (unsigned n = 2; n < 12; n++)
		assert_int_equal(mno_cipher_drop(c, r->env, k, (uint8_t)n), 0);
	for (unsigned want = 252; want < 256; want++) {
		assert_int_equal(mno_cipher_add(c, r->env, k, &id), 0);
		assert_int_equal(id, want);
	}
	assert_int_equal(mno_cipher_add(c, r->env, k, &id), 0);
	assert_int_equal(id, 1);
	/* the first key's value is not opened by its successor */
	assert_int_equal(mno_cipher_open_value(c, &old, "x", 1, a, 4, out), -MNO_ECORRUPT);
	mno_cipher_close(c);
	mno_keys_close(k);
}

static void test_wrong_kek(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r), *next = NULL;
	struct mno_cipher *c = cipher(r, k, MNO_SUITE_AUTO), *again = NULL;
	struct mno_seal_tag t;
	uint8_t v[3], out[3], id;

	assert_int_equal(mno_cipher_seal(c, NULL, 0, "ab", 3, v, &t), 0);
	assert_int_equal(mno_keys_replace(r->fd, NULL, &next), 0);
	assert_memory_not_equal(mno_keys_id(k), mno_keys_id(next), MNO_KEY_ID_BYTES);
	assert_int_equal(mno_cipher_open(next, r->env, env_a, &again), -ENOKEY);
	assert_int_equal(mno_cipher_add(c, r->env, next, &id), -ENOKEY);
	assert_int_equal(mno_cipher_rewrap(c, r->env, next), 0);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -ENOKEY);
	assert_int_equal(mno_cipher_add(c, r->env, k, &id), -ENOKEY);
	assert_int_equal(mno_cipher_drop(c, r->env, k, 1), -ENOKEY);
	assert_int_equal(mno_cipher_open(next, r->env, env_a, &again), 0);
	assert_int_equal(mno_cipher_open_value(again, &t, NULL, 0, v, 3, out), 0);
	assert_string_equal((char *)out, "ab");
	mno_cipher_close(again);
	mno_cipher_close(c);
	mno_keys_close(next);
	mno_keys_close(k);
}

static void test_create_twice(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = cipher(r, k, MNO_SUITE_AUTO), *again = NULL;
	uint8_t before[256], after[256];
	size_t n = rig_read(r->env, "key", before, sizeof(before));

	assert_int_equal(mno_cipher_create(k, r->env, env_a, MNO_SUITE_AUTO, &again), -EEXIST);
	assert_int_equal(rig_read(r->env, "key", after, sizeof(after)), n);
	assert_memory_equal(before, after, n);
	unlinkat(r->env, "key", 0);
	assert_int_equal(mno_cipher_create(k, r->env, env_a, 7, &again), -EINVAL);
	assert_false(rig_has(r->env, "key"));
	mno_cipher_close(c);
	mno_keys_close(k);
}

static void test_erase(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = cipher(r, k, MNO_SUITE_AUTO), *again = NULL;
	uint8_t data[256];
	int held = openat(r->env, "key", O_RDONLY);
	ssize_t n;

	rig_write(r->env, "key.tmp", "left by a crash", 15, 0600);
	assert_int_equal(mno_cipher_erase(r->env), 0);
	assert_false(rig_has(r->env, "key"));
	assert_false(rig_has(r->env, "key.tmp"));
	n = read(held, data, sizeof(data));
	assert_int_equal(n, KEYFILE_HEAD + KEYFILE_ENTRY + KEYFILE_MAC + CHECKSUM);
	for (ssize_t i = 0; i < n; i++)
		assert_int_equal(data[i], 0);
	close(held);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), -ENOENT);
	assert_int_equal(mno_cipher_erase(r->env), -ENOENT);
	mno_cipher_close(c);
	mno_keys_close(k);
}

/* --- faults ------------------------------------------------------------------------------------ */
static void limit_files(rlim_t n)
{
	struct rlimit l;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
	l.rlim_cur = n;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void unchanged(struct rig *r, struct mno_cipher *c, const struct mno_keys *k,
	const struct mno_seal_tag *t, const uint8_t v[4])
{
	struct mno_cipher *again = NULL;
	uint8_t out[4];

	assert_false(rig_has(r->env, "key.tmp"));
	assert_int_equal(mno_cipher_current(c), 1);
	assert_int_equal(mno_cipher_open_value(c, t, NULL, 0, v, 4, out), 0);
	assert_int_equal(mno_cipher_open(k, r->env, env_a, &again), 0);
	assert_int_equal(mno_cipher_current(again), 1);
	assert_int_equal(mno_cipher_open_value(again, t, NULL, 0, v, 4, out), 0);
	mno_cipher_close(again);
}

/* A write that fails at any byte leaves the old file and the old set. */
static void test_write_fails(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = cipher(r, k, MNO_SUITE_AUTO), *again = NULL;
	struct mno_seal_tag t;
	uint8_t v[4], id;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(mno_cipher_seal(c, NULL, 0, "abc", 4, v, &t), 0);
	for (rlim_t n = 0; n < 248; n += 31) {
		limit_files(n);
		assert_int_equal(mno_cipher_add(c, r->env, k, &id), -EFBIG);
		limit_files(RLIM_INFINITY);
		unchanged(r, c, k, &t, v);
	}
	limit_files(0);
	assert_int_equal(mno_cipher_rewrap(c, r->env, k), -EFBIG);
	limit_files(RLIM_INFINITY);
	unchanged(r, c, k, &t, v);
	unlinkat(r->env, "key", 0);
	limit_files(100);
	assert_int_equal(mno_cipher_create(k, r->env, env_a, MNO_SUITE_AUTO, &again), -EFBIG);
	limit_files(RLIM_INFINITY);
	assert_false(rig_has(r->env, "key"));
	assert_false(rig_has(r->env, "key.tmp"));
	mno_cipher_close(c);
	mno_keys_close(k);
}

static void test_disk_full(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = NULL, *again = NULL;
	char path[96];
	uint8_t page[4096] = {1}, id;
	int env, fill;

	snprintf(path, sizeof(path), "%s/full", r->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	if (mount("none", path, "tmpfs", 0, "size=16k")) {
		print_message("left out: no file system can be mounted: %s\n", strerror(errno));
		mno_keys_close(k);
		skip();
	}
	env = open(path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mno_cipher_create(k, env, env_a, MNO_SUITE_AUTO, &c), 0);
	fill = openat(env, "fill", O_WRONLY | O_CREAT, 0600);
	while (write(fill, page, sizeof(page)) > 0)
		;
	close(fill);
	assert_int_equal(mno_cipher_add(c, env, k, &id), -ENOSPC);
	assert_int_equal(mno_cipher_rewrap(c, env, k), -ENOSPC);
	assert_false(rig_has(env, "key.tmp"));
	assert_int_equal(mno_cipher_open(k, env, env_a, &again), 0);
	mno_cipher_close(again);
	assert_int_equal(mount("none", path, "tmpfs", MS_REMOUNT | MS_RDONLY, ""), 0);
	assert_int_equal(mno_cipher_rewrap(c, env, k), -EROFS);
	assert_int_equal(mno_cipher_erase(env), -EROFS);
	assert_int_equal(mount("none", path, "tmpfs", MS_REMOUNT, ""), 0);
	assert_int_equal(mno_cipher_erase(env), 0);
	close(env);
	mno_cipher_close(c);
	mno_keys_close(k);
}

/* An O_PATH descriptor finds files, but cannot be synced: the step after the rename fails. */
static void test_dir_sync_fails(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct mno_cipher *c = NULL;
	int dir = openat(r->fd, "main", O_PATH | O_DIRECTORY);

	assert_int_equal(mno_cipher_create(k, r->env, env_a, MNO_SUITE_AUTO, &c), 0);
	assert_int_equal(mno_cipher_erase(dir), -EBADF);
	assert_false(rig_has(r->env, "key"));
	mno_cipher_close(c);
	close(dir);
	mno_keys_close(k);
}

/* --- threads ------------------------------------------------------------------------------------- */
struct load {
	struct mno_cipher *c;
	_Atomic bool stop;
	_Atomic uint64_t opened, gone;
};

static void *sealer(void *arg)
{
	struct load *l = arg;
	uint8_t v[64] = {0}, out[64];
	struct mno_seal_tag t;

	while (!l->stop) {
		int r;

		if (mno_cipher_seal(l->c, "a", 1, v, sizeof(v), out, &t))
			abort();
		r = mno_cipher_open_value(l->c, &t, "a", 1, out, sizeof(out), out);
		if (r == -ENOKEY)
			l->gone++;
		else if (r || memcmp(out, v, sizeof(v)))
			abort();
		else
			l->opened++;
	}
	return NULL;
}

/* Keys come and go under sealing threads: no value opens wrong, no freed key is touched. */
static void test_threads(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	struct load l = {.c = cipher(r, k, MNO_SUITE_AUTO)};
	pthread_t t[3];
	uint8_t id, old;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, sealer, &l), 0);
	for (int n = 0; n < 300; n++) {
		old = mno_cipher_current(l.c);
		assert_int_equal(mno_cipher_add(l.c, r->env, k, &id), 0);
		assert_int_equal(mno_cipher_drop(l.c, r->env, k, old), 0);
	}
	l.stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	assert_true(l.opened > 100);
	print_message("%llu values opened, %llu after their key was dropped\n",
		(unsigned long long)l.opened, (unsigned long long)l.gone);
	mno_cipher_close(l.c);
	mno_keys_close(k);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_roundtrip),
		T(test_bit_flips),
		T(test_swapped),
		T(test_nonces),
		T(test_file_damage),
		T(test_file_forged),
		T(test_rotate_data_keys),
		T(test_wrong_kek),
		T(test_create_twice),
		T(test_erase),
		T(test_write_fails),
		T(test_disk_full),
		T(test_dir_sync_fails),
		T(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
