/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KEK from a passphrase in a file, by Argon2id. Salt, cost and the id of the right KEK are in
 * keys/argon2, so a wrong passphrase is told at once. 8 passes over 64 MiB: above the second
 * choice of RFC 9106, section 4, for hosts where memory is short; for the time of the start only.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "../crypt_internal.h"
#include "mno/err.h"
#include "mno/log.h"

#define COST_OPS       8
#define COST_MEM       (64ULL << 20)
#define OPS_MAX        64 /* bounds of what a record may ask for */
#define MEM_MAX        (1ULL << 30)
#define PASSPHRASE_MAX 4096

static const char own[] = "argon2";

static int read_passphrase(const char *path, char *text, size_t *ret_n)
{
	size_t n = 0;
	int r = small_read(-1, path, FILE_PRIVATE, text, PASSPHRASE_MAX, &n);

	if (r < 0 && r != -EFBIG && r != -EKEYREJECTED)
		mno_err("the file %s with the passphrase cannot be read: %s", path,
			mno_strerror(r));
	if (r == -ENOENT)
		return -ENOKEY;
	while (r == 0 && n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	if (r == -EFBIG || (r == 0 && n == 0)) {
		mno_err("the passphrase in %s must have 1 to %d bytes", path, PASSPHRASE_MAX);
		return -EKEYREJECTED;
	}
	*ret_n = n;
	return r;
}

static int stretch(const struct record *rec, struct mno_keys *k)
{
	char *text = guarded_new(PASSPHRASE_MAX);
	size_t n = 0;
	int r;

	if (!text)
		return -ENOMEM;
	r = read_passphrase(k->name, text, &n);
	if (r == 0 && crypto_pwhash(k->kek, sizeof(k->kek), text, n, rec->salt, rec->ops, rec->mem,
			      crypto_pwhash_ALG_ARGON2ID13))
		r = -ENOMEM;
	sodium_free(text);
	return r;
}

static int record_at(const struct key_place *at, struct record *ret)
{
	char path[32];
	int r;

	snprintf(path, sizeof(path), "%s%s", own, at->suffix);
	r = record_read(at->keys_fd, path, ret);
	if (r < 0)
		return r;
	if (!ret->ops || ret->ops > OPS_MAX || ret->mem < crypto_pwhash_MEMLIMIT_MIN ||
		ret->mem > MEM_MAX)
		return -MNO_ECORRUPT;
	return 0;
}

static int passphrase_load(const struct key_place *at, struct mno_keys *k)
{
	struct record rec;
	int r = record_at(at, &rec);

	if (r == 0)
		r = stretch(&rec, k);
	if (r < 0)
		return r;
	keys_identify(k);
	if (memcmp(k->id, rec.id, sizeof(rec.id))) {
		mno_err("the passphrase in %s is not the one of this store", k->name);
		return -ENOKEY;
	}
	return 0;
}

static int passphrase_make(const struct key_place *at, struct mno_keys *k)
{
	struct record rec = {.source = MNO_KEY_PASSPHRASE, .ops = COST_OPS, .mem = COST_MEM};
	char path[32];
	int r;

	randombytes_buf(rec.salt, sizeof(rec.salt));
	r = stretch(&rec, k);
	if (r < 0)
		return r;
	keys_identify(k);
	memcpy(rec.id, k->id, sizeof(rec.id));
	snprintf(path, sizeof(path), "%s%s", own, at->suffix);
	return record_write(at->keys_fd, path, &rec);
}

static int passphrase_peek(const struct key_place *at, uint8_t ret_id[MNO_KEY_ID_BYTES])
{
	struct record rec;
	int r = record_at(at, &rec);

	if (r == 0)
		memcpy(ret_id, rec.id, sizeof(rec.id));
	return r;
}

const struct key_source key_source_passphrase = {
	"passphrase", own, passphrase_load, passphrase_make, passphrase_peek};
