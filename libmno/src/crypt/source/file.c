/* SPDX-License-Identifier: Apache-2.0 */
/* A KEK of 32 random bytes in a file: keys/kek, or where the operator wants it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "../crypt_internal.h"
#include "mno/log.h"

static const char own[] = "kek";

static const char *path_of(const struct key_place *at, const struct mno_keys *k, char buf[16])
{
	if (*k->name)
		return k->name;
	snprintf(buf, 16, "%s%s", own, at->suffix);
	return buf;
}

static int file_load(const struct key_place *at, struct mno_keys *k)
{
	char buf[16];
	const char *path = path_of(at, k, buf);
	size_t n = 0;
	int r = small_read(at->keys_fd, path, FILE_PRIVATE, k->kek, sizeof(k->kek), &n);

	if (r == -EFBIG || (r == 0 && n != sizeof(k->kek))) {
		mno_err("the key file %s%s does not have 32 bytes: restore it from your copy",
			*k->name ? "" : "keys/", path);
		return -EKEYREJECTED;
	}
	return r;
}

static int file_make(const struct key_place *at, struct mno_keys *k)
{
	char buf[16];

	randombytes_buf(k->kek, sizeof(k->kek));
	keys_identify(k);
	return small_write(at->keys_fd, path_of(at, k, buf), k->kek, sizeof(k->kek), NULL);
}

static int file_peek(const struct key_place *at, uint8_t ret_id[MNO_KEY_ID_BYTES])
{
	struct mno_keys *k = guarded_new(sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	r = file_load(at, k);
	if (r == 0) {
		keys_identify(k);
		memcpy(ret_id, k->id, sizeof(k->id));
	}
	mno_keys_close(k);
	return r;
}

const struct key_source key_source_file = {"file", own, file_load, file_make, file_peek};
