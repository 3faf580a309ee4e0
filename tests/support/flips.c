/* SPDX-License-Identifier: Apache-2.0 */
#include "flips.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../libmno/src/crypt/crypt.h"
#include "../../libmno/src/series/series_internal.h"
#include "../../libmno/src/store/pages.h"
#include "mno/err.h"
#include "mno/ledger.h"
#include "mno/log.h"
#include "mno/series.h"
#include "mno/store_check.h"
#include "mno/time.h"
#include "mno_wire.h"
#include "tmpstate.h"

#define FILES_MAX 64
#define SERIES    150
#define ROWS      1300
#define PROCS     3000
#define EVENTS    4000
#define DAY_MS    86400000LL
#define START_MS  (20000 * DAY_MS)
#define CHILD_MS  20000

struct image {
	char path[160];
	uint8_t *p;
	uint8_t *used; /* of a data.mdb: 1 for each byte that means something; NULL: all do */
	size_t size;
	bool lock; /* LMDB's table of readers */
};

struct world {
	struct tmpstate tmp;
	struct image f[FILES_MAX];
	size_t n;
	uint64_t bytes;
};

/* What a child saw; written to a pipe in one piece. */
struct seen {
	int open;
	unsigned reports, missing, wrong;
};

/* --- the truth -------------------------------------------------------------------------------- */

/* Hard to compress: values then lie in pages of their own, without sums. */
static uint64_t noise(uint64_t x)
{
	x = (x + 1) * 0x9e3779b97f4a7c15ULL;
	return rnd(&x);
}

static double value_of(unsigned series, int64_t t_ms)
{
	return (double)(noise((uint64_t)t_ms * 1000 + series) >> 44) / (series % 3 ? 1 : 8);
}

static int fill_series(struct mno_store *s)
{
	struct mno_series *d;
	struct mno_txn *t;
	uint32_t ids[SERIES];
	double v[SERIES];
	char key[40];
	int r = mno_series_open(s, &d);

	if (r == 0)
		r = mno_store_begin(s, &t);
	for (unsigned i = 0; i < SERIES && r == 0; i++) {
		snprintf(key, sizeof(key), "flip{i=\"%u\"}", i);
		r = mno_series_resolve(d, t, key, strlen(key), &ids[i]);
	}
	for (unsigned n = 0; n < ROWS && r == 0; n++) {
		for (unsigned i = 0; i < SERIES; i++)
			v[i] = value_of(i, START_MS + n * 1000);
		r = mno_series_append(d, t, START_MS + n * 1000, ids, v, SERIES);
		if (r == 0 && n % 50 == 49) {
			r = mno_store_commit(s, t);
			mno_series_committed(d);
			if (r == 0)
				r = mno_store_begin(s, &t);
		}
	}
	if (r == 0)
		r = mno_store_commit(s, t);
	mno_series_committed(d);
	mno_series_close(d);
	return r;
}

static uint64_t proc_time(unsigned i)
{
	return (uint64_t)START_MS * NS_PER_MS + i * 40 * NS_PER_SEC; /* over two days */
}

static int fill_procs(struct mno_store *s, struct mno_txn *t, unsigned from, unsigned n)
{
	struct mno_proc p[64];

	memset(p, 0, sizeof(p));
	for (unsigned i = 0; i < n; i++) {
		p[i] = (struct mno_proc){.pid = from + i + 1,
			.flags = MNO_PROC_ENDED,
			.start_ns = proc_time(from + i) - NS_PER_SEC,
			.exit_code = (from + i) % 7,
			.end_ns = proc_time(from + i)};
		snprintf(p[i].comm, sizeof(p[i].comm), "p%u", from + i + 1);
	}
	return mno_ledger_store(s, t, p, n);
}

struct event {
	struct mno_hdr h;
	uint64_t i, noise[6];
};

static int fill_events(struct mno_store *s, struct mno_txn *t, unsigned from, unsigned n)
{
	struct event v[64];

	for (unsigned i = 0; i < n; i++) {
		v[i] = (struct event){.h = {.size = sizeof(v[i]),
					      .kind = 1,
					      .version = 1,
					      .ktime = proc_time(from + i),
					      .seq = from + i},
			.i = from + i};
		for (unsigned k = 0; k < 6; k++)
			v[i].noise[k] = noise(v[i].i * 6 + k);
	}
	return mno_events_store(s, t, v[0].h.ktime, v[n - 1].h.ktime, v, n * sizeof(*v), n);
}

static int fill_rest(struct mno_store *s)
{
	int r = 0;

	for (unsigned i = 0; i < PROCS / 50 && r == 0; i++) {
		struct mno_txn *t;

		r = mno_store_begin(s, &t);
		if (r == 0)
			r = fill_procs(s, t, i * 50, 50);
		for (unsigned k = 0; k < EVENTS / PROCS + 1 && r == 0; k++)
			if (i * 50 + 50 <= EVENTS && k == 0)
				r = fill_events(s, t, i * 50, 50);
		if (r == 0)
			r = mno_store_commit(s, t);
	}
	return r;
}

#define EVENTS_STORED (PROCS / 50 * 50)

/* --- the child -------------------------------------------------------------------------------- */

static void count_report(void *arg, enum mno_log_level level, const char *msg)
{
	((struct seen *)arg)->reports += level <= MNO_LOG_WARN;
}

static void count_finding(void *arg, const struct mno_finding *f)
{
	((struct seen *)arg)->reports++;
}

struct reading {
	struct seen *seen;
	struct mno_series *d;
	bool had[SERIES > PROCS ? SERIES : PROCS];
	size_t samples, items;
};

static int look_column(void *arg, const struct mno_column *c)
{
	struct reading *r = arg;
	_cleanup_buf_ struct mno_buf key = {0};
	unsigned i = 0;

	r->seen->reports += c->damaged;
	if (mno_series_key(r->d, c->id, &key) < 0)
		return 0;
	if (sscanf(mno_buf_cstr(&key), "flip{i=\"%u\"}", &i) != 1 || i >= SERIES || r->had[i]) {
		r->seen->wrong++;
		return 0;
	}
	r->had[i] = true;
	for (size_t k = 0; k < c->n; k++) {
		int64_t row = (c->t_ms[k] - START_MS) / 1000;

		if (row < 0 || row >= ROWS || c->t_ms[k] % 1000 ||
			(k && c->t_ms[k] <= c->t_ms[k - 1]) || c->v[k] != value_of(i, c->t_ms[k]))
			r->seen->wrong++;
	}
	r->samples += c->n;
	return 0;
}

static void read_series(struct mno_store *s, struct seen *seen)
{
	struct reading *r = calloc(1, sizeof(*r));
	struct mno_ids ids = {0};
	int e;

	r->seen = seen;
	e = mno_series_open(s, &r->d);
	if (e == 0)
		e = mno_series_select(r->d, NULL, 0, SIZE_MAX, &ids);
	if (e == 0)
		e = mno_series_read(r->d, ids.v, ids.n, 0, INT64_MAX / 2, SIZE_MAX, look_column, r);
	seen->reports += e < 0;
	seen->missing += (unsigned)(SERIES * ROWS - r->samples);
	mno_ids_done(&ids);
	mno_series_close(r->d);
	free(r);
}

static int look_proc(void *arg, const struct mno_proc *p)
{
	struct reading *r = arg;
	unsigned i = p->pid - 1;
	char comm[16];

	snprintf(comm, sizeof(comm), "p%u", p->pid);
	if (i >= PROCS || r->had[i] || p->end_ns != proc_time(i) || p->exit_code != i % 7 ||
		strcmp(comm, p->comm) != 0)
		r->seen->wrong++;
	else
		r->had[i] = true;
	r->items++;
	return 0;
}

static int look_event(void *arg, const void *rec, size_t len)
{
	const struct event *v = rec;
	struct reading *r = arg;

	if (len != sizeof(*v) || v->i >= EVENTS_STORED || v->noise[0] != noise(v->i * 6) ||
		v->noise[5] != noise(v->i * 6 + 5) || r->had[v->i] || v->h.seq != v->i)
		r->seen->wrong++;
	else
		r->had[v->i] = true;
	r->items++;
	return 0;
}

static void read_rest(struct mno_store *s, struct seen *seen)
{
	struct reading *r = calloc(1, sizeof(*r));

	r->seen = seen;
	seen->reports += mno_ledger_read(s, 0, UINT64_MAX / 2, look_proc, r) < 0;
	seen->missing += (unsigned)(PROCS - r->items);
	memset(r->had, 0, sizeof(r->had));
	r->items = 0;
	seen->reports += mno_events_read(s, 0, UINT64_MAX / 2, look_event, r) < 0;
	seen->missing += (unsigned)(EVENTS_STORED - r->items);
	free(r);
}

static void look(const char *dir, struct seen *seen)
{
	struct mno_store_opts o = {.sz = sizeof(o), .floor_bytes = 1, .map_initial = 64 << 20};
	struct mno_verify_opts vo = {.sz = sizeof(vo),
		.deep = true,
		.pages = true,
		.finding = count_finding,
		.arg = seen};
	struct mno_verify_progress p;
	struct mno_store_stat st;
	struct mno_store *s;

	mno_log_set(count_report, seen, MNO_LOG_WARN);
	seen->open = mno_store_open(dir, &o, &s);
	if (seen->open < 0) {
		seen->reports++;
		return;
	}
	read_series(s, seen);
	read_rest(s, seen);
	seen->reports += mno_store_verify(s, &vo, &p) < 0;
	if (mno_store_stat(s, &st) == 0)
		seen->reports += st.damaged > 0;
	mno_store_close(s);
}

/* 0, or -ECHILD: it crashed or hung. */
static int in_child(const char *dir, struct seen *ret)
{
	int fds[2], status;
	struct pollfd p;
	pid_t pid;
	bool done;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		struct seen seen = {0};
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		dup2(null, STDERR_FILENO); /* LMDB says why it aborts */
		look(dir, &seen);
		_exit(write(fds[1], &seen, sizeof(seen)) == sizeof(seen) ? 0 : 1);
	}
	close(fds[1]);
	p = (struct pollfd){.fd = fds[0], .events = POLLIN};
	done = pid > 0 && poll(&p, 1, CHILD_MS) == 1 &&
	       read(fds[0], ret, sizeof(*ret)) == sizeof(*ret);
	close(fds[0]);
	if (pid > 0 && !done)
		kill(pid, SIGKILL);
	if (pid > 0)
		waitpid(pid, &status, 0);
	return done && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

/* --- files ------------------------------------------------------------------------------------ */

static int mark_page(void *arg, const struct mno_page *p)
{
	struct image *f = arg;
	uint8_t *u = f->used + p->no * 4096;
	const uint8_t *v = p->p;
	uint16_t lower, upper;
	uint32_t stored;

	switch (p->kind) {
	case MNO_PAGE_HEAD:
		memset(u, 1, 16 + 136);
		break;
	case MNO_PAGE_TREE:
		memcpy(&lower, v + 12, 2);
		memcpy(&upper, v + 14, 2);
		memset(u, 1, lower);
		memset(u + upper, 1, 4096 - upper);
		break;
	case MNO_PAGE_FREE_LIST:
		memset(u, 1, 16 + p->used);
		break;
	case MNO_PAGE_VALUE:
		memset(u, 1, 16);
		u[8] = u[9] = 0; /* LMDB's mp_pad, which only pages of DUPFIXED databases use */
		memset(u + 16, 1, p->used);
		/* padding behind a sealed value: head, nonce of 12, code of 16, data */
		memcpy(&stored, v + 16 + 8, 4);
		if (v[16] == 'S' && v[17] == 'm' && v[22] == MNO_SUITE_AES256GCM)
			memset(u + 16 + 40 + 28 + stored, 0, p->used - 40 - 28 - stored);
		break;
	}
	return 0;
}

/* Which bytes of the file mean something: the rest are free pages, gaps, padding. */
static int mark(struct image *f)
{
	struct mno_pages w = {.fn = mark_page, .arg = f, .values = true};
	_cleanup_close_ int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	f->used = calloc(1, f->size + 4096);
	return f->used && fd >= 0 ? mno_pages_walk(fd, 0, &w) : -ENOMEM;
}

static int load(struct world *w, const char *path, size_t size)
{
	struct image *f = &w->f[w->n];
	const char *name = strrchr(path, '/') + 1;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (w->n == FILES_MAX)
		return -E2BIG;
	snprintf(f->path, sizeof(f->path), "%s", path);
	f->size = size;
	f->p = malloc(size + 1);
	f->lock = !strcmp(name, "lock.mdb");
	if (!f->p || fd < 0 || read(fd, f->p, size) != (ssize_t)size)
		return -EIO;
	w->n++;
	w->bytes += size;
	return strcmp(name, "data.mdb") ? 0 : mark(f);
}

static int load_dir(struct world *w, const char *dir, bool killed)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	int r = d ? 0 : -errno;

	while (r == 0 && (de = readdir(d))) {
		char path[160];
		struct stat st;

		if (de->d_name[0] == '.' ||
			(size_t)snprintf(path, sizeof(path), "%s/%s", dir, de->d_name) >=
				sizeof(path) ||
			stat(path, &st) < 0)
			continue;
		if (killed && !strcmp(de->d_name, "pages.sum")) {
			unlink(path);
			continue;
		}
		r = S_ISDIR(st.st_mode) ? load_dir(w, path, killed)
					: load(w, path, (size_t)st.st_size);
	}
	if (d)
		closedir(d);
	return r;
}

/* Everything as it was, with this file's bytes as they are in memory now. */
static int restore(struct world *w)
{
	tmpstate_done(&w->tmp);
	if (mkdir(w->tmp.dir, 0700) < 0)
		return -errno;
	for (size_t i = 0; i < w->n; i++) {
		const struct image *f = &w->f[i];
		char dir[160];
		int fd, r;

		snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(f->path, '/') - f->path), f->path);
		mkdir(dir, 0700);
		fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		r = fd < 0 || write(fd, f->p, f->size) != (ssize_t)f->size ? -EIO : 0;
		mno_close_p(&fd);
		if (r < 0)
			return r;
	}
	return 0;
}

static int build(struct world *w, bool killed)
{
	struct mno_store_opts o = {.sz = sizeof(o), .floor_bytes = 1, .map_initial = 64 << 20};
	struct mno_store *s = NULL;
	int r;

	tmpstate_new(&w->tmp);
	r = mno_store_open(w->tmp.dir, &o, &s);
	if (r == 0)
		r = fill_series(s);
	if (r == 0)
		r = fill_rest(s);
	mno_store_close(s);
	return r < 0 ? r : load_dir(w, w->tmp.dir, killed);
}

/* --- flips ------------------------------------------------------------------------------------ */

static void judge(
	const struct image *f, size_t at, int r, const struct seen *s, struct flips_result *ret)
{
	bool used = f->used ? f->used[at] : !f->lock;
	const char *what = NULL;

	ret->n++;
	if (r < 0 && ++ret->crashed)
		what = "crashed";
	else if (s->wrong && ++ret->wrong)
		what = "gave a wrong answer";
	else if (s->open < 0)
		ret->refused++;
	else if (s->missing && !s->reports && ++ret->silent)
		what = "lost something silently";
	else if (s->reports)
		*(s->missing ? &ret->lost : &ret->mended) += 1;
	else if (used && ++ret->unproven)
		what = "was not found";
	else
		ret->unused++;
	if (what)
		printf("flip in %s, byte %zu: %s (missing %u, wrong %u, reports %u)\n", f->path, at,
			what, s->missing, s->wrong, s->reports);
}

static int flip_one(struct world *w, uint64_t bit, struct flips_result *ret)
{
	uint64_t at = bit / 8;
	struct image *f = w->f;
	struct seen s = {0};
	int r;

	for (; at >= f->size; f++)
		at -= f->size;
	f->p[at] ^= (uint8_t)(1u << bit % 8);
	r = restore(w);
	if (r == 0) {
		r = in_child(w->tmp.dir, &s);
		judge(f, at, r, &s, ret);
		r = 0;
	}
	f->p[at] ^= (uint8_t)(1u << bit % 8);
	return r;
}

int flips_run(unsigned n, uint64_t seed, bool killed, struct flips_result *ret)
{
	struct world *w = calloc(1, sizeof(*w));
	struct flips_result res = {0};
	struct seen s = {0};
	int r = w ? build(w, killed) : -ENOMEM;

	if (r == 0)
		r = restore(w) ?: in_child(w->tmp.dir, &s);
	if (r == 0 && (s.open || s.reports || s.missing || s.wrong)) {
		printf("the sound store: open %d, reports %u, missing %u, wrong %u\n", s.open,
			s.reports, s.missing, s.wrong);
		r = -EINVAL;
	}
	for (size_t i = 0; r == 0 && i < w->n; i++) {
		size_t used = 0;

		for (size_t k = 0; w->f[i].used && k < w->f[i].size; k++)
			used += w->f[i].used[k];
		printf("%s: %zu bytes", w->f[i].path + strlen(w->tmp.dir) + 1, w->f[i].size);
		printf(w->f[i].used ? ", %zu in use\n" : "\n", used);
	}
	for (unsigned i = 0; i < n && r == 0; i++)
		r = flip_one(w, rnd(&seed) % (w->bytes * 8), &res);
	for (size_t i = 0; w && i < w->n; i++) {
		free(w->f[i].p);
		free(w->f[i].used);
	}
	if (w)
		tmpstate_done(&w->tmp);
	free(w);
	*ret = res;
	return r;
}
