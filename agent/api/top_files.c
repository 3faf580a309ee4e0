/* SPDX-License-Identifier: Apache-2.0 */
#include "top_files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>

#include "mno/time.h"

void top_look_done(struct top_look *l)
{
	for (size_t i = 0; i < l->n_cgroups; i++)
		free(l->cgroups[i].path);
	free(l->cgroups);
	free(l->procs);
	*l = (struct top_look){};
}

/* Reads a small file as text; false when it cannot be read. */
static bool slurp(int dir, const char *name, char *buf, size_t size)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (n < 0)
		return false;
	buf[n] = 0;
	return true;
}

/* Value of the line "key N" (or "key: N") of a flat file. */
static bool flat_value(const char *text, const char *key, uint64_t *ret)
{
	size_t n = strlen(key);

	for (const char *s = text; s; s = strchr(s, '\n')) {
		s += *s == '\n';
		if (!strncmp(s, key, n) && (s[n] == ' ' || s[n] == ':')) {
			*ret = strtoull(s + n + 1, NULL, 10);
			return true;
		}
	}
	return false;
}

static int compare_cgroups(const void *a, const void *b)
{
	return strcmp(((const struct top_cgroup_usage *)a)->path,
		((const struct top_cgroup_usage *)b)->path);
}

static int read_cgroup(struct top_look *l, const char *dir, size_t root_len)
{
	struct top_cgroup_usage c = {};
	char file[4200], text[2048];

	snprintf(file, sizeof(file), "%s/cpu.stat", dir);
	if (!slurp(AT_FDCWD, file, text, sizeof(text)) ||
		!flat_value(text, "usage_usec", &c.cpu_us))
		return 0;
	c.has_throttled = flat_value(text, "throttled_usec", &c.throttled_us);
	c.path = strdup(dir[root_len] ? dir + root_len : "/");
	if (!c.path)
		return -ENOMEM;
	l->cgroups[l->n_cgroups++] = c;
	return 0;
}

static int read_cgroups(struct top_look *l, const char *root)
{
	char *const roots[] = {(char *)root, NULL};
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOSTAT | FTS_XDEV | FTS_NOCHDIR, NULL);
	FTSENT *e;
	int r = 0;

	l->cgroups = calloc(TOP_CGROUPS_MAX, sizeof(*l->cgroups));
	while (fts && l->cgroups && r == 0 && (e = fts_read(fts))) {
		if (e->fts_info != FTS_D)
			continue;
		if (l->n_cgroups == TOP_CGROUPS_MAX) {
			l->cut = true;
			break;
		}
		r = read_cgroup(l, e->fts_path, strlen(root));
	}
	if (fts)
		fts_close(fts);
	if (l->n_cgroups)
		qsort(l->cgroups, l->n_cgroups, sizeof(*l->cgroups), compare_cgroups);
	return l->cgroups ? r : -ENOMEM;
}

/* comm may hold anything, ')' included: the last one ends it */
static bool parse_stat(const char *text, struct top_proc_usage *p)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	unsigned long long utime, stime, start;
	long rss;

	if (!open || !close || close < open)
		return false;
	snprintf(p->comm, sizeof(p->comm), "%.*s", (int)MNO_MIN(close - open - 1, 15), open + 1);
	if (sscanf(close + 1,
		    " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
		    "%*d %llu "
		    "%*u %ld",
		    &utime, &stime, &start, &rss) != 4)
		return false;
	p->cpu_ticks = utime + stime;
	p->start_ticks = start;
	p->rss_bytes = (uint64_t)MNO_MAX(rss, 0) * (uint64_t)sysconf(_SC_PAGESIZE);
	return true;
}

static bool read_proc(const char *pid, struct top_proc_usage *p)
{
	char name[64], text[1024];
	unsigned long long run, wait;

	*p = (struct top_proc_usage){.pid = (uint32_t)strtoul(pid, NULL, 10)};
	snprintf(name, sizeof(name), "/proc/%s/stat", pid);
	if (!slurp(AT_FDCWD, name, text, sizeof(text)) || !parse_stat(text, p))
		return false;
	snprintf(name, sizeof(name), "/proc/%s/schedstat", pid);
	if (slurp(AT_FDCWD, name, text, sizeof(text)) &&
		sscanf(text, "%llu %llu", &run, &wait) == 2)
		p->wait_ns = wait;
	snprintf(name, sizeof(name), "/proc/%s/io", pid);
	if (slurp(AT_FDCWD, name, text, sizeof(text)))
		p->has_io = flat_value(text, "read_bytes", &p->read_bytes) &&
			    flat_value(text, "write_bytes", &p->write_bytes);
	return true;
}

static int compare_procs(const void *a, const void *b)
{
	uint32_t x = ((const struct top_proc_usage *)a)->pid,
		 y = ((const struct top_proc_usage *)b)->pid;

	return (x > y) - (x < y);
}

static int add_proc(struct top_look *l, const struct top_proc_usage *p)
{
	if (l->n_procs == l->cap_procs) {
		size_t cap = l->cap_procs ? l->cap_procs * 2 : 256;
		struct top_proc_usage *v = reallocarray(l->procs, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->procs = v;
		l->cap_procs = cap;
	}
	l->procs[l->n_procs++] = *p;
	return 0;
}

static int read_procs(struct top_look *l)
{
	DIR *d = opendir("/proc");
	struct top_proc_usage p;
	struct dirent *e;
	int r = 0;

	if (!d)
		return -errno;
	while (r == 0 && (e = readdir(d))) {
		if (!isdigit((unsigned char)e->d_name[0]) || !read_proc(e->d_name, &p))
			continue;
		if (l->n_procs == TOP_PROCS_MAX) {
			l->cut = true;
			break;
		}
		r = add_proc(l, &p);
	}
	closedir(d);
	if (l->n_procs)
		qsort(l->procs, l->n_procs, sizeof(*l->procs), compare_procs);
	return r;
}

int top_look_take(const char *root, bool procs, struct top_look *ret)
{
	struct top_look l = {.at_ns = mno_now_ns(CLOCK_MONOTONIC)};
	int r = root ? read_cgroups(&l, root) : 0;

	if (r == 0 && procs)
		r = read_procs(&l);
	if (r == 0)
		*ret = l;
	else
		top_look_done(&l);
	return r;
}

const struct top_cgroup_usage *top_find_cgroup(const struct top_look *l, const char *path)
{
	struct top_cgroup_usage key = {.path = (char *)path};

	return l->n_cgroups ? bsearch(&key, l->cgroups, l->n_cgroups, sizeof(key), compare_cgroups)
			    : NULL;
}

const struct top_proc_usage *top_find_proc(const struct top_look *l, const struct top_proc_usage *p)
{
	const struct top_proc_usage *r =
		l->n_procs ? bsearch(p, l->procs, l->n_procs, sizeof(*p), compare_procs) : NULL;

	return r && r->start_ticks == p->start_ticks ? r : NULL;
}

bool top_proc_cgroup(uint32_t pid, char *buf, size_t size)
{
	char name[64], text[4096];
	const char *at;

	snprintf(name, sizeof(name), "/proc/%u/cgroup", pid);
	if (!slurp(AT_FDCWD, name, text, sizeof(text)))
		return false;
	at = strncmp(text, "0::", 3) ? strstr(text, "\n0::") : text - 1;
	if (!at)
		return false;
	at += 4;
	snprintf(buf, size, "%.*s", (int)strcspn(at, "\n"), at);
	return true;
}
