/* SPDX-License-Identifier: Apache-2.0 */
/* Key-encryption keys: each source, what is refused, rotation and each place where it may end. */
#include <linux/keyctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>
#include "rig.h"
#include "../../../libmno/src/crypt/crypt_internal.h"

static struct mno_keys_opts opts(enum mno_key_source s, const char *name)
{
	return (struct mno_keys_opts){
		.sz = sizeof(struct mno_keys_opts), .source = s, .name = name};
}

/* Opens by @o and gives the result; the id into @id if it went well. */
static int try_open(struct rig *r, const struct mno_keys_opts *o, bool create, uint8_t id[8])
{
	struct mno_keys *k = NULL;
	int e = mno_keys_open(r->fd, o, create, &k);

	if (e == 0)
		memcpy(id, mno_keys_id(k), 8);
	else
		assert_null(k);
	mno_keys_close(k);
	return e;
}

static void test_file(void **state)
{
	struct rig *r = *state;
	struct mno_keys_opts named = opts(MNO_KEY_FILE, "keys/kek");
	uint8_t id[8], id2[8], kek[40], data[64];
	struct stat st;

	assert_int_equal(try_open(r, NULL, false, id), -ENOENT);
	assert_false(rig_has(r->fd, "keys"));
	assert_int_equal(try_open(r, NULL, true, id), 0);
	assert_int_equal(fstatat(r->fd, "keys", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(fstatat(r->fd, "keys/kek", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 32);
	assert_int_equal(try_open(r, NULL, true, id2), 0);
	assert_memory_equal(id, id2, 8);
	assert_int_equal(try_open(r, &named, false, id2), 0);
	assert_memory_equal(id, id2, 8);
	/* the name of the key gives none of its bytes away */
	assert_int_equal(rig_read(r->fd, "keys/kek", kek, sizeof(kek)), 32);
	assert_memory_not_equal(kek, id, 8);

	/* too open, too short, too long, no file at all */
	rig_write(r->fd, "keys/kek", kek, 32, 0640);
	assert_int_equal(try_open(r, NULL, true, id2), -EKEYREJECTED);
	rig_logged(r, "can be read by others (mode 0640)");
	rig_write(r->fd, "keys/kek", kek, 31, 0600);
	assert_int_equal(try_open(r, NULL, true, id2), -EKEYREJECTED);
	rig_write(r->fd, "keys/kek", kek, 33, 0600);
	assert_int_equal(try_open(r, NULL, true, id2), -EKEYREJECTED);
	rig_logged(r, "does not have 32 bytes");
	assert_int_equal(unlinkat(r->fd, "keys/kek", 0), 0);
	assert_int_equal(mkdirat(r->fd, "keys/kek", 0700), 0);
	assert_int_equal(try_open(r, NULL, true, id2), -EKEYREJECTED);
	assert_int_equal(unlinkat(r->fd, "keys/kek", AT_REMOVEDIR), 0);
	/* lost: another is never made in its place */
	assert_int_equal(try_open(r, NULL, true, id2), -ENOKEY);
	rig_logged(r, "this store wants the key");
	assert_false(rig_has(r->fd, "keys/kek"));
	/* another one in its place */
	memset(data, 7, sizeof(data));
	rig_write(r->fd, "keys/kek", data, 32, 0600);
	assert_int_equal(try_open(r, NULL, true, id2), -ENOKEY);
	rig_write(r->fd, "keys/kek", kek, 32, 0600);
	assert_int_equal(try_open(r, NULL, false, id2), 0);
	assert_memory_equal(id, id2, 8);
	assert_int_equal(fchmodat(r->fd, "keys", 0750, 0), 0);
	assert_int_equal(try_open(r, NULL, false, id2), -EKEYREJECTED);
	rig_logged(r, "chmod 0700");
}

static void test_file_elsewhere(void **state)
{
	struct rig *r = *state;
	char path[96];
	struct mno_keys_opts o = opts(MNO_KEY_FILE, path);
	uint8_t id[8], id2[8];

	snprintf(path, sizeof(path), "%s/no/kek", r->dir);
	assert_int_equal(try_open(r, &o, true, id), -ENOENT);
	snprintf(path, sizeof(path), "%s/my-kek", r->dir);
	assert_int_equal(try_open(r, &o, true, id), 0);
	assert_true(rig_has(r->fd, "my-kek"));
	assert_false(rig_has(r->fd, "keys/kek"));
	assert_int_equal(try_open(r, &o, false, id2), 0);
	assert_memory_equal(id, id2, 8);
	/* without its name: says where the key is */
	assert_int_equal(try_open(r, NULL, true, id2), -ENOKEY);
	rig_logged(r, path);
	/* the same key moved: fine, and the record follows */
	assert_int_equal(renameat(r->fd, "my-kek", r->fd, "keys/kek"), 0);
	assert_int_equal(try_open(r, NULL, true, id2), 0);
	assert_memory_equal(id, id2, 8);
	strcpy(path, "relative/kek");
	assert_int_equal(try_open(r, &o, true, id2), -EINVAL);
	strcpy(path, "/new\nline");
	assert_int_equal(try_open(r, &o, true, id2), -EINVAL);
	o.source = 17;
	assert_int_equal(try_open(r, &o, true, id2), -EINVAL);
}

static void test_passphrase(void **state)
{
	struct rig *r = *state;
	char path[96];
	struct mno_keys_opts o = opts(MNO_KEY_PASSPHRASE, path);
	uint8_t id[8], id2[8], salt[1024], salt2[1024];
	clock_t t;
	size_t n;

	snprintf(path, sizeof(path), "%s/phrase", r->dir);
	assert_int_equal(try_open(r, &o, true, id), -ENOKEY);
	rig_logged(r, "cannot be read");
	rig_write(r->fd, "phrase", "\n", 1, 0600);
	assert_int_equal(try_open(r, &o, true, id), -EKEYREJECTED);
	rig_write(r->fd, "phrase", "correct horse", 13, 0644);
	assert_int_equal(try_open(r, &o, true, id), -EKEYREJECTED);
	assert_false(rig_has(r->fd, "keys/argon2"));
	rig_write(r->fd, "phrase", "correct horse", 13, 0400);
	t = clock();
	assert_int_equal(try_open(r, &o, true, id), 0);
	print_message("Argon2id: %.3f s of CPU\n", (double)(clock() - t) / CLOCKS_PER_SEC);
	/* the end of the line does not count, a wrong one is told */
	rig_write(r->fd, "phrase", "correct horse\r\n", 15, 0600);
	assert_int_equal(try_open(r, &o, false, id2), 0);
	assert_memory_equal(id, id2, 8);
	rig_write(r->fd, "phrase", "correct hors", 12, 0600);
	assert_int_equal(try_open(r, &o, true, id2), -ENOKEY);
	rig_logged(r, "is not the one of this store");
	assert_int_equal(unlinkat(r->fd, "phrase", 0), 0);
	assert_int_equal(try_open(r, &o, true, id2), -ENOKEY);
	/* each store has its own salt */
	n = rig_read(r->fd, "keys/argon2", salt, sizeof(salt));
	unlinkat(r->fd, "keys/argon2", 0);
	unlinkat(r->fd, "keys/current", 0);
	rig_write(r->fd, "phrase", "correct horse", 13, 0600);
	assert_int_equal(try_open(r, &o, true, id2), 0);
	assert_memory_not_equal(id, id2, 8);
	assert_int_equal(rig_read(r->fd, "keys/argon2", salt2, sizeof(salt2)), n);
	assert_memory_not_equal(salt, salt2, n);
}

static void test_credential(void **state)
{
	static const char hex[] =
		"000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F\n";
	struct rig *r = *state;
	struct mno_keys_opts o = opts(MNO_KEY_CREDENTIAL, "mno.kek");
	uint8_t id[8], id2[8], raw[32];

	unsetenv("CREDENTIALS_DIRECTORY");
	assert_int_equal(try_open(r, &o, true, id), -ENOKEY);
	rig_logged(r, "CREDENTIALS_DIRECTORY is not set");
	setenv("CREDENTIALS_DIRECTORY", r->dir, 1);
	assert_int_equal(try_open(r, &o, true, id), -ENOKEY);
	for (uint8_t i = 0; i < 32; i++)
		raw[i] = i;
	rig_write(r->fd, "mno.kek", raw, 32, 0440);
	assert_int_equal(try_open(r, &o, true, id), 0);
	/* the same key in digits */
	rig_write(r->fd, "mno.kek", hex, 65, 0400);
	assert_int_equal(try_open(r, &o, true, id2), 0);
	assert_memory_equal(id, id2, 8);
	rig_write(r->fd, "mno.kek", hex, 64, 0444);
	assert_int_equal(try_open(r, &o, true, id2), -EKEYREJECTED);
	for (size_t n = 0; n < 80; n++) {
		char text[80] = "";

		memset(text, 'g', sizeof(text));
		if (n == 32)
			continue;
		rig_write(r->fd, "mno.kek", text, n, 0400);
		assert_int_equal(try_open(r, &o, true, id2), -EKEYREJECTED);
	}
	rig_logged(r, "32 bytes or 64 hexadecimal digits");
	o.name = "../main/x";
	assert_int_equal(try_open(r, &o, true, id2), -EINVAL);
	o.name = "";
	assert_int_equal(try_open(r, &o, true, id2), -EINVAL);
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void test_keyring(void **state)
{
	struct rig *r = *state;
	struct mno_keys_opts o = opts(MNO_KEY_KEYRING, "mno-test-kek");
	uint8_t kek[33], id[8], id2[8];
	long key;

	memset(kek, 5, sizeof(kek));
	/* a session keyring of this process's own: nothing is left behind */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0) {
		print_message("left out: no kernel keyrings here: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(try_open(r, &o, true, id), -ENOKEY);
	rig_logged(r, "is not in the kernel's keyrings");
	key = syscall(SYS_add_key, "user", "mno-test-kek", kek, 32, KEY_SPEC_SESSION_KEYRING);
	assert_true(key > 0);
	assert_int_equal(try_open(r, &o, true, id), 0);
	assert_int_equal(try_open(r, &o, false, id2), 0);
	assert_memory_equal(id, id2, 8);
	for (size_t n = 1; n < 34; n += n == 31 ? 2 : 1) {
		assert_true(syscall(SYS_add_key, "user", "mno-test-kek", kek, n,
				    KEY_SPEC_SESSION_KEYRING) > 0);
		assert_int_equal(try_open(r, &o, true, id2), -EKEYREJECTED);
	}
	kek[0]++;
	syscall(SYS_add_key, "user", "mno-test-kek", kek, 32, KEY_SPEC_SESSION_KEYRING);
	assert_int_equal(try_open(r, &o, true, id2), -ENOKEY);
	rig_logged(r, "this store wants the key");
}

/* A key of the user that no session of this process is linked to, as for a service. */
static void test_keyring_of_user(void **state)
{
	struct rig *r = *state;
	char name[32];
	struct mno_keys_opts o = opts(MNO_KEY_KEYRING, name);
	uint8_t kek[32] = {6}, id[8];
	long key;
	int e;

	snprintf(name, sizeof(name), "mno-test-kek-%d", getpid());
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0) {
		print_message("left out: no kernel keyrings here: %s\n", strerror(errno));
		skip();
	}
	key = syscall(SYS_add_key, "user", name, kek, sizeof(kek), KEY_SPEC_USER_KEYRING);
	assert_true(key > 0);
	e = try_open(r, &o, true, id);
	syscall(SYS_keyctl, KEYCTL_UNLINK, key, KEY_SPEC_USER_KEYRING);
	assert_int_equal(e, 0);
	assert_int_equal(try_open(r, &o, true, id), -ENOKEY); /* nothing of it is kept */
}

static void test_wrong_source(void **state)
{
	struct rig *r = *state;
	char path[96];
	struct mno_keys_opts phrase = opts(MNO_KEY_PASSPHRASE, path);
	struct mno_keys *k = NULL;
	uint8_t id[8], id2[8];

	assert_int_equal(try_open(r, NULL, true, id), 0);
	snprintf(path, sizeof(path), "%s/phrase", r->dir);
	rig_write(r->fd, "phrase", "x", 1, 0600);
	assert_int_equal(try_open(r, &phrase, true, id2), -ENOKEY);
	rig_logged(r, "(source file), which was not had from passphrase");
	assert_false(rig_has(r->fd, "keys/argon2"));
	assert_int_equal(mno_keys_open_recorded(r->fd, &k), 0);
	assert_memory_equal(mno_keys_id(k), id, 8);
	mno_keys_close(k);
}

/* Every bit of a record counts; without the record the key itself is enough. */
static void test_record_damage(void **state)
{
	struct rig *r = *state;
	uint8_t good[1024], bad[1024], id[8], id2[8];
	struct record rec;
	size_t n;

	assert_int_equal(try_open(r, NULL, true, id), 0);
	n = rig_read(r->fd, "keys/current", good, sizeof(good));
	for (size_t bit = 0; bit < n * 8; bit++) {
		memcpy(bad, good, n);
		bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(record_parse(bad, n, &rec), -MNO_ECORRUPT);
	}
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(record_parse(good, cut, &rec), -MNO_ECORRUPT);
	assert_int_equal(record_parse(good, n, &rec), 0);
	bad[0] ^= 1;
	rig_write(r->fd, "keys/current", bad, n, 0600);
	assert_int_equal(try_open(r, NULL, true, id2), -MNO_ECORRUPT);
	rig_logged(r, "keys/current is damaged");
	unlinkat(r->fd, "keys/current", 0);
	assert_int_equal(try_open(r, NULL, false, id2), 0);
	assert_false(rig_has(r->fd, "keys/current"));
	/* the first start was cut off between the key and the record */
	assert_int_equal(try_open(r, NULL, true, id2), 0);
	assert_memory_equal(id, id2, 8);
	assert_int_equal(rig_read(r->fd, "keys/current", bad, sizeof(bad)), n);
	assert_memory_equal(bad, good, n);
}

static void test_record_newer(void **state)
{
	struct rig *r = *state;
	char text[256] = "mno-keys 2\nsource moon\nsum ";
	size_t n = strlen(text);
	uint8_t sum[CHECKSUM], id[8];

	assert_int_equal(try_open(r, NULL, true, id), 0);
	crypto_generichash_blake2b(sum, sizeof(sum), (uint8_t *)text, n - 4, NULL, 0);
	sodium_bin2hex(text + n, sizeof(text) - n, sum, sizeof(sum));
	strcat(text, "\n");
	rig_write(r->fd, "keys/current", text, strlen(text), 0600);
	assert_int_equal(try_open(r, NULL, true, id), -MNO_EVERSION);
	rig_logged(r, "newer version");
}

static void test_derive(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r), *next = NULL;
	uint8_t a[32], b[32];

	assert_int_equal(mno_keys_derive(k, "fingerpr", 0, a, 32), 0);
	assert_int_equal(mno_keys_derive(k, "fingerpr", 0, b, 32), 0);
	assert_memory_equal(a, b, 32);
	assert_int_equal(mno_keys_derive(k, "fingerpr", 1, b, 32), 0);
	assert_memory_not_equal(a, b, 32);
	assert_int_equal(mno_keys_derive(k, "manifest", 0, b, 32), 0);
	assert_memory_not_equal(a, b, 32);
	assert_int_equal(mno_keys_replace(r->fd, NULL, &next), 0);
	assert_int_equal(mno_keys_derive(next, "fingerpr", 0, b, 32), 0);
	assert_memory_not_equal(a, b, 32);
	assert_int_equal(mno_keys_derive(k, "fingerpr", 0, b, 15), -EINVAL);
	assert_int_equal(mno_keys_derive(k, "fingerpr", 0, b, 65), -EINVAL);
	/* the secrets that wrap data keys are not to be had */
	assert_int_equal(mno_keys_derive(k, "mno:wrap", 0, b, 32), -EINVAL);
	mno_keys_close(next);
	mno_keys_close(k);
}

/* --- rotation ------------------------------------------------------------------------------------ */
static struct mno_keys *pending(struct rig *r)
{
	struct mno_keys *k = NULL;

	assert_int_equal(mno_keys_open_next(r->fd, &k), 0);
	return k;
}

static void id_is(const struct mno_keys *k, const uint8_t id[8])
{
	assert_memory_equal(mno_keys_id(k), id, 8);
}

static void test_rotate(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r), *next = NULL, *again = NULL;
	uint8_t old[8], new[8], id[8], bytes[32];
	int held;

	memcpy(old, mno_keys_id(k), 8);
	assert_int_equal(mno_keys_open_next(r->fd, &again), -ENOENT);
	assert_int_equal(mno_keys_commit(r->fd, k), -EINVAL);
	assert_int_equal(mno_keys_replace(r->fd, NULL, &next), 0);
	memcpy(new, mno_keys_id(next), 8);
	/* a second one would take away the first one's key */
	assert_int_equal(mno_keys_replace(r->fd, NULL, &again), -EBUSY);
	assert_int_equal(mno_keys_commit(r->fd, k), -EINVAL);
	/* a crash here: both are to be had */
	assert_int_equal(try_open(r, NULL, true, id), 0);
	assert_memory_equal(id, old, 8);
	again = pending(r);
	id_is(again, new);
	mno_keys_close(again);
	held = openat(r->fd, "keys/kek", O_RDONLY);
	assert_int_equal(mno_keys_commit(r->fd, next), 0);
	assert_int_equal(try_open(r, NULL, false, id), 0);
	assert_memory_equal(id, new, 8);
	assert_int_equal(mno_keys_open_next(r->fd, &again), -ENOENT);
	assert_false(rig_has(r->fd, "keys/kek.next"));
	assert_false(rig_has(r->fd, "keys/next"));
	/* the old key's bytes are gone */
	assert_int_equal(read(held, bytes, 32), 32);
	for (size_t i = 0; i < 32; i++)
		assert_int_equal(bytes[i], 0);
	close(held);
	mno_keys_close(next);
	mno_keys_close(k);
}

/* The state of the directory after each step of replace and commit, as a kill leaves it. */
static void test_rotate_killed(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r), *next = NULL, *again = NULL;
	uint8_t old[8], new[8], id[8];

	memcpy(old, mno_keys_id(k), 8);
	/* 1: in the middle of the temporary file; 2: the key, but not the record */
	rig_write(r->fd, "keys/kek.next.tmp", "half a key", 10, 0600);
	assert_int_equal(try_open(r, NULL, true, id), 0);
	assert_int_equal(mno_keys_open_next(r->fd, &again), -ENOENT);
	rig_write(r->fd, "keys/kek.next", "0123456789abcdef0123456789abcdef", 32, 0600);
	assert_int_equal(try_open(r, NULL, true, id), 0);
	assert_memory_equal(id, old, 8);
	assert_int_equal(mno_keys_open_next(r->fd, &again), -ENOENT);
	assert_int_equal(mno_keys_replace(r->fd, NULL, &next), 0);
	memcpy(new, mno_keys_id(next), 8);
	/* 3: the record is renamed, the key's file is not: without writing, then with it */
	assert_int_equal(renameat(r->fd, "keys/next", r->fd, "keys/current"), 0);
	assert_int_equal(try_open(r, NULL, false, id), 0);
	assert_memory_equal(id, new, 8);
	assert_true(rig_has(r->fd, "keys/kek.next"));
	assert_int_equal(mno_keys_open_recorded(r->fd, &again), 0);
	id_is(again, new);
	again = mno_keys_close(again);
	/* a new rotation from there must not lose that key */
	mno_keys_close(next);
	next = NULL;
	assert_int_equal(mno_keys_replace(r->fd, NULL, &next), 0);
	assert_int_equal(try_open(r, NULL, true, id), 0);
	assert_memory_equal(id, new, 8);
	/* 3 again, with the start that puts it in order */
	memcpy(new, mno_keys_id(next), 8);
	assert_int_equal(renameat(r->fd, "keys/next", r->fd, "keys/current"), 0);
	assert_int_equal(try_open(r, NULL, true, id), 0);
	assert_memory_equal(id, new, 8);
	assert_false(rig_has(r->fd, "keys/kek.next"));
	assert_int_equal(try_open(r, NULL, false, id), 0);
	mno_keys_close(next);
	mno_keys_close(k);
}

/* The pending key lost or exchanged: said, and the old one still opens. */
static void test_pending_lost(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r), *next = NULL, *again = NULL;
	uint8_t id[8];

	assert_int_equal(mno_keys_replace(r->fd, NULL, &next), 0);
	rig_write(r->fd, "keys/kek.next", "0123456789abcdef0123456789abcdef", 32, 0600);
	assert_int_equal(mno_keys_open_next(r->fd, &again), -ENOKEY);
	rig_logged(r, "change of keys under way");
	unlinkat(r->fd, "keys/kek.next", 0);
	assert_int_equal(mno_keys_open_next(r->fd, &again), -ENOKEY);
	assert_int_equal(try_open(r, NULL, true, id), 0);
	id_is(k, id);
	mno_keys_close(next);
	mno_keys_close(k);
}

/* One rotation to @o, with a crash before the commit; ends in @o being the store's key. */
static void rotate_to(
	struct rig *r, const struct mno_keys_opts *before, const struct mno_keys_opts *o)
{
	struct mno_keys *next = NULL, *again;
	uint8_t old[8], id[8];

	assert_int_equal(try_open(r, before, true, old), 0);
	assert_int_equal(mno_keys_replace(r->fd, o, &next), 0);
	assert_int_equal(try_open(r, before, true, id), 0);
	assert_memory_equal(id, old, 8);
	again = pending(r);
	id_is(again, mno_keys_id(next));
	assert_int_equal(mno_keys_commit(r->fd, again), 0);
	assert_int_equal(try_open(r, o, true, id), 0);
	id_is(again, id);
	mno_keys_close(again);
	mno_keys_close(next);
}

static void test_rotate_sources(void **state)
{
	struct rig *r = *state;
	char path[96], phrase_path[96];
	struct mno_keys_opts file = opts(MNO_KEY_FILE, NULL), other = opts(MNO_KEY_FILE, path),
			     phrase = opts(MNO_KEY_PASSPHRASE, phrase_path),
			     cred = opts(MNO_KEY_CREDENTIAL, "cred");
	struct mno_keys *k = NULL;
	uint8_t id[8];

	snprintf(path, sizeof(path), "%s/elsewhere", r->dir);
	snprintf(phrase_path, sizeof(phrase_path), "%s/phrase", r->dir);
	rig_write(r->fd, "phrase", "a phrase", 8, 0600);
	rig_write(r->fd, "cred", "0123456789abcdef0123456789abcdef", 32, 0400);
	setenv("CREDENTIALS_DIRECTORY", r->dir, 1);
	rotate_to(r, &file, &phrase);
	assert_false(rig_has(r->fd, "keys/kek"));
	assert_int_equal(try_open(r, &file, true, id), -ENOKEY);
	rotate_to(r, &phrase, &phrase); /* the same phrase with a new salt is another key */
	assert_false(rig_has(r->fd, "keys/argon2.next"));
	rotate_to(r, &phrase, &cred);
	assert_false(rig_has(r->fd, "keys/argon2"));
	assert_int_equal(mno_keys_replace(r->fd, &cred, &k), -EEXIST);
	rotate_to(r, &cred, &other);
	assert_int_equal(mno_keys_replace(r->fd, &other, &k), -EEXIST);
	rotate_to(r, &other, &file);
	assert_true(rig_has(r->fd, "elsewhere")); /* not ours to remove */
	snprintf(path, sizeof(path), "%s/elsewhere-2", r->dir);
	rotate_to(r, &file, &other);
	assert_false(rig_has(r->fd, "keys/kek"));
	unsetenv("CREDENTIALS_DIRECTORY");
}

/* Environments under both keys, as a crash in the middle of rewrapping leaves them. */
static void test_rewrap_killed(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r), *next = NULL;
	struct mno_cipher *c[2] = {0};
	struct mno_seal_tag t[2];
	uint8_t v[2][8], out[8];
	int env[2] = {r->env};

	assert_int_equal(mkdirat(r->fd, "docs", 0700), 0);
	env[1] = openat(r->fd, "docs", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			mno_cipher_create(k, env[i], i ? env_b : env_a, MNO_SUITE_AUTO, &c[i]), 0);
		assert_int_equal(mno_cipher_seal(c[i], "k", 1, "a value", 8, v[i], &t[i]), 0);
	}
	assert_int_equal(mno_keys_replace(r->fd, NULL, &next), 0);
	assert_int_equal(mno_cipher_rewrap(c[0], env[0], next), 0);
	/* a crash in the writing of the second one's file */
	rig_write(env[1], "key.tmp", "mnokey", 6, 0600);
	for (int i = 0; i < 2; i++)
		c[i] = mno_cipher_close(c[i]);
	mno_keys_close(k);
	mno_keys_close(next);
	k = rig_keys(r);
	next = pending(r);
	for (int i = 0; i < 2; i++) {
		const uint8_t *id = i ? env_b : env_a;

		assert_int_equal(mno_cipher_open(i ? next : k, env[i], id, &c[i]), -ENOKEY);
		assert_int_equal(mno_cipher_open(i ? k : next, env[i], id, &c[i]), 0);
		assert_int_equal(mno_cipher_rewrap(c[i], env[i], next), 0);
		mno_cipher_close(c[i]);
	}
	assert_int_equal(mno_keys_commit(r->fd, next), 0);
	mno_keys_close(k);
	mno_keys_close(next);
	k = rig_keys(r);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(mno_cipher_open(k, env[i], i ? env_b : env_a, &c[i]), 0);
		assert_int_equal(mno_cipher_open_value(c[i], &t[i], "k", 1, v[i], 8, out), 0);
		assert_string_equal((char *)out, "a value");
		mno_cipher_close(c[i]);
	}
	assert_false(rig_has(env[1], "key.tmp"));
	mno_keys_close(k);
	close(env[1]);
}

/* --- memory ---------------------------------------------------------------------------------------- */
/* Flags of the mapping that holds @p, from /proc/self/smaps. */
static void mapping_flags(const void *p, char *flags, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	bool in = false;

	assert_non_null(f);
	*flags = '\0';
	while (fgets(line, sizeof(line), f)) {
		unsigned long a, b;

		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			in = a <= (unsigned long)p && (unsigned long)p < b;
		else if (in && !strncmp(line, "VmFlags:", 8))
			snprintf(flags, size, "%s", line + 8);
	}
	fclose(f);
}

static void test_guarded(void **state)
{
	struct rig *r = *state;
	struct mno_keys *k = rig_keys(r);
	char flags[512], own[512];
	void *page;

	mapping_flags(k, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd")); /* left out of dumps */
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(page != MAP_FAILED);
	assert_int_equal(mlock(page, 4096), 0);
	mapping_flags(page, own, sizeof(own));
	if (strstr(own, " lo"))
		assert_non_null(strstr(flags, " lo")); /* locked */
	else
		print_message("left out: locking, which the sanitizer leaves to itself\n");
	munmap(page, 4096);
	mno_keys_close(k);
}

static void test_no_core(void **state)
{
	struct rlimit l;
	int status;

	if (fork() == 0) {
		mno_crypt_no_core();
		if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) || getrlimit(RLIMIT_CORE, &l) || l.rlim_max)
			_exit(1);
		_exit(access("/proc/self/maps", R_OK) ? 2 : 0);
	}
	wait(&status);
	assert_int_equal(status, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_file),
		T(test_file_elsewhere),
		T(test_passphrase),
		T(test_credential),
		T(test_keyring),
		T(test_keyring_of_user),
		T(test_wrong_source),
		T(test_record_damage),
		T(test_record_newer),
		T(test_derive),
		T(test_rotate),
		T(test_rotate_killed),
		T(test_pending_lost),
		T(test_rotate_sources),
		T(test_rewrap_killed),
		T(test_guarded),
		T(test_no_core),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
