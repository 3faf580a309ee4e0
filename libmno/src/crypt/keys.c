/* SPDX-License-Identifier: Apache-2.0 */
/* The key-encryption key of a store: opening and deriving. Rotation: keys_rotate.c */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "keys_internal.h"
#include "mno/err.h"
#include "mno/log.h"

static const struct key_source *const sources[] = {
#define SOURCE(id, name) [MNO_KEY_##id] = &key_source_##name,
#include "sources.def"
#undef SOURCE
};

const struct key_source *key_source(enum mno_key_source s)
{
	return (unsigned)s < ARRAY_SIZE(sources) ? sources[s] : NULL;
}

const char *key_source_name(enum mno_key_source s)
{
	return key_source(s)->name;
}

/* --- one key ---------------------------------------------------------------------------------- */
void keys_identify(struct mno_keys *k)
{
	static const uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES] = "mno id of a KEK";
	uint8_t id[crypto_generichash_blake2b_BYTES_MIN];

	crypto_generichash_blake2b_salt_personal(
		id, sizeof(id), NULL, 0, k->kek, sizeof(k->kek), NULL, personal);
	memcpy(k->id, id, sizeof(k->id));
}

const uint8_t *mno_keys_id(const struct mno_keys *k)
{
	return k->id;
}

void keys_derive_own(const struct mno_keys *k, const char ctx[8], void *out, size_t len)
{
	crypto_kdf_blake2b_derive_from_key(out, len, 0, ctx, k->kek);
}

int mno_keys_derive(const struct mno_keys *k, const char ctx[8], uint64_t n, void *out, size_t len)
{
	if (!memcmp(ctx, "mno:", 4) || len < crypto_kdf_blake2b_BYTES_MIN ||
		len > crypto_kdf_blake2b_BYTES_MAX)
		return -EINVAL;
	crypto_kdf_blake2b_derive_from_key(out, len, n, ctx, k->kek);
	return 0;
}

int kek_parse(const uint8_t *p, size_t n, uint8_t kek[KEK_BYTES])
{
	size_t len = 0;
	const char *end = NULL;

	if (n == KEK_BYTES) {
		memcpy(kek, p, KEK_BYTES);
		return 0;
	}
	if (n > 2 * KEK_BYTES && p[n - 1] == '\n')
		n--;
	if (n > 2 * KEK_BYTES && p[n - 1] == '\r')
		n--;
	if (n != 2 * KEK_BYTES ||
		sodium_hex2bin(kek, KEK_BYTES, (const char *)p, n, NULL, &len, &end) ||
		len != KEK_BYTES || end != (const char *)p + n)
		return -EKEYREJECTED;
	return 0;
}

int keys_new(enum mno_key_source s, const char *name, struct mno_keys **ret)
{
	struct mno_keys *k;
	int r = mno_crypt_init();

	if (r < 0)
		return r;
	k = guarded_new(sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->source = s;
	snprintf(k->name, sizeof(k->name), "%s", name);
	*ret = k;
	return 0;
}

struct mno_keys *mno_keys_close(struct mno_keys *k)
{
	if (k)
		sodium_free(k);
	return NULL;
}

/* --- the directory ------------------------------------------------------------------------------ */
int keys_dir(int state_fd, bool create)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (create && mkdirat(state_fd, "keys", 0700) == 0) {
		int r = dir_sync(state_fd);

		if (r < 0)
			return r;
	}
	fd = openat(state_fd, "keys", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_mode & 077) {
		mno_err("the folder keys of the state directory is open to others (mode %04o): "
			"chmod 0700 it",
			st.st_mode & 07777);
		return -EKEYREJECTED;
	}
	return TAKE_FD(fd);
}

void record_of(const struct mno_keys *k, struct record *ret)
{
	*ret = (struct record){.source = k->source};
	memcpy(ret->name, k->name, sizeof(ret->name));
	memcpy(ret->id, k->id, sizeof(ret->id));
}

static int check_name(enum mno_key_source s, const char *name)
{
	bool path = s == MNO_KEY_PASSPHRASE || (s == MNO_KEY_FILE && *name);

	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return -EINVAL;
	if (strlen(name) >= KEY_NAME_MAX)
		return -ENAMETOOLONG;
	if (path && *name != '/') {
		mno_err("the path of a key must be absolute, not '%s'", name);
		return -EINVAL;
	}
	if (!*name && s != MNO_KEY_FILE) {
		mno_err("the source %s of keys needs a name", key_source_name(s));
		return -EINVAL;
	}
	return 0;
}

int keys_wanted(const struct mno_keys_opts *opts, struct record *ret)
{
	struct mno_keys_opts o = {0};
	const char *name;
	int r;

	if (opts)
		memcpy(&o, opts, MNO_MIN(opts->sz, sizeof(o)));
	name = o.name ? o.name : "";
	if (!key_source(o.source))
		return -EINVAL;
	if (o.source == MNO_KEY_FILE && !strcmp(name, "keys/kek"))
		name = "";
	r = check_name(o.source, name);
	if (r < 0)
		return r;
	*ret = (struct record){.source = o.source};
	strcpy(ret->name, name);
	return 0;
}

const char *keys_text(const struct record *rec, char *buf, size_t size)
{
	char id[2 * MNO_KEY_ID_BYTES + 1];

	sodium_bin2hex(id, sizeof(id), rec->id, sizeof(rec->id));
	snprintf(buf, size, "%s (source %s%s%s)", id, key_source_name(rec->source),
		*rec->name ? ", " : "", rec->name);
	return buf;
}

/* --- opening -------------------------------------------------------------------------------------- */
/* ".next" if a commit came to its record but not to the file that belongs to it, else "". */
static const char *suffix_of(int keys_fd, const struct record *cur)
{
	const struct key_source *s = key_source(cur->source);
	uint8_t id[MNO_KEY_ID_BYTES];

	if (!s->peek || s->peek(&(struct key_place){keys_fd, ".next"}, id) < 0)
		return "";
	return memcmp(id, cur->id, sizeof(id)) ? "" : ".next";
}

int keys_settle(int keys_fd, const struct record *cur)
{
	const char *file = key_source(cur->source)->file;
	_cleanup_close_ int old = -1;
	char next[32];

	if (!*suffix_of(keys_fd, cur))
		return 0;
	snprintf(next, sizeof(next), "%s.next", file);
	old = openat(keys_fd, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (renameat(keys_fd, next, keys_fd, file) < 0)
		return -errno;
	if (old >= 0)
		small_overwrite(old); /* the key that nobody uses any more */
	return dir_sync(keys_fd);
}

int keys_load(int keys_fd, const struct record *want, const char *suffix, struct mno_keys **ret)
{
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	int r = keys_new(want->source, want->name, &k);

	if (r == 0)
		r = key_source(want->source)->load(&(struct key_place){keys_fd, suffix}, k);
	if (r < 0)
		return r;
	keys_identify(k);
	*ret = TAKE_PTR(k);
	return 0;
}

int keys_make(int keys_fd, const struct record *want, const char *suffix, struct mno_keys **ret)
{
	const struct key_source *s = key_source(want->source);
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	int r;

	if (!s->make)
		return -ENOKEY;
	r = keys_new(want->source, want->name, &k);
	if (r == 0)
		r = s->make(&(struct key_place){keys_fd, suffix}, k);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(k);
	return 0;
}

/* Says which key the store wants and what came instead. */
static void explain(const struct record *cur, const struct record *want, const struct mno_keys *got)
{
	char a[KEY_NAME_MAX + 80], b[KEY_NAME_MAX + 80];
	struct record have = *want;

	if (got)
		record_of(got, &have);
	mno_err("this store wants the key %s, %s%s%s%s", keys_text(cur, a, sizeof(a)),
		got ? "not " : "which was not had from ",
		got ? keys_text(&have, b, sizeof(b)) : key_source_name(want->source),
		*want->name && !got ? " " : "", got ? "" : want->name);
}

/* The key of a store that has a record. */
static int open_known(
	int keys_fd, const struct record *cur, const struct record *want, struct mno_keys **ret)
{
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	bool same = cur->source == want->source;
	int r = keys_load(keys_fd, want, same ? suffix_of(keys_fd, cur) : "", &k);

	if (r == -ENOENT)
		r = -ENOKEY;
	if (r == 0 && memcmp(k->id, cur->id, sizeof(k->id)))
		r = -ENOKEY;
	if (r == -ENOKEY)
		explain(cur, want, k);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(k);
	return 0;
}

/* A store on its first start, or one whose first start was cut off before the record. */
static int open_first(int keys_fd, const struct record *want, bool create, struct mno_keys **ret)
{
	int r = keys_load(keys_fd, want, "", ret);

	if (r != -ENOENT || !create)
		return r;
	r = keys_make(keys_fd, want, "", ret);
	if (r == 0)
		mno_info("made the key of this store (source %s%s%s): keep a copy of it elsewhere, "
			 "nothing stored can be read without it",
			key_source_name(want->source), *want->name ? " " : "", want->name);
	return r;
}

/* Also when the same key comes from another source than before. */
static int remember(int keys_fd, const struct mno_keys *k, const struct record *cur)
{
	struct record rec;

	record_of(k, &rec);
	if (cur && cur->source == rec.source && !strcmp(cur->name, rec.name))
		return 0;
	return record_write(keys_fd, "current", &rec);
}

int mno_keys_open(int state_fd, const struct mno_keys_opts *o, bool create, struct mno_keys **ret)
{
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	_cleanup_close_ int keys_fd = -1;
	struct record cur, want;
	bool known;
	int r = keys_wanted(o, &want);

	if (r == 0)
		r = mno_crypt_init();
	if (r < 0)
		return r;
	keys_fd = keys_dir(state_fd, create);
	if (keys_fd < 0)
		return keys_fd;
	r = record_read(keys_fd, "current", &cur);
	if (r < 0 && r != -ENOENT)
		return r;
	known = r == 0;
	r = known && create ? keys_settle(keys_fd, &cur) : 0;
	if (r == 0)
		r = known ? open_known(keys_fd, &cur, &want, &k)
			  : open_first(keys_fd, &want, create, &k);
	if (r == 0 && create)
		r = remember(keys_fd, k, known ? &cur : NULL);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(k);
	return 0;
}

int mno_keys_open_recorded(int state_fd, struct mno_keys **ret)
{
	_cleanup_close_ int keys_fd = -1;
	struct record cur;
	int r = mno_crypt_init();

	if (r < 0)
		return r;
	keys_fd = keys_dir(state_fd, false);
	if (keys_fd < 0)
		return keys_fd;
	r = record_read(keys_fd, "current", &cur);
	return r < 0 ? r : open_known(keys_fd, &cur, &cur, ret);
}
