/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup while others write: all environments are pinned at one moment, main before the
 * partitions (as a crash between their commits would leave them), then read one after the other,
 * those that are being written first, so that their pages can be used again soon.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "../store/snapshot.h"
#include "backup_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"

#define CHUNK       (1u << 20)
#define FLOOR_EVERY (64u << 20)
#define KEY_MAX     (32u << 10)          /* of a file "key" */
#define ENVS_MAX    4096                 /* of one store */
#define PIN_MAX_NS  (60 * NS_PER_SEC)    /* of what is written: then as fast as the disk allows */
#define WRITTEN_MS  (36LL * 3600 * 1000) /* what ended longer ago is hardly written any more */
#define PIN_TRIES   5

struct part { /* one environment */
	struct mno_env *e;
	struct mno_snapshot s;
	struct mno_buf key; /* its file of that moment; empty: not encrypted */
	bool written;
};

struct job {
	struct mno_store *s;
	const struct mno_backup_opts *o;
	struct part *parts; /* owned, n of ENVS_MAX */
	size_t n;
	struct manifest m, before;
	struct mno_env *only; /* NULL: all of them */
	char name[32], partial[48];
	int dest, dir, prev; /* directories: of all backups, of this one, of the one before or -1 */
	struct mno_digest *d;
	struct pace pace;
	uint8_t kek[MNO_KEY_ID_BYTES];
	uint8_t *buf;
	uint64_t since_floor;
};

static void job_done(struct job *j)
{
	for (size_t i = 0; i < j->n; i++) {
		mno_snapshot_end(&j->parts[i].s);
		mno_buf_done(&j->parts[i].key);
		mno_env_unref(j->parts[i].e);
	}
	free(j->parts);
	free(j->buf);
	mno_digest_free(j->d);
	manifest_done(&j->m);
	manifest_done(&j->before);
	mno_close_p(&j->dir);
	mno_close_p(&j->prev);
}

/* --- all environments at one moment ------------------------------------------------------------ */

static int take_env(void *arg, struct mno_env *e, const char *name, int err)
{
	struct job *j = arg;
	char(*p)[32];
	int r;

	if (j->n == ENVS_MAX)
		return -MNO_ELIMIT;
	if (j->only && e != j->only)
		return 0;
	if (e) {
		r = mno_store_env(j->s, e->class, e->t0_ms, false, &j->parts[j->n].e);
		if (r == -ENOENT)
			return 0; /* dropped just now */
		j->n += r == 0;
		return r;
	}
	p = reallocarray(j->m.left_out, j->m.n_left_out + 1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	j->m.left_out = p;
	snprintf(p[j->m.n_left_out++], sizeof(*p), "%s", name);
	backup_finding(j->o, name, mno_strerror(err));
	return 0;
}

static int by_need(const void *a, const void *b)
{
	const struct part *x = a, *y = b;
	bool all_x = mno_class_info(x->e->class)->period == MNO_PERIOD_NONE;
	bool all_y = mno_class_info(y->e->class)->period == MNO_PERIOD_NONE;

	if (all_x != all_y)
		return all_x ? -1 : 1;
	if (all_x)
		return (int)x->e->class - (int)y->e->class;
	return x->e->t1_ms > y->e->t1_ms ? -1 : x->e->t1_ms < y->e->t1_ms;
}

static int read_small(int dir_fd, const char *path, struct mno_buf *out)
{
	_cleanup_close_ int fd = file_open(dir_fd, path);
	ssize_t n;
	char *p;

	mno_buf_reset(out);
	if (fd < 0)
		return fd;
	p = mno_buf_reserve(out, KEY_MAX + 1);
	if (!p)
		return out->err;
	n = read(fd, p, KEY_MAX + 1);
	if (n < 0)
		return -errno;
	if (n > (ssize_t)KEY_MAX)
		return -MNO_ECORRUPT;
	mno_buf_commit(out, (size_t)n);
	return 0;
}

static bool same(const struct mno_buf *a, const struct mno_buf *b)
{
	return a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len));
}

/* The data keys are the same before and after: those that this state of the file needs. */
static int pin_one(struct part *p)
{
	_cleanup_buf_ struct mno_buf after = {0};
	int r = 0;

	for (unsigned i = 0; i < PIN_TRIES; i++) {
		r = p->e->cipher ? read_small(p->e->dir_fd, "key", &p->key) : 0;
		if (r == 0)
			r = mno_snapshot_begin(p->e, &p->s);
		if (r < 0)
			return r;
		r = p->e->cipher ? read_small(p->e->dir_fd, "key", &after) : 0;
		if (r == 0 && same(&p->key, &after))
			return 0;
		mno_snapshot_end(&p->s);
		if (r < 0)
			return r;
	}
	return -EAGAIN;
}

static int pin_all(struct job *j)
{
	int64_t now = mno_now_ms();
	size_t n = 0;
	int r = mno_store_each(j->s, take_env, j);

	if (r == 0 && j->n)
		qsort(j->parts, j->n, sizeof(*j->parts), by_need);
	for (size_t i = 0; r == 0 && i < j->n; i++) {
		struct part *p = &j->parts[i];

		p->written = p->e->t1_ms > now - WRITTEN_MS;
		r = pin_one(p);
		if (r == -ENOENT && p->e->gone) { /* retention took it just now */
			mno_buf_done(&p->key);
			p->e = mno_env_unref(p->e);
			r = 0;
			continue;
		}
		if (n != i) {
			j->parts[n] = *p;
			*p = (struct part){0};
		}
		n += r == 0;
	}
	if (r == 0)
		j->n = n;
	return r;
}

/* --- one file ----------------------------------------------------------------------------------- */

static void hex(const uint8_t *p, size_t n, char *ret)
{
	for (size_t i = 0; i < n; i++)
		snprintf(ret + 2 * i, 3, "%02x", p[i]);
}

static void describe(const struct part *p, struct backup_file *f)
{
	snprintf(f->path, sizeof(f->path), "%s/data.mdb", p->e->name);
	hex(p->e->id, sizeof(p->e->id), f->env_id);
	f->size = p->s.bytes;
	f->txn = p->s.txn;
	f->dev = p->s.st.st_dev;
	f->ino = p->s.st.st_ino;
	f->ctime_ns =
		(int64_t)p->s.st.st_ctim.tv_sec * (int64_t)NS_PER_SEC + p->s.st.st_ctim.tv_nsec;
}

/* Nobody wrote the file since: neither its number of transactions nor its times changed. */
static bool unchanged(const struct backup_file *a, const struct backup_file *b)
{
	return !strcmp(a->env_id, b->env_id) && a->size == b->size && a->txn == b->txn &&
	       a->dev == b->dev && a->ino == b->ino && a->ctime_ns == b->ctime_ns;
}

/* 1: it is a link to the one before; 0: it has to be copied. */
static int try_link(struct job *j, struct backup_file *f)
{
	const struct backup_file *b = manifest_find(&j->before, f->path);
	char dir[64];
	struct stat st;

	if (j->o->full || j->prev < 0 || !b || !unchanged(f, b))
		return 0;
	if (fstatat(j->prev, b->path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
		(uint64_t)st.st_size != b->size)
		return 0;
	snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(f->path, "/"), f->path);
	if (mkdirat(j->dir, dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (linkat(j->prev, b->path, j->dir, f->path, 0) < 0)
		return 0; /* a file system without links, or too many */
	memcpy(f->hash, b->hash, sizeof(f->hash));
	f->linked = true;
	return pace_step(&j->pace, 0) ?: 1;
}

static bool will_link(const struct job *j, const struct part *p)
{
	const struct backup_file *b;
	struct backup_file f = {0};

	describe(p, &f);
	b = manifest_find(&j->before, f.path);
	return !j->o->full && j->prev >= 0 && b && unchanged(&f, b);
}

static int check_floor(struct job *j, size_t n)
{
	j->since_floor += n;
	if (j->since_floor < FLOOR_EVERY)
		return 0;
	j->since_floor = 0;
	return mno_store_floor(j->s);
}

static int copy_pages(struct job *j, struct part *p, int fd)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < p->s.bytes;) {
		size_t n = (size_t)MNO_MIN(p->s.bytes - at, (uint64_t)CHUNK);

		r = mno_snapshot_read(&p->s, at, j->buf, n);
		if (r == 0) {
			mno_digest_add(j->d, j->buf, n);
			r = file_write(fd, j->buf, n);
		}
		j->pace.hurry =
			p->written && mno_now_ns(CLOCK_MONOTONIC) - p->s.since_ns > PIN_MAX_NS;
		if (r == 0)
			r = pace_step(&j->pace, n);
		if (r == 0)
			r = check_floor(j, n);
		at += n;
	}
	return r;
}

static int copy_data(struct job *j, struct part *p)
{
	struct backup_file f = {0};
	_cleanup_close_ int fd = -1;
	int r;

	describe(p, &f);
	j->pace.env = p->e->name;
	r = try_link(j, &f);
	if (r != 0)
		return r < 0 ? r : manifest_add(&j->m, &f);
	fd = file_create(j->dir, f.path);
	if (fd < 0)
		return fd;
	r = copy_pages(j, p, fd);
	mno_digest_end(j->d, f.hash);
	if (r == 0)
		r = file_settle(fd);
	return r ?: manifest_add(&j->m, &f);
}

static int put_small(struct job *j, const char *path, const char *env_id, const struct mno_buf *b)
{
	struct backup_file f = {.size = b->len};
	_cleanup_close_ int fd = -1;
	int r;

	snprintf(f.path, sizeof(f.path), "%s", path);
	snprintf(f.env_id, sizeof(f.env_id), "%s", env_id);
	mno_digest_of(b->data, b->len, f.hash);
	fd = file_create(j->dir, path);
	if (fd < 0)
		return fd;
	r = file_write(fd, b->data, b->len);
	if (r == 0)
		r = file_settle(fd);
	return r ?: manifest_add(&j->m, &f);
}

static int copy_part(struct job *j, struct part *p)
{
	char path[64], id[33];
	int r = copy_data(j, p);

	if (r == 0 && p->e->cipher) {
		snprintf(path, sizeof(path), "%s/key", p->e->name);
		hex(p->e->id, sizeof(p->e->id), id);
		r = put_small(j, path, id, &p->key);
	}
	mno_snapshot_end(&p->s);
	return r;
}

/* Which key the store wants, never the key. */
static int copy_keys(struct job *j)
{
	static const char *const names[] = {"keys/current", "keys/argon2"};
	_cleanup_buf_ struct mno_buf b = {0};
	int r = 0;

	if (faccessat(j->s->dir_fd, "keys/next", F_OK, 0) == 0)
		return -EAGAIN;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		r = read_small(j->s->dir_fd, names[i], &b);
		r = r == -ENOENT || r == -ENOTDIR ? 0 : r ?: put_small(j, names[i], "", &b);
	}
	return r;
}

/* --- the whole ------------------------------------------------------------------------------------ */

/* The newest backup of this store that is complete: unchanged files are linked to it. */
static void find_before(struct job *j)
{
	char(*names)[MNO_BACKUP_NAME] = NULL;
	size_t n = 0;

	if (dest_names(j->dest, &names, &n) < 0)
		return;
	for (size_t i = 0; i < n && j->prev < 0; i++) {
		int fd = openat(j->dest, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

		if (fd < 0)
			continue;
		if (manifest_read(fd, &j->before, NULL, NULL) == 0 &&
			!strcmp(j->before.store, j->m.store)) {
			j->prev = fd;
			strcpy(j->m.previous, names[i]);
			continue;
		}
		manifest_done(&j->before);
		close(fd);
	}
	free(names);
}

static void set_name(struct job *j, int64_t ms)
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;

	gmtime_r(&t, &tm);
	snprintf(j->name, sizeof(j->name), "%04u%02u%02uT%02u%02u%02u.%03uZ",
		(unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
		(unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
		(unsigned)tm.tm_sec % 100, (unsigned)(ms % 1000));
	snprintf(j->partial, sizeof(j->partial), PARTIAL "%s", j->name);
}

static int begin(struct job *j)
{
	uint8_t *id = j->s->main->id;
	int r;

	j->m.time_ms = mno_now_ms();
	if (j->only) {
		snprintf(j->name, sizeof(j->name), "%s", j->only->name);
		snprintf(j->partial, sizeof(j->partial), PARTIAL "%s", j->name);
		if (faccessat(j->dest, j->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return -EEXIST;
	} else {
		do
			set_name(j, j->m.time_ms++);
		while (faccessat(j->dest, j->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
		j->m.time_ms--;
	}
	hex(id, MNO_ENV_ID_LEN, j->m.store);
	snprintf(j->m.version, sizeof(j->m.version), "%s", MNO_VERSION);
	dest_clean(j->dest);
	if (!j->only)
		find_before(j);
	j->parts = calloc(ENVS_MAX, sizeof(*j->parts));
	j->buf = malloc(CHUNK);
	if (!j->parts || !j->buf)
		return -ENOMEM;
	r = mno_digest_new(&j->d);
	if (r < 0)
		return r;
	if (mkdirat(j->dest, j->partial, 0700) < 0)
		return -errno;
	j->dir = openat(j->dest, j->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return j->dir < 0 ? -errno : 0;
}

static int pin_with_keys(struct job *j)
{
	int r;

	if (pthread_mutex_trylock(&j->s->rotate_lock))
		return -EAGAIN;
	if (j->s->keys)
		memcpy(j->kek, mno_keys_id(j->s->keys), sizeof(j->kek));
	r = copy_keys(j);
	if (r == 0)
		r = pin_all(j);
	pthread_mutex_unlock(&j->s->rotate_lock);
	return r;
}

/* Signed by the key that wraps what is in it. */
static int write_manifest(struct job *j, struct mno_buf *text)
{
	struct mno_keys *k;
	int r;

	if (pthread_mutex_trylock(&j->s->rotate_lock))
		return -EAGAIN;
	k = j->s->keys;
	if (k && memcmp(j->kek, mno_keys_id(k), sizeof(j->kek)) != 0)
		r = -EAGAIN;
	else {
		if (k)
			hex(j->kek, sizeof(j->kek), j->m.kek_id);
		r = manifest_write(&j->m, k, text);
		j->m.is_signed = k != NULL;
	}
	pthread_mutex_unlock(&j->s->rotate_lock);
	return r;
}

/* Everything is on disk before the manifest, the manifest before the name. */
static int finish(struct job *j)
{
	_cleanup_buf_ struct mno_buf text = {0};
	_cleanup_close_ int fd = -1;
	int r = write_manifest(j, &text);

	if (r < 0)
		return r;
	r = tree_sync(j->dir);
	fd = r < 0 ? r : file_create(j->dir, MANIFEST);
	if (fd < 0)
		return fd;
	r = file_write(fd, text.data, text.len);
	if (r == 0)
		r = file_settle(fd);
	if (r == 0 && fsync(j->dir) < 0)
		r = -errno;
	if (r == 0 && renameat(j->dest, j->partial, j->dest, j->name) < 0)
		r = -errno;
	if (r == 0 && fsync(j->dest) < 0)
		r = -errno;
	return r;
}

static int run(struct job *j, uint64_t start_ns)
{
	uint64_t total = 0, need = 0;
	int r = begin(j);

	if (r == 0)
		r = pin_with_keys(j);
	for (size_t i = 0; i < j->n; i++) {
		total += j->parts[i].s.bytes;
		need += will_link(j, &j->parts[i]) ? 0 : j->parts[i].s.bytes;
	}
	pace_begin(&j->pace, j->o, total);
	if (r == 0)
		r = room_check(j->dest, need, j->o, "the directory of backups");
	for (size_t i = 0; r == 0 && i < j->n; i++)
		r = copy_part(j, &j->parts[i]);
	j->m.took_ns = mno_now_ns(CLOCK_MONOTONIC) - start_ns;
	if (r == 0)
		r = finish(j);
	if (r < 0 && j->dir >= 0)
		tree_remove(j->dest, j->partial);
	return r;
}

static int create(struct mno_store *s, struct mno_env *only, const char *dest,
	const struct mno_backup_opts *o, struct mno_backup_info *ret)
{
	struct mno_backup_opts opts = {.sz = sizeof(opts)};
	_cleanup_close_ int dir = -1, lock = -1;
	struct job j = {.s = s, .o = &opts, .only = only, .dir = -1, .prev = -1};
	uint64_t start = mno_now_ns(CLOCK_MONOTONIC);
	int r = dest_open(dest, true, &dir, &lock);

	if (r < 0)
		return r;
	if (o)
		memcpy(&opts, o, MNO_MIN(o->sz, sizeof(opts)));
	j.dest = dir;
	r = run(&j, start);
	if (r == 0) {
		manifest_info(&j.m, j.name, ret);
		ret->complete = true;
	}
	job_done(&j);
	return r;
}

int mno_backup_create(struct mno_store *s, const char *dest, const struct mno_backup_opts *o,
	struct mno_backup_info *ret)
{
	return create(s, NULL, dest, o, ret);
}

int backup_create_one(struct mno_store *s, struct mno_env *e, const char *dest,
	const struct mno_backup_opts *o, struct mno_backup_info *ret)
{
	return create(s, e, dest, o, ret);
}
