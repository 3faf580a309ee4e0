/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of this module. */
#pragma once

#include <sodium.h>
#include "crypt.h"

#define KEK_BYTES    32
#define KEY_NAME_MAX 501 /* with its NUL */
#define CHECKSUM     16

struct mno_keys { /* in guarded memory */
	uint8_t kek[KEK_BYTES];
	uint8_t id[MNO_KEY_ID_BYTES];
	enum mno_key_source source;
	char name[KEY_NAME_MAX];
};

/* Guarded memory, zeroed, locked if the limit allows it; NULL. sodium_free() wipes it. */
void *guarded_new(size_t size);

/* --- files.c: small files, whole and durable ------------------------------------------------- */
/* Says which file is meant; @what for log lines. */
enum file_secrecy { FILE_OPEN, FILE_PRIVATE /* no rights for group and others */, FILE_NOT_OTHERS };
/*
 * Reads a regular file of at most @max bytes into @buf. -EFBIG longer; -EKEYREJECTED rights too
 * wide or no regular file (log line); -errno.
 */
int small_read(
	int dir_fd, const char *path, enum file_secrecy s, void *buf, size_t max, size_t *ret_n);
/*
 * Replaces the file: "PATH.tmp" in the same directory, fsync, rename, fsync of the directory.
 * *@ret_renamed (may be NULL) tells whether the rename was done. -errno: no temporary file is left.
 */
int small_write(int dir_fd, const char *path, const void *p, size_t n, bool *ret_renamed);
/* Overwrites with zeros, fsync, unlink. -ENOENT, -errno. The directory is the caller's to sync. */
int small_erase(int dir_fd, const char *path);
/* Overwrites an open file with zeros, fsync. */
int small_overwrite(int fd);
int dir_sync(int dir_fd);

/* --- record.c: lines "field value" with a checksum -------------------------------------------- */
#define RECORD_MAX 2048
struct record {
	enum mno_key_source source;
	char name[KEY_NAME_MAX];
	uint8_t id[MNO_KEY_ID_BYTES];
	uint8_t salt[16];
	uint64_t ops, mem; /* of Argon2id; 0: a record without them */
};
/* -MNO_ECORRUPT, -MNO_EVERSION. Pure. */
int record_parse(const uint8_t *p, size_t n, struct record *ret);
/* -ENOENT, -MNO_ECORRUPT, -MNO_EVERSION (both with a log line), -errno. */
int record_read(int keys_fd, const char *path, struct record *ret);
int record_write(int keys_fd, const char *path, const struct record *rec);

/* --- sources ----------------------------------------------------------------------------------- */
/* Where a source may look: @suffix "" or ".next" of its file in the directory of keys. */
struct key_place {
	int keys_fd;
	const char *suffix;
};
struct key_source {
	const char *name;
	const char *file; /* its file in the directory of keys, NULL if none */
	/* Fills k->kek by k->name. -ENOENT: there is none yet; -ENOKEY, -EKEYREJECTED, -errno. */
	int (*load)(const struct key_place *at, struct mno_keys *k);
	/* Makes a new one, durably; NULL: this source cannot. */
	int (*make)(const struct key_place *at, struct mno_keys *k);
	/* Id of the KEK that its file is for, without secrets of others; NULL: no file. -ENOENT. */
	int (*peek)(const struct key_place *at, uint8_t ret_id[MNO_KEY_ID_BYTES]);
};
#define SOURCE(id, name) extern const struct key_source key_source_##name;
#include "sources.def"
#undef SOURCE
/* NULL: no such source. */
const struct key_source *key_source(enum mno_key_source s);
const char *key_source_name(enum mno_key_source s);
/* k->id from k->kek. */
void keys_identify(struct mno_keys *k);
/* 32 bytes, or 64 hexadecimal digits with an optional line end, into @kek. -EKEYREJECTED. */
int kek_parse(const uint8_t *p, size_t n, uint8_t kek[KEK_BYTES]);

/* --- keyfile.c: the wrapped data keys of an environment ---------------------------------------- */
#define DEK_BYTES      32
#define KEYFILE_HEAD   40
#define KEYFILE_ENTRY  80
#define KEYFILE_MAC    32
#define KEYFILE_MAX    (KEYFILE_HEAD + MNO_CIPHER_KEYS * KEYFILE_ENTRY + KEYFILE_MAC + CHECKSUM)
#define KEYFILE_FORMAT 1
struct keyfile_entry {
	uint8_t id, suite;
	const uint8_t *nonce, *box; /* 24 and 32 + 16 bytes, borrowed from the file's bytes */
};
struct keyfile {
	uint8_t env_id[16], kek_id[MNO_KEY_ID_BYTES];
	uint8_t current, last; /* ids; last: the one given out last */
	unsigned n;
	struct keyfile_entry e[MNO_CIPHER_KEYS]; /* ids ascending */
};
/* What can be said without the KEK. -MNO_ECORRUPT, -MNO_EVERSION. Pure. */
int keyfile_parse(const uint8_t *p, size_t n, struct keyfile *ret);
/* Whether the KEK made these bytes. -MNO_ECORRUPT. */
int keyfile_verify(const struct mno_keys *k, const uint8_t *p, size_t n);
int keyfile_unwrap(const struct mno_keys *k, const struct keyfile *f, const struct keyfile_entry *e,
	uint8_t dek[DEK_BYTES]);
/* Writing: begin, add one by one in ascending order, end. @p has KEYFILE_MAX bytes. */
size_t keyfile_begin(uint8_t *p, const struct mno_keys *k, const struct keyfile *f);
size_t keyfile_add(uint8_t *p, size_t at, const struct mno_keys *k, const struct keyfile *f,
	uint8_t id, uint8_t suite, const uint8_t dek[DEK_BYTES]);
size_t keyfile_end(uint8_t *p, size_t at, const struct mno_keys *k);
/* The module's own derived secrets. */
void keys_derive_own(const struct mno_keys *k, const char ctx[8], void *out, size_t len);

/* --- nonce.c ------------------------------------------------------------------------------------ */
struct nonce_pool;
int nonce_pool_new(struct nonce_pool **ret);
struct nonce_pool *nonce_pool_free(struct nonce_pool *p);
/* @n random bytes (at most MNO_NONCE_MAX). Any thread. -errno of getrandom. */
int nonce_take(struct nonce_pool *p, uint8_t *out, size_t n);

/* --- suite.c ------------------------------------------------------------------------------------- */
struct dek { /* in guarded memory */
	crypto_aead_aes256gcm_state aes;
	uint8_t key[DEK_BYTES];
	uint8_t suite;
	uint8_t _pad[15]; /* guarded memory ends at a page: its start is aligned if its size is */
};
_Static_assert(sizeof(struct dek) % 16 == 0, "the AES state is aligned to 16");
struct suite {
	size_t nonce;
	bool (*available)(void);
	void (*seal)(const struct dek *d, struct mno_seal_tag *t, const void *aad, size_t aad_len,
		const void *in, size_t n, void *out);
	/* 0 or negative: does not authenticate */
	int (*open)(const struct dek *d, const struct mno_seal_tag *t, const void *aad,
		size_t aad_len, const void *in, size_t n, void *out);
};
/* NULL: no such suite. */
const struct suite *suite_get(int s);
enum mno_suite suite_auto(void);
