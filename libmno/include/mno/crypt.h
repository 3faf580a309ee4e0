/* SPDX-License-Identifier: Apache-2.0 */
/* Where the key of a store comes from, and how a process keeps its keys to itself. */
#pragma once

#include <stddef.h>

enum mno_key_source {
	MNO_KEY_FILE,       /* 32 random bytes in a file, made on first start */
	MNO_KEY_PASSPHRASE, /* Argon2id of the text in a file */
	MNO_KEY_CREDENTIAL, /* a file below $CREDENTIALS_DIRECTORY (systemd) */
	MNO_KEY_KEYRING,    /* a key of type "user" in the kernel's keyrings */
};

/*
 * @name, copied, at most 500 bytes without control characters:
 *   FILE        NULL, "" or "keys/kek" for that file below the state directory; else absolute path
 *   PASSPHRASE  absolute path of the file with the passphrase (1 to 4096 bytes; line ends at its
 *               end do not count)
 *   CREDENTIAL  name of the credential: 32 bytes or 64 hexadecimal digits
 *   KEYRING     description of the key: 32 bytes
 */
struct mno_keys_opts {
	size_t sz;
	enum mno_key_source source;
	const char *name;
};

/* Prepares the cryptographic library; every opener does it, too. 0, -ENOSYS. Any thread. */
int mno_crypt_init(void);

/*
 * No core dumps of this process and no ptrace by others of its user: RLIMIT_CORE 0 and
 * PR_SET_DUMPABLE 0. A change of user id makes the kernel decide the latter anew: call it again
 * after that. Its own /proc/self stays open to the process itself.
 */
void mno_crypt_no_core(void);
