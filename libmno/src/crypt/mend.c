/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One flipped bit in a key file would take away everything that it opens. Each of these small files
 * has a sum (the KEK: its id in the record), so the bit is found by trying all.
 */
#include <errno.h>
#include <string.h>
#include "crypt_internal.h"
#include "keys_internal.h"
#include "mno/err.h"
#include "mno/log.h"

#define MEND_MAX 4096 /* bytes of a file: trying takes less than 50 ms */

static bool sound_keyfile(const uint8_t *p, size_t n, void *room)
{
	return keyfile_parse(p, n, room) != -MNO_ECORRUPT;
}

static bool sound_record(const uint8_t *p, size_t n, void *room)
{
	return record_parse(p, n, room) != -MNO_ECORRUPT;
}

static bool sound_kek(const uint8_t *p, size_t n, void *room)
{
	const struct record *want = room;
	struct mno_keys *k;
	bool same;

	if (keys_new(MNO_KEY_FILE, "", &k) < 0)
		return false;
	memcpy(k->kek, p, sizeof(k->kek));
	keys_identify(k);
	same = !memcmp(k->id, want->id, sizeof(k->id));
	mno_keys_close(k);
	return same;
}

static bool try_bits(
	uint8_t *p, size_t n, bool (*sound)(const uint8_t *p, size_t n, void *room), void *room)
{
	for (size_t bit = 0; bit < n * 8; bit++) {
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (sound(p, n, room))
			return true;
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	return false;
}

/* 1 mended, 0 sound or beyond help. */
static int mend_file(int dir_fd, const char *name, enum file_secrecy s,
	bool (*sound)(const uint8_t *p, size_t n, void *room), void *room)
{
	uint8_t data[MEND_MAX];
	size_t n = 0;
	int r = small_read(dir_fd, name, s, data, sizeof(data), &n);

	if (r == 0 && !sound(data, n, room) && try_bits(data, n, sound, room)) {
		r = small_write(dir_fd, name, data, n, NULL);
		if (r == 0) {
			mno_warn("one flipped bit in the file %s was found and mended", name);
			r = 1;
		}
	}
	sodium_memzero(data, sizeof(data));
	return r == -ENOENT || r == -EFBIG || r == -EKEYREJECTED ? 0 : r;
}

int mno_cipher_mend(int env_fd)
{
	_cleanup_free_ struct keyfile *f = malloc(sizeof(*f));

	return f ? mend_file(env_fd, "key", FILE_OPEN, sound_keyfile, f) : -ENOMEM;
}

int mno_keys_mend(int state_fd)
{
	_cleanup_close_ int fd = keys_dir(state_fd, false);
	struct record rec, cur;
	int r, n;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = mend_file(fd, "current", FILE_OPEN, sound_record, &rec);
	n = r;
	if (r >= 0)
		r = mend_file(fd, "next", FILE_OPEN, sound_record, &rec);
	n += r;
	if (r < 0 || record_read(fd, "current", &cur) < 0)
		return r < 0 ? r : n;
	if (cur.source == MNO_KEY_FILE && !*cur.name) {
		r = mend_file(fd, "kek", FILE_PRIVATE, sound_kek, &cur);
		n += r;
	}
	return r < 0 ? r : n;
}
