/* SPDX-License-Identifier: Apache-2.0 */
/* The directory: lock, keys, main environment, and the registry of the others. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include "../crypt/keys_old.h"
#include "compact.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "rotate.h"
#include "pages.h"
#include "quarantine.h"
#include "store_internal.h"

#define MAP_DEFAULT   (16ULL << 30)
#define MAP_INITIAL   (1ULL << 30)
#define FLOOR_DEFAULT (256ULL << 20)
#define IDLE_MAX      48 /* environments kept open that nobody uses */
#define HASH_KEY      "hash_key"
#define HASH_COPY     "hash_key.copy"

static int open_dir(struct mno_store *s, const char *dir)
{
	if (!s->opts.read_only && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return -errno;
	if (s->opts.read_only)
		return 0;
	s->lock_fd = openat(s->dir_fd, "owner.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return -errno;
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -MNO_EBUSY_STATE : -errno;
	return 0;
}

/* The first format had its one environment in the directory itself. */
static int check_format(struct mno_store *s)
{
	bool old = faccessat(s->dir_fd, "data.mdb", F_OK, 0) == 0;
	bool now = faccessat(s->dir_fd, "main", F_OK, 0) == 0;

	return old && !now ? -MNO_EMIGRATE : 0;
}

/* A copy elsewhere of a store whose key stays where it is. */
static int open_kek_of(struct mno_store *s, const char *state)
{
	_cleanup_close_ int fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char id[MNO_KEY_ID_TEXT];
	int r = fd < 0 ? -errno : mno_keys_wanted_id(s->dir_fd, id);

	return r < 0 ? r : mno_keys_open_id(fd, id, &s->keys);
}

/* Nobody named a source: the one that the store itself remembers. */
static int open_kek(struct mno_store *s, const struct mno_keys_opts *o, bool fresh)
{
	int r = -ENOENT;

	if (s->opts.key_state)
		return open_kek_of(s, s->opts.key_state);
	if (o->source == MNO_KEY_FILE && !o->name)
		r = mno_keys_open_recorded(s->dir_fd, &s->keys);
	if (r != -ENOENT)
		return r;
	return mno_keys_open(s->dir_fd, o, fresh && !s->opts.read_only, &s->keys);
}

/* Whether any environment has a data key, which only the key-encryption key opens. */
static int has_encrypted(struct mno_store *s)
{
	_cleanup_close_ int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char path[NAME_MAX + 8];
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int found = 0;

	if (!dir)
		return -errno;
	fd = -1;
	while (!found && (d = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "%s/key", d->d_name);
		found = d->d_name[0] != '.' && faccessat(s->dir_fd, path, F_OK, 0) == 0;
	}
	closedir(dir);
	return found;
}

/* A new key would read none of what is there, and hide that the old one is missing. */
static int check_keys(struct mno_store *s)
{
	int r;

	r = faccessat(s->dir_fd, "keys/current", F_OK, 0) == 0 ? 0 : has_encrypted(s);
	if (r > 0)
		mno_err("store: keys/current is gone, but environments are encrypted: put the "
			"folder keys back, from a copy");
	return r > 0 ? -ENOKEY : r;
}

static int open_keys(struct mno_store *s)
{
	struct mno_keys_opts ko = {.sz = sizeof(ko),
		.source = (enum mno_key_source)s->opts.key_source,
		.name = s->opts.key_name};
	bool fresh = faccessat(s->dir_fd, "main/data.mdb", F_OK, 0) < 0;
	int r = mno_crypt_init();

	if (r < 0)
		return r;
	if (s->opts.plain && fresh)
		return 0;
	r = fresh ? check_keys(s) : 0;
	if (r < 0)
		return r;
	r = open_kek(s, &ko, fresh);
	if ((r == -MNO_ECORRUPT || r == -ENOKEY) && !s->opts.read_only &&
		mno_keys_mend(s->dir_fd) > 0) {
		s->mended++;
		r = open_kek(s, &ko, false);
	}
	/* a store that was made plain has none */
	return r == -ENOENT && !fresh ? check_keys(s) : r;
}

/* -ENOENT, -MNO_ECORRUPT */
static int read_hash_key(struct mno_store *s, const char *name)
{
	_cleanup_buf_ struct mno_buf v = {0}, raw = {0};
	struct mno_seal info;
	size_t n = strlen(name);
	int r = mno_store_fetch(s, MNO_DB_META, MNO_SEEK_EQ, name, n, NULL, &v);

	if (r == 0)
		r = mno_seal_open(s->main, MNO_DB_META, NULL, name, n, v.data, v.len, MNO_SEAL_META,
			&info, &raw);
	if (r == -MNO_EVERSION || (r == 0 && raw.len != sizeof(s->hash_key)))
		r = -MNO_ECORRUPT; /* the store is of this version: the byte is damaged */
	if (r == 0)
		memcpy(s->hash_key, raw.data, sizeof(s->hash_key));
	return r;
}

static int write_hash_keys(struct mno_store *s)
{
	static const char *const names[] = {HASH_KEY, HASH_COPY};
	struct mno_seal info = {.kind = MNO_SEAL_META};
	struct mno_txn *t;
	int r = mno_store_begin_reclaim(s, &t);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++)
		r = mno_seal_put(t, MNO_DB_META, names[i], strlen(names[i]), &info, s->hash_key,
			sizeof(s->hash_key), NULL);
	if (r == 0)
		return mno_store_commit(s, t);
	mno_store_abort(s, t);
	return r;
}

/*
 * Fingerprints must not tell which series there are: their key is a secret of the store. Without it
 * no name is found again, so there are two.
 */
static int open_hash_key(struct mno_store *s)
{
	int r = read_hash_key(s, HASH_KEY), copy;
	uint8_t key[sizeof(s->hash_key)];

	if (r < 0 && r != -ENOENT && r != -MNO_ECORRUPT)
		return r;
	memcpy(key, s->hash_key, sizeof(key));
	copy = read_hash_key(s, HASH_COPY);
	if (r == 0)
		memcpy(s->hash_key, key, sizeof(key));
	if (s->opts.read_only || (r == 0 && copy == 0) || (r < 0 && copy < 0 && copy != -ENOENT))
		return copy == 0 ? 0 : r;
	if (r == -MNO_ECORRUPT && copy < 0) {
		mno_err("store: the key of the fingerprints is damaged and has no copy: no series "
			"would be found. Restore the store from a backup (mnoctl restore)");
		return r;
	}
	if (r == -MNO_ECORRUPT || copy == -MNO_ECORRUPT) {
		mno_warn(
			"store: the key of the fingerprints was damaged, and mended from its copy");
		s->mended++;
	} else if (r < 0 && copy < 0 &&
		   getrandom(s->hash_key, sizeof(key), 0) != (ssize_t)sizeof(key)) {
		return -EIO;
	}
	return write_hash_keys(s);
}

int mno_store_open(const char *dir, const struct mno_store_opts *o, struct mno_store **ret)
{
	_cleanup_(mno_store_close_p)
	struct mno_store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->dir_fd = s->lock_fd = -1;
	s->reseal.grace_ns = MNO_RESEAL_GRACE_NS;
	s->opened_ms = mno_now_ms();
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->rotate_lock, NULL);
	pthread_mutex_init(&s->quarantine.lock, NULL);
	if (o)
		memcpy(&s->opts, o, MNO_MIN(o->sz, sizeof(*o)));
	if (!s->opts.map_size)
		s->opts.map_size = MAP_DEFAULT;
	if (!s->opts.map_initial)
		s->opts.map_initial = MAP_INITIAL;
	r = open_dir(s, dir);
	if (r == 0)
		r = check_format(s);
	if (r == 0)
		r = open_keys(s);
	if (r == 0)
		r = mno_store_keys_resume(s);
	if (r == 0)
		r = mno_store_env(s, MNO_CLASS_MAIN, 0, true, &s->main);
	if (r == 0)
		r = open_hash_key(s);
	if (r < 0)
		return r;
	mno_store_clock_load(s);
	r = mno_store_keys_finish(s);
	if (r < 0)
		mno_warn("store: the change of its key is still pending: %s", mno_strerror(r));
	/* a change of data keys that was under way has an old key left */
	s->reseal.from = s->main->cipher && mno_cipher_count(s->main->cipher) > 1;
	s->opts.key_name = s->opts.key_state = NULL;
	*ret = TAKE_PTR(s);
	return 0;
}

static void close_env(struct mno_env *e)
{
	_cleanup_close_ int dir_fd = -1;

	if (mno_env_wasteful(e) && mno_env_copy_compact(e) == 0)
		dir_fd = dup(e->dir_fd);
	mno_env_free(e);
	if (dir_fd < 0)
		return;
	mno_pages_forget(dir_fd); /* they are of the file that goes */
	if (mno_env_take_compact(dir_fd) < 0)
		mno_env_drop_compact(dir_fd);
	if (mno_pages_record(dir_fd, MNO_PAGES_RECORD_NS) < 0)
		mno_pages_forget(dir_fd);
}

struct mno_store *mno_store_close(struct mno_store *s)
{
	if (!s)
		return NULL;
	if (s->main)
		mno_store_abort(s, &s->main->txn);
	while (s->envs) {
		struct mno_env *next = s->envs->next;

		close_env(s->envs);
		s->envs = next;
	}
	mno_keys_close(s->next_keys);
	mno_keys_close(s->keys);
	mno_close_p(&s->lock_fd);
	mno_close_p(&s->dir_fd);
	mno_quarantine_done(s);
	pthread_mutex_destroy(&s->quarantine.lock);
	pthread_mutex_destroy(&s->rotate_lock);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}

/* --- registry -------------------------------------------------------------------------------- */

static void unlink_env(struct mno_store *s, struct mno_env *e)
{
	for (struct mno_env **p = &s->envs; *p; p = &(*p)->next)
		if (*p == e) {
			*p = e->next;
			break;
		}
	mno_env_free(e);
}

/* Files and maps of a long retention are not all kept open. */
static void close_idle(struct mno_store *s)
{
	struct mno_env *last = NULL;
	size_t idle = 0;

	for (struct mno_env *e = s->envs; e; e = e->next)
		if (!e->refs) {
			idle++;
			last = e; /* new ones are put in front */
		}
	if (idle > IDLE_MAX)
		unlink_env(s, last);
}

/*
 * A partition that cannot be opened must not stop the rest: it is kept under another name, and the
 * log says so. Main is never replaced: without the dictionary the samples have no names, and new
 * numbers would give them wrong ones.
 */
static int set_aside(struct mno_store *s, enum mno_class c, int64_t t_ms)
{
	struct mno_env name = {.class = c};
	char to[64];

	if (s->opts.read_only || mno_class_info(c)->period == MNO_PERIOD_NONE)
		return -MNO_ECORRUPT;
	mno_class_bounds(c, t_ms, &name.t0_ms, &name.t1_ms);
	mno_env_name(&name);
	for (unsigned i = 1; i < 1000; i++) {
		snprintf(to, sizeof(to), "%s.damaged-%u", name.name, i);
		if (faccessat(s->dir_fd, to, F_OK, 0) == 0)
			continue;
		if (renameat(s->dir_fd, name.name, s->dir_fd, to) < 0)
			return -MNO_ECORRUPT;
		s->set_aside++;
		s->damaged++;
		mno_err("store: %s is damaged and cannot be opened. Lost: all of its %s. It is "
			"kept as %s: restore it from a backup, or delete it",
			name.name, mno_class_info(c)->what, to);
		return 0;
	}
	return -MNO_ECORRUPT;
}

static bool is_aside(struct mno_store *s, enum mno_class c, int64_t t_ms, unsigned i, char to[64])
{
	struct mno_env name = {.class = c};

	mno_class_bounds(c, t_ms, &name.t0_ms, &name.t1_ms);
	mno_env_name(&name);
	snprintf(to, 64, "%s.damaged-%u", name.name, i);
	return faccessat(s->dir_fd, to, F_OK, 0) == 0;
}

static int open_env(
	struct mno_store *s, enum mno_class c, int64_t t_ms, bool create, struct mno_env **ret)
{
	int r = mno_env_new(s, c, t_ms, create, ret);
	char path[64];

	if (r == -ENOENT && is_aside(s, c, t_ms, 1, path))
		return -MNO_ECORRUPT;
	if (r != -MNO_ECORRUPT || set_aside(s, c, t_ms) < 0)
		return r;
	return create ? mno_env_new(s, c, t_ms, true, ret) : -MNO_ECORRUPT;
}

int mno_store_env(
	struct mno_store *s, enum mno_class c, int64_t t_ms, bool create, struct mno_env **ret)
{
	struct mno_env *e;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	for (e = s->envs; e; e = e->next)
		if (e->class == c && !e->gone && e->t0_ms <= t_ms && t_ms < e->t1_ms)
			break;
	if (!e) {
		close_idle(s);
		r = open_env(s, c, t_ms, create, &e);
		if (r == 0) {
			e->next = s->envs;
			s->envs = e;
		}
	}
	if (r == 0) {
		e->refs++;
		*ret = e;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

struct mno_env *mno_env_unref(struct mno_env *e)
{
	struct mno_store *s = e ? e->store : NULL;

	if (!e)
		return NULL;
	pthread_mutex_lock(&s->lock);
	if (--e->refs == 0 && e->gone)
		unlink_env(s, e);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* "ts-20261123" back to the time of its start; false if it is no name of @c. */
static bool parse_name(const char *name, enum mno_class c, int64_t *ret)
{
	const struct mno_class_info *info = mno_class_info(c);
	size_t n = strlen(info->dir), digits;
	static const size_t lengths[] = {
		[MNO_PERIOD_DAY] = 8, [MNO_PERIOD_MONTH] = 6, [MNO_PERIOD_YEAR] = 4};
	struct tm tm = {.tm_mday = 1};
	const char *end;

	if (info->period == MNO_PERIOD_NONE) {
		*ret = 0;
		return !strcmp(name, info->dir);
	}
	digits = lengths[info->period];
	if (strncmp(name, info->dir, n) || name[n] != '-' ||
		strspn(name + n + 1, "0123456789") != digits)
		return false;
	end = name + n + 1 + digits;
	if (*end && strncmp(end, ".damaged-", 9) != 0)
		return false; /* one that was set aside counts: who reads is told */
	sscanf(name + n + 1, "%4d%2d%2d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	tm.tm_year -= 1900;
	tm.tm_mon -= tm.tm_mon > 0;
	*ret = (int64_t)timegm(&tm) * 1000;
	return true;
}

int mno_env_parse(const char *name, enum mno_class *ret_class, int64_t *ret_t0_ms)
{
	for (unsigned c = 0; c < MNO_CLASS_MAX; c++) {
		int64_t t, end;

		if (mno_class_info(c)->period == MNO_PERIOD_NONE || !parse_name(name, c, &t) ||
			strchr(name, '.'))
			continue;
		*ret_class = c;
		mno_class_bounds(c, t, ret_t0_ms, &end);
		return 0;
	}
	return -EINVAL;
}

static int by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static DIR *open_list(struct mno_store *s)
{
	int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0)
		close(fd);
	return d;
}

int mno_store_partitions(struct mno_store *s, enum mno_class c, int64_t t0_ms, int64_t t1_ms,
	int64_t **ret, size_t *ret_n)
{
	_cleanup_free_ int64_t *v = NULL;
	size_t n = 0, cap = 0;
	struct dirent *de;
	DIR *d = open_list(s);

	if (!d)
		return -errno;
	while ((de = readdir(d))) {
		int64_t t, a, b;

		if (!parse_name(de->d_name, c, &t))
			continue;
		mno_class_bounds(c, t, &a, &b);
		if (b <= t0_ms || a > t1_ms)
			continue;
		if (n == cap) {
			int64_t *p = reallocarray(v, cap = cap * 2 + 16, sizeof(*p));

			if (!p) {
				closedir(d);
				return -ENOMEM;
			}
			v = p;
		}
		v[n++] = t;
	}
	closedir(d);
	if (n)
		qsort(v, n, sizeof(*v), by_time);
	for (size_t i = 0, k = 0; i < n; i++) { /* a day may have one and others set aside */
		if (i == 0 || v[i] != v[i - 1])
			v[k++] = v[i];
		if (i + 1 == n) {
			n = k;
			break;
		}
	}
	*ret = TAKE_PTR(v);
	*ret_n = n;
	return 0;
}

static int each_of(struct mno_store *s, enum mno_class c,
	int (*fn)(void *arg, struct mno_env *e, const char *name, int err), void *arg)
{
	_cleanup_free_ int64_t *t = NULL;
	size_t n = 0;
	int r = mno_store_partitions(s, c, INT64_MIN, INT64_MAX, &t, &n);

	for (size_t i = 0; i < n && r == 0; i++) {
		struct mno_env *e = NULL;
		struct mno_env name = {.class = c};
		int err = mno_store_env(s, c, t[i], false, &e);

		if (err == -ENOENT)
			continue;
		mno_class_bounds(c, t[i], &name.t0_ms, &name.t1_ms);
		mno_env_name(&name);
		r = fn(arg, e, name.name, err);
		mno_env_unref(e);
	}
	return r;
}

int mno_store_each(struct mno_store *s,
	int (*fn)(void *arg, struct mno_env *e, const char *name, int err), void *arg)
{
	int r = 0;

	for (unsigned c = 0; c < MNO_CLASS_MAX && r == 0; c++)
		r = each_of(s, c, fn, arg);
	return r;
}

/* --- taking away ------------------------------------------------------------------------------ */

/* The name goes first, in one step: a crash in the middle leaves nothing that looks whole. */
static int remove_dir(struct mno_store *s, const char *name)
{
	char gone[48];
	struct dirent *de;
	DIR *d;
	int fd;

	snprintf(gone, sizeof(gone), ".gone-%s", name);
	if (strncmp(name, ".gone-", 6)) {
		if (renameat(s->dir_fd, name, s->dir_fd, gone) < 0)
			return -errno;
	} else {
		snprintf(gone, sizeof(gone), "%s", name);
	}
	fd = openat(s->dir_fd, gone, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	mno_cipher_erase(fd);
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			unlinkat(fd, de->d_name, 0);
	closedir(d);
	return unlinkat(s->dir_fd, gone, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int mno_store_drop_one(struct mno_store *s, enum mno_class c, int64_t t_ms)
{
	struct mno_env name = {.class = c};
	char path[64];
	int r;

	mno_class_bounds(c, t_ms, &name.t0_ms, &name.t1_ms);
	mno_env_name(&name);
	pthread_mutex_lock(&s->lock);
	for (struct mno_env *e = s->envs, *next; e; e = next) {
		next = e->next;
		if (e->class != c || e->t0_ms != name.t0_ms || e->gone)
			continue;
		e->gone = true;
		if (!e->refs)
			unlink_env(s, e);
	}
	r = remove_dir(s, name.name);
	for (unsigned i = 1; is_aside(s, c, name.t0_ms, i, path); i++)
		r = remove_dir(s, path);
	pthread_mutex_unlock(&s->lock);
	return r;
}

int mno_store_drop(struct mno_store *s, enum mno_class c, int64_t t_ms, size_t *ret_n)
{
	_cleanup_free_ int64_t *t = NULL;
	size_t n = 0, dropped = 0;
	int r = mno_store_partitions(s, c, INT64_MIN, t_ms - 1, &t, &n);

	if (mno_class_info(c)->period == MNO_PERIOD_NONE)
		return -EINVAL;
	for (size_t i = 0; i < n && r == 0; i++) {
		int64_t a, b;

		mno_class_bounds(c, t[i], &a, &b);
		if (b > t_ms || mno_store_attached(s, c, a))
			continue; /* what was attached stays until it is detached */
		r = mno_store_drop_one(s, c, a);
		dropped += r == 0;
	}
	*ret_n = dropped;
	return r;
}

int mno_store_make_room(struct mno_store *s)
{
	enum mno_class which = MNO_CLASS_MAX;
	int64_t oldest = INT64_MAX, a, b;
	int r;

	if (mno_store_floor(s) == 0)
		return -ENOENT;
	for (unsigned c = 0; c < MNO_CLASS_MAX; c++) {
		_cleanup_free_ int64_t *t = NULL;
		size_t n = 0;

		if (!(mno_class_info(c)->flags & MNO_CLASS_BULK) ||
			mno_store_partitions(s, c, INT64_MIN, INT64_MAX, &t, &n) < 0 || n < 2)
			continue;
		if (t[0] < oldest) {
			oldest = t[0];
			which = c;
		}
	}
	if (which == MNO_CLASS_MAX)
		return -ENOENT;
	mno_class_bounds(which, oldest, &a, &b);
	r = mno_store_drop_one(s, which, a);
	if (r < 0)
		return r;
	s->dropped_partitions++;
	mno_warn("store: the disk is full: %s of %lld (Unix time) were deleted to go on. Free disk "
		 "space, or lower the retention.",
		mno_class_info(which)->what, (long long)(a / 1000));
	return 0;
}

/* --- figures ---------------------------------------------------------------------------------- */

int mno_store_floor(struct mno_store *s)
{
	uint64_t floor_bytes = s->opts.floor_bytes;
	struct statvfs v;

	if (fstatvfs(s->dir_fd, &v) < 0)
		return -errno;
	if (!floor_bytes)
		floor_bytes = MNO_MIN(FLOOR_DEFAULT, (uint64_t)v.f_blocks * v.f_frsize / 20);
	return (uint64_t)v.f_bavail * v.f_frsize < floor_bytes ? -ENOSPC : 0;
}

static int add_stat(void *arg, struct mno_env *e, const char *name, int err)
{
	if (e)
		mno_env_stat(e, arg);
	return 0;
}

int mno_store_stat(struct mno_store *s, struct mno_store_stat *ret)
{
	struct mno_store_stat st = {.damaged = s->damaged,
		.dropped_partitions = s->dropped_partitions,
		.last_sync_ns = s->main->sync_ns,
		.encrypted = s->main->cipher != NULL};
	struct statvfs v;
	int r;

	if (fstatvfs(s->dir_fd, &v) < 0)
		return -errno;
	r = mno_store_each(s, add_stat, &st);
	if (r < 0)
		return r;
	st.free_disk_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	*ret = st;
	return 0;
}
