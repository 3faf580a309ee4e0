/* SPDX-License-Identifier: Apache-2.0 */
/* A KEK from the kernel's keyrings (keyrings(7)): key of type "user", 32 bytes. */
#include <errno.h>
#include <linux/keyctl.h>
#include <string.h>
#include <sys/syscall.h>
#include "../crypt_internal.h"
#include "mno/err.h"
#include "mno/log.h"

/* In this order, as the kernel itself looks for keys; then those of the user. */
static const int rings[] = {KEY_SPEC_PROCESS_KEYRING, KEY_SPEC_SESSION_KEYRING,
	KEY_SPEC_USER_SESSION_KEYRING, KEY_SPEC_USER_KEYRING};

/*
 * Links what it finds to this thread's keyring: by default only a possessor may read a key, and
 * a service's own session (KeyringMode=private) does not possess those of its user.
 */
static long find(const char *description)
{
	int first = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
		long id = syscall(SYS_keyctl, KEYCTL_SEARCH, rings[i], "user", description,
			KEY_SPEC_THREAD_KEYRING);

		if (id >= 0)
			return id;
		if (errno != ENOKEY && !first)
			first = errno;
	}
	return first ? -first : -ENOKEY;
}

static int read_key(long id, struct mno_keys *k)
{
	/* tells the whole length, also when it is more than fits */
	long n = syscall(SYS_keyctl, KEYCTL_READ, id, k->kek, sizeof(k->kek), 0);

	if (n < 0) {
		n = -errno;
		mno_err("key '%s' of the kernel's keyrings cannot be read: %s", k->name,
			mno_strerror((int)n));
		return (int)n;
	}
	if (n != KEK_BYTES) {
		mno_err("key '%s' of the kernel's keyrings has %ld bytes, not 32", k->name, n);
		return -EKEYREJECTED;
	}
	return 0;
}

static int keyring_load(const struct key_place *at, struct mno_keys *k)
{
	long id = find(k->name);
	int r;

	if (id < 0) {
		mno_err("key '%s' is not in the kernel's keyrings: %s", k->name,
			mno_strerror((int)id));
		return (int)id;
	}
	r = read_key(id, k);
	syscall(SYS_keyctl, KEYCTL_UNLINK, id, KEY_SPEC_THREAD_KEYRING);
	return r;
}

const struct key_source key_source_keyring = {"keyring", NULL, keyring_load, NULL, NULL};
