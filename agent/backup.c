/* SPDX-License-Identifier: Apache-2.0 */
#include "backup.h"
#include "archive.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"

#define NICE         19
#define FINDINGS_MAX 64
#define RETRY_NS     (600 * NS_PER_SEC) /* after a failure, unless it is due before */

struct mno_backups {
	struct mno_backups_opts o;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_bool cancel;
	bool stop, asked, running;
	enum mno_backups_what what;
	char dir[256], name[MNO_BACKUP_NAME], env[64];
	uint64_t keep, bytes, of_bytes, damaged, deleted;
	int64_t before_ms;
	bool signature, walked, move, forget;
	int error; /* of the last job */
	struct mno_backup_info info;
	char *findings[FINDINGS_MAX];
	size_t n_findings;
	char *partitions[FINDINGS_MAX]; /* that a job on archives has done */
	size_t n_partitions;
	struct mno_backups_stat stat;
	int64_t last_ms;
	int last_error; /* of the last backup */
};

static void add_finding(void *arg, const char *file, const char *what)
{
	struct mno_backups *b = arg;

	mno_err("backup: %s: %s", file, what);
	pthread_mutex_lock(&b->lock);
	if (b->n_findings < FINDINGS_MAX &&
		asprintf(&b->findings[b->n_findings], "%s: %s", file, what) >= 0)
		b->n_findings++;
	pthread_mutex_unlock(&b->lock);
}

static void note_progress(void *arg, const struct mno_backup_progress *p)
{
	struct mno_backups *b = arg;

	pthread_mutex_lock(&b->lock);
	b->bytes = p->bytes;
	b->of_bytes = p->of_bytes;
	snprintf(b->env, sizeof(b->env), "%s", p->env);
	pthread_mutex_unlock(&b->lock);
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void count_backup(struct mno_backups *b, int r, const struct mno_backup_info *info)
{
	pthread_mutex_lock(&b->lock);
	b->last_error = r;
	if (r == 0) {
		b->stat.done++;
		b->stat.last_bytes = info->new_bytes;
		b->last_ms = mno_now_ms();
		b->info = *info;
	} else if (r != -ECANCELED) {
		b->stat.failed++;
	}
	pthread_mutex_unlock(&b->lock);
	if (r == 0)
		mno_info("backup %s/%s: %llu bytes, %llu of them new", b->dir, info->name,
			(unsigned long long)info->bytes, (unsigned long long)info->new_bytes);
	else
		mno_err("backup to %s failed: %s%s", b->dir, mno_strerror(r),
			r == -ENOSPC ? " (free space there, or lower backup_keep)" : "");
}

static int create(struct mno_backups *b, const struct mno_backup_opts *o)
{
	struct mno_backup_info info = {0};
	int r = mno_backup_create(b->o.store, b->dir, o, &info);

	count_backup(b, r, &info);
	return r;
}

static int verify(struct mno_backups *b, const struct mno_backup_opts *o)
{
	_cleanup_free_ struct mno_backup_info *v = NULL;
	struct mno_backup_verdict d = {0};
	char path[sizeof(b->dir) + MNO_BACKUP_NAME + 1];
	size_t n = 0;
	int r = mno_backup_list(b->dir, &v, &n);

	if (r == 0 && !*b->name && !n)
		r = -ENOENT;
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/%s", b->dir, *b->name ? b->name : v[0].name);
	r = mno_backup_verify(path, b->o.state_dir, o, &d);
	pthread_mutex_lock(&b->lock);
	b->damaged = d.damaged;
	b->signature = d.signature;
	b->walked = d.walked;
	b->info = d.info;
	pthread_mutex_unlock(&b->lock);
	return r;
}

static int prune(struct mno_backups *b, const struct mno_backup_opts *o)
{
	size_t n = 0;
	int r = mno_backup_prune(b->dir, (unsigned)b->keep, o, &n);

	pthread_mutex_lock(&b->lock);
	b->deleted = n;
	pthread_mutex_unlock(&b->lock);
	if (r < 0)
		mno_err("backups in %s were not pruned: %s", b->dir, mno_strerror(r));
	return r;
}

static void partition_done(void *arg, const char *name, const struct mno_backup_info *info)
{
	struct mno_backups *b = arg;

	pthread_mutex_lock(&b->lock);
	if (b->n_partitions < FINDINGS_MAX &&
		(b->partitions[b->n_partitions] = strdup(name)) != NULL)
		b->n_partitions++;
	b->info.bytes += info ? info->bytes : 0;
	b->info.files += info ? info->files : 0;
	pthread_mutex_unlock(&b->lock);
}

static int on_archive(struct mno_backups *b, const struct mno_backup_opts *o)
{
	static int (*const jobs[])(
		const struct mno_archive_job *j, const struct mno_backup_opts *o) = {
		[MNO_BACKUPS_ARCHIVE] = mno_archive_make,
		[MNO_BACKUPS_ATTACH] = mno_archive_bring,
		[MNO_BACKUPS_DETACH] = mno_archive_take,
	};
	const struct mno_archive_job j = {.store = b->o.store,
		.series = b->o.series,
		.dir = b->dir,
		.name = b->name,
		.before_ms = b->before_ms,
		.move = b->move,
		.forget = b->forget,
		.done = partition_done,
		.arg = b};

	return jobs[b->what](&j, o);
}

static void run(struct mno_backups *b, bool scheduled)
{
	static int (*const jobs[])(struct mno_backups * b, const struct mno_backup_opts *o) = {
		[MNO_BACKUPS_CREATE] = create,
		[MNO_BACKUPS_VERIFY] = verify,
		[MNO_BACKUPS_PRUNE] = prune,
		[MNO_BACKUPS_ARCHIVE] = on_archive,
		[MNO_BACKUPS_ATTACH] = on_archive,
		[MNO_BACKUPS_DETACH] = on_archive,
	};
	struct mno_backup_opts o = {.sz = sizeof(o),
		.bytes_per_s = b->o.bytes_per_s,
		.cancel = &b->cancel,
		.finding = add_finding,
		.progress = note_progress,
		.arg = b};
	int r = jobs[b->what](b, &o);

	if (r == 0 && scheduled)
		prune(b, &o);
	pthread_mutex_lock(&b->lock);
	b->running = false;
	b->error = r;
	pthread_mutex_unlock(&b->lock);
}

/* --- thread ----------------------------------------------------------------------------------- */

static void forget(struct mno_backups *b)
{
	while (b->n_findings)
		free(b->findings[--b->n_findings]);
	while (b->n_partitions)
		free(b->partitions[--b->n_partitions]);
	b->bytes = b->of_bytes = b->damaged = b->deleted = 0;
	b->signature = b->walked = false;
	b->env[0] = '\0';
	b->info = (struct mno_backup_info){0};
}

/*
 * How long until the schedule wants the next one, by a wall clock that may be set at any time. The
 * newest backup counts across restarts; of a time that has not come, the clock was wrong.
 */
static uint64_t until_due(const struct mno_backups *b)
{
	_cleanup_free_ struct mno_backup_info *v = NULL;
	uint64_t now = mno_now_ns(CLOCK_REALTIME), last = 0;
	size_t n = 0;

	if (!b->o.every_ns || !*b->o.dir)
		return UINT64_MAX;
	if (mno_backup_list(b->o.dir, &v, &n) == 0)
		for (size_t i = 0; i < n && !last; i++)
			if (v[i].complete && (uint64_t)v[i].time_ms * NS_PER_MS <= now)
				last = (uint64_t)v[i].time_ms * NS_PER_MS;
	return now - last >= b->o.every_ns ? 0 : last + b->o.every_ns - now;
}

static bool wait_turn(struct mno_backups *b, bool *ret_scheduled)
{
	bool retry = b->last_error && b->o.every_ns, go;
	uint64_t left = retry ? MNO_MIN(RETRY_NS, b->o.every_ns) : until_due(b);

	pthread_mutex_lock(&b->lock);
	while (!b->stop && !b->asked && left) {
		uint64_t slice = MNO_MIN(left, 3600 * NS_PER_SEC);

		if (mno_cond_wait_ns(&b->wake, &b->lock, slice) != -ETIMEDOUT)
			continue;
		pthread_mutex_unlock(&b->lock); /* that directory may be slow */
		left = retry ? left - slice : until_due(b);
		pthread_mutex_lock(&b->lock);
	}
	go = !b->stop;
	*ret_scheduled = !b->asked;
	if (go && !b->asked) {
		forget(b);
		b->what = MNO_BACKUPS_CREATE;
		b->keep = b->o.keep;
		snprintf(b->dir, sizeof(b->dir), "%s", b->o.dir);
	}
	b->asked = false;
	b->running = go;
	pthread_mutex_unlock(&b->lock);
	return go;
}

static void *backups_main(void *arg)
{
	struct mno_backups *b = arg;
	bool scheduled;

	setpriority(PRIO_PROCESS, 0, NICE); /* of this thread only, on Linux */
	while (wait_turn(b, &scheduled))
		run(b, scheduled);
	return NULL;
}

int mno_backups_start(const struct mno_backups_opts *o, struct mno_backups **ret)
{
	struct mno_backups *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->o = *o;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->wake, NULL);
	r = -pthread_create(&b->thread, NULL, backups_main, b);
	if (r < 0) {
		free(b);
		return r;
	}
	pthread_setname_np(b->thread, "mno-backup");
	*ret = b;
	return 0;
}

struct mno_backups *mno_backups_stop(struct mno_backups *b)
{
	if (!b)
		return NULL;
	pthread_mutex_lock(&b->lock);
	b->stop = true;
	atomic_store(&b->cancel, true);
	pthread_cond_signal(&b->wake);
	pthread_mutex_unlock(&b->lock);
	pthread_join(b->thread, NULL);
	forget(b);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->wake);
	free(b);
	return NULL;
}

int mno_backups_ask(
	struct mno_backups *b, enum mno_backups_what what, const struct mno_backups_ask *q)
{
	const char *dir = q->dir && *q->dir ? q->dir : b->o.dir, *name = q->name ?: "";
	bool named = what == MNO_BACKUPS_DETACH || (what == MNO_BACKUPS_ARCHIVE && !q->before_ms);
	int r = 0;

	if (what >= MNO_BACKUPS_ARCHIVE)
		dir = q->dir ?: ""; /* not among the backups */
	if ((*dir != '/' && what != MNO_BACKUPS_DETACH) || strlen(dir) >= sizeof(b->dir) ||
		strlen(name) >= sizeof(b->name) || strchr(name, '/') || (named && !*name))
		return -EINVAL;
	pthread_mutex_lock(&b->lock);
	if (b->asked || b->running) {
		r = -EBUSY;
	} else {
		forget(b);
		b->asked = true;
		b->what = what;
		b->keep = q->keep ?: b->o.keep;
		b->before_ms = q->before_ms;
		b->move = q->move;
		b->forget = q->forget;
		b->error = 0;
		snprintf(b->dir, sizeof(b->dir), "%s", dir);
		snprintf(b->name, sizeof(b->name), "%s", name);
		pthread_cond_signal(&b->wake);
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* --- figures ---------------------------------------------------------------------------------- */

static void put_info(struct mno_json *j, const struct mno_backup_info *i)
{
	mno_json_obj(j);
	mno_json_kstr(j, "name", i->name);
	mno_json_kbool(j, "complete", i->complete);
	mno_json_ki64(j, "time_ms", i->time_ms);
	mno_json_ku64(j, "files", i->files);
	mno_json_ku64(j, "bytes", i->bytes);
	mno_json_ku64(j, "new_bytes", i->new_bytes);
	mno_json_ku64(j, "left_out", i->left_out);
	mno_json_kf64(j, "seconds", (double)i->took_ns / (double)NS_PER_SEC);
	mno_json_kbool(j, "signed", i->is_signed);
	mno_json_kstr(j, "kek_id", i->kek_id);
	mno_json_kstr(j, "store", i->store);
	mno_json_kstr(j, "previous", i->previous);
	mno_json_end(j);
}

static void put_job(struct mno_backups *b, struct mno_json *j)
{
	static const char *const jobs[] = {
		"create", "verify", "prune", "archive", "attach", "detach"};

	mno_json_key(j, "job");
	mno_json_obj(j);
	mno_json_kbool(j, "running", b->asked || b->running);
	mno_json_kstr(j, "what", jobs[b->what]);
	mno_json_kstr(j, "directory", b->dir);
	mno_json_kstr(j, "environment", b->env);
	mno_json_ku64(j, "bytes", b->bytes);
	mno_json_ku64(j, "of_bytes", b->of_bytes);
	mno_json_kstr(j, "error", b->error ? mno_strerror(b->error) : NULL);
	mno_json_ku64(j, "damaged", b->damaged);
	mno_json_ku64(j, "deleted", b->deleted);
	mno_json_kbool(j, "signature", b->signature);
	mno_json_kbool(j, "walked", b->walked);
	mno_json_key(j, "backup");
	put_info(j, &b->info);
	mno_json_key(j, "partitions");
	mno_json_arr(j);
	for (size_t i = 0; i < b->n_partitions; i++)
		mno_json_str(j, b->partitions[i]);
	mno_json_end_arr(j);
	mno_json_key(j, "findings");
	mno_json_arr(j);
	for (size_t i = 0; i < b->n_findings; i++)
		mno_json_str(j, b->findings[i]);
	mno_json_end_arr(j);
	mno_json_end(j);
}

void mno_backups_put_list(struct mno_json *j, const struct mno_backup_info *v, size_t n)
{
	mno_json_key(j, "backups");
	mno_json_arr(j);
	for (size_t i = 0; i < n; i++)
		put_info(j, &v[i]);
	mno_json_end_arr(j);
}

void mno_backups_json(struct mno_backups *b, const char *dir, struct mno_json *j)
{
	_cleanup_free_ struct mno_backup_info *v = NULL;
	size_t n = 0;

	dir = dir && *dir ? dir : b->o.dir;
	if (*dir == '/' && mno_backup_list(dir, &v, &n) < 0)
		n = 0;
	mno_json_obj(j);
	mno_json_kstr(j, "directory", dir);
	mno_json_kf64(j, "every_seconds", (double)b->o.every_ns / (double)NS_PER_SEC);
	mno_json_ku64(j, "keep", b->o.keep);
	pthread_mutex_lock(&b->lock);
	mno_json_ki64(j, "last_ms", b->last_ms);
	mno_json_kstr(j, "last_error", b->last_error ? mno_strerror(b->last_error) : NULL);
	put_job(b, j);
	pthread_mutex_unlock(&b->lock);
	mno_backups_put_list(j, v, n);
	mno_json_end(j);
}

void mno_backups_stat(struct mno_backups *b, struct mno_backups_stat *ret, int *ret_error)
{
	pthread_mutex_lock(&b->lock);
	*ret = b->stat;
	ret->age_s = b->last_ms ? (uint64_t)(mno_now_ms() - b->last_ms) / 1000 : 0;
	*ret_error = b->last_error;
	pthread_mutex_unlock(&b->lock);
}

void mno_backups_of_key(struct mno_backups *b, const char *kek_id, struct mno_json *j)
{
	_cleanup_free_ struct mno_backup_info *v = NULL;
	size_t n = 0;

	if (*b->o.dir && mno_backup_list(b->o.dir, &v, &n) < 0)
		n = 0;
	mno_json_arr(j);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i].kek_id, kek_id))
			mno_json_str(j, v[i].name);
	mno_json_end_arr(j);
}
