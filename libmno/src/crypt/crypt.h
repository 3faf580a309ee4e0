/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and sealed values. Two levels: one key-encryption key (KEK) of the store, from a source of
 * the operator's choice, wraps the data keys (DEK) of each environment, which seal the values.
 * The only code of mno that names libsodium.
 *
 * Directory "keys" (mode 0700) of a state directory:
 *   current   source, name and id of the KEK: never secret; says which key is wanted
 *   next      the same of a KEK that is about to replace it (between replace and commit)
 *   kek       source "file" without a path: 32 random bytes, mode 0600
 *   argon2    source "passphrase": salt, cost and the id of the right KEK
 *   kek.next, argon2.next   the same of the next one
 *   kek.ID    source "file": one that was replaced, which backups may need (keys_old.h)
 * File "key" of an environment: its data keys, wrapped.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "mno/crypt.h"
#include "mno/macro.h"

/* The KEK of a store, in guarded memory: locked, left out of core dumps, between guard pages. */
struct mno_keys;
#define MNO_KEY_ID_BYTES 8

/*
 * Opens the KEK of the store whose state directory is @state_fd. @o NULL = the file "keys/kek".
 * @create: on a first start the key (FILE, PASSPHRASE) and the record of it are made; without it
 * nothing is written. A key is never made in a store whose record "keys/current" exists.
 * -ENOENT no key yet and not @create; -ENOKEY not the store's key, or its source has none: a log
 * line names both; -EKEYREJECTED readable by others, or of wrong form (log line); -MNO_ECORRUPT,
 * -MNO_EVERSION of the record; -ENOMEM, -errno. Any thread; one opener of a directory at a time.
 */
int mno_keys_open(int state_fd, const struct mno_keys_opts *o, bool create, struct mno_keys **ret);
/* The same by the store's own record of source and name: for tools. Writes nothing. */
int mno_keys_open_recorded(int state_fd, struct mno_keys **ret);
/* Wipes and frees. NULL-safe. Ciphers opened with it live on. */
struct mno_keys *mno_keys_close(struct mno_keys *k);
MNO_DEFINE_CLEANUP(struct mno_keys *, mno_keys_close)

/* MNO_KEY_ID_BYTES, borrowed: BLAKE2b of the KEK in a context of its own; names it without giving
 * it away. */
const uint8_t *mno_keys_id(const struct mno_keys *k);
/*
 * A secret for another use: BLAKE2b of the KEK with context @ctx and number @n (libsodium's
 * crypto_kdf). @len 16..64. -EINVAL: other length, or a context that begins with "mno:", which
 * are this module's own. Any thread.
 */
int mno_keys_derive(const struct mno_keys *k, const char ctx[8], uint64_t n, void *out, size_t len);

/*
 * Rotation of the KEK in three steps, each of which may be the last before a crash:
 *   1. replace: makes (FILE, PASSPHRASE) or reads the next KEK and records it in "keys/next"
 *   2. mno_cipher_rewrap() of every environment
 *   3. commit: one rename makes the record current; then the old KEK's file is overwritten
 * Between 1 and 3 the store opens both (mno_keys_open, mno_keys_open_next), tries both for each
 * environment, and goes on with 2. The old KEK is needed for backups made before:
 * mno_keys_keep() before the commit.
 *
 * replace: @next NULL = a new file "keys/kek". -EBUSY one is pending already; -EEXIST @next is the
 * key in use; -ENOENT the store has no key yet; else as mno_keys_open.
 */
int mno_keys_replace(int state_fd, const struct mno_keys_opts *next, struct mno_keys **ret_new);
/* The pending KEK. -ENOENT: none is pending; else as mno_keys_open. */
int mno_keys_open_next(int state_fd, struct mno_keys **ret);
/* @new must be the pending one (-EINVAL). On an error nothing has changed. */
int mno_keys_commit(int state_fd, struct mno_keys *new);

/*
 * Puts a single flipped bit right in the records and the key file of a store, or in the file of
 * data keys of an environment, after an opening that failed. 1 or more: that many files were
 * mended (log line), try again; 0: nothing that could be; -errno. As openers: one at a time.
 */
int mno_keys_mend(int state_fd);
int mno_cipher_mend(int env_fd);

enum mno_suite {
	MNO_SUITE_AUTO = -1,     /* AES256GCM where the CPU has it, else XCHACHA20 */
	MNO_SUITE_NONE = 0,      /* readable, but authenticated: SipHash-2-4-128 under the DEK */
	MNO_SUITE_AES256GCM = 1, /* 12-byte nonces */
	MNO_SUITE_XCHACHA20 = 2, /* XChaCha20-Poly1305 (IETF), 24-byte nonces */
};

/* The data keys of one environment: at most 250, one of them current. */
struct mno_cipher;
#define MNO_NONCE_MAX   24
#define MNO_MAC_BYTES   16
#define MNO_CIPHER_KEYS 250

/* What is stored beside a sealed value. Of the nonce, mno_suite_nonce() bytes; the rest is 0. */
struct mno_seal_tag {
	uint8_t suite, key_id;
	uint8_t nonce[MNO_NONCE_MAX];
	uint8_t mac[MNO_MAC_BYTES];
};

/* Bytes of nonce: 0, 12 or 24; 0 for what is no suite. */
size_t mno_suite_nonce(enum mno_suite s);

/*
 * Makes the first DEK and the file "key" in @env_fd, mode 0600: temporary file, fsync, rename,
 * fsync of the directory. @env_fd is borrowed for the call, here and below. -EEXIST there is such
 * a file; -EOPNOTSUPP this CPU cannot do @s; -EINVAL; -ENOMEM, -errno (then there is no file).
 */
int mno_cipher_create(const struct mno_keys *k, int env_fd, const uint8_t env_id[16],
	enum mno_suite s, struct mno_cipher **ret);
/*
 * Reads the file. -ENOENT no file; -ENOKEY wrapped by another KEK (no log line: callers try two);
 * -MNO_ECORRUPT damaged, or of another environment; -MNO_EVERSION; -EOPNOTSUPP a DEK is for a
 * suite that this CPU lacks; -ENOMEM, -errno.
 */
int mno_cipher_open(
	const struct mno_keys *k, int env_fd, const uint8_t env_id[16], struct mno_cipher **ret);
/* Wipes and frees; no other call may be under way. NULL-safe. */
struct mno_cipher *mno_cipher_close(struct mno_cipher *c);
MNO_DEFINE_CLEANUP(struct mno_cipher *, mno_cipher_close)

/*
 * The four below write the file anew and replace it by rename: a crash leaves the old or the new
 * one. On failure the cipher is as before; after a failed fsync of the directory the file may be
 * either. Any thread, also while values are sealed and opened; they exclude each other.
 */
/* Same DEKs, wrapped by @k from now on. */
int mno_cipher_rewrap(struct mno_cipher *c, int env_fd, const struct mno_keys *k);
/*
 * A new DEK of the current one's suite becomes current, the old ones stay for reading. @k must be
 * the KEK that wraps the file (-ENOKEY). -ENOSPC also when there are MNO_CIPHER_KEYS already.
 */
int mno_cipher_add(struct mno_cipher *c, int env_fd, const struct mno_keys *k, uint8_t *ret_id);
/* Forgets an old DEK: what it sealed is lost. -EBUSY it is the current one; -ENOENT; -ENOKEY. */
int mno_cipher_drop(struct mno_cipher *c, int env_fd, const struct mno_keys *k, uint8_t id);
/* How many DEKs there are. Any thread. */
unsigned mno_cipher_count(struct mno_cipher *c);
/* Id of the DEK that seals: 1..255. */
uint8_t mno_cipher_current(const struct mno_cipher *c);

/*
 * Crypto-shredding: overwrites the bytes of the file "key" (and of a left temporary one), fsync,
 * unlink, fsync of the directory. Disks and file systems that write elsewhere may keep a copy of
 * the old bytes; those are of use only together with the KEK. -ENOENT, -errno.
 */
int mno_cipher_erase(int env_fd);

/* Suite of the current DEK. */
enum mno_suite mno_cipher_suite(const struct mno_cipher *c);

/*
 * Seals @n bytes with the current DEK. @out: @n bytes, may be @in itself, else may not overlap it.
 * @in and @out may be NULL if @n is 0, @aad if @aad_len is. @aad is authenticated with it: bind
 * environment, database, key and version there. Any thread.
 * -ENOMEM, -errno of getrandom; @ret and @out are of no use then.
 *
 * Nonces are random, not counted: a state directory that was rolled back or restored would count
 * the same numbers again, under the same DEK, and two values under one nonce give away GCM's
 * authentication key. With 96 random bits a repeat stays below 2^-32 up to 2^32 values a DEK
 * (NIST SP 800-38D, 8.3): rotate before (mno_cipher_sealed).
 */
int mno_cipher_seal(struct mno_cipher *c, const void *aad, size_t aad_len, const void *in, size_t n,
	void *out, struct mno_seal_tag *ret);
/*
 * Checks and opens. @out: @n bytes, may be @in itself; its content is undefined after a failure.
 * -MNO_ECORRUPT does not authenticate; -ENOKEY its DEK is unknown or was dropped. Any thread, no
 * lock.
 */
int mno_cipher_open_value(struct mno_cipher *c, const struct mno_seal_tag *t, const void *aad,
	size_t aad_len, const void *in, size_t n, void *out);
/*
 * Values sealed by the current DEK since it was made, as far as mno_cipher_counted() told of those
 * of earlier processes. At 2^32, the bound of random nonces, sealing ends with -EKEYEXPIRED.
 */
uint64_t mno_cipher_sealed(const struct mno_cipher *c);
/* The current DEK had sealed @n values before this process; adds to the count. */
void mno_cipher_counted(struct mno_cipher *c, uint64_t n);
