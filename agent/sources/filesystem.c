/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space of the mounted file systems. statfs() of a dead server hangs, so it runs on the slow pool;
 * a mount whose call hangs is shown with an error and asked again only after the call returned.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "slow.h"
#include "source.h"

#define MOUNTS_MAX  128
#define ASK_EVERY   (10 * NS_PER_SEC)
#define LIST_EVERY  (60 * NS_PER_SEC)
#define ASK_TIMEOUT (2 * NS_PER_SEC)

enum { SIZE, FREE, AVAIL, FILES, FILES_FREE, READONLY, ERROR, COLUMNS };
static const struct mno_family columns[COLUMNS] = {
	[SIZE] = {"node_filesystem_size_bytes", "Size.", MNO_GAUGE},
	[FREE] = {"node_filesystem_free_bytes", "Free space.", MNO_GAUGE},
	[AVAIL] = {"node_filesystem_avail_bytes", "Free space for ordinary users.", MNO_GAUGE},
	[FILES] = {"node_filesystem_files", "File nodes in all.", MNO_GAUGE},
	[FILES_FREE] = {"node_filesystem_files_free", "Free file nodes.", MNO_GAUGE},
	[READONLY] = {"node_filesystem_readonly", "1 if mounted read-only.", MNO_GAUGE},
	[ERROR] = {"node_filesystem_device_error",
		"1 if it could not be asked in time, or answered with an error.", MNO_GAUGE},
};

/* Types without space of their own. */
static const char *const skipped_types[] = {
	"autofs",
	"binfmt_misc",
	"bpf",
	"cgroup",
	"cgroup2",
	"configfs",
	"debugfs",
	"devpts",
	"devtmpfs",
	"efivarfs",
	"fusectl",
	"hugetlbfs",
	"mqueue",
	"nsfs",
	"overlay",
	"proc",
	"pstore",
	"rpc_pipefs",
	"securityfs",
	"selinuxfs",
	"squashfs",
	"sysfs",
	"tracefs",
};

static const char *const skipped_dirs[] = {
	"/dev",
	"/proc",
	"/sys",
	"/run/credentials",
	"/run/user",
	"/var/lib/docker",
	"/var/lib/containers/storage",
};

/* What the job works on; its own memory, since it may outlive the source. */
struct question {
	char *path;
	struct statvfs vfs;
	int err;
};

struct mount {
	char *device, *path, *type;
	uint32_t slot[COLUMNS];
	struct mno_slow_job *job;
	uint64_t ask_ns;
	struct statvfs vfs;
	bool known, error, seen;
};

struct filesystem {
	int fd;
	uint64_t list_ns;
	size_t n, skipped;
	struct mount *mount[MOUNTS_MAX];
};

static void mount_free(struct mount *m)
{
	mno_slow_release(m->job);
	free(m->device);
	free(m->path);
	free(m->type);
	free(m);
}

static void filesystem_close(void *priv)
{
	struct filesystem *fs = priv;

	for (size_t i = 0; fs && i < fs->n; i++)
		mount_free(fs->mount[i]);
	mno_source_file_free(fs);
}

static int filesystem_open(struct mno_source_ctx *c, void **ret_priv)
{
	if (!c->slow) {
		mno_source_reason(c, "there is no slow pool to ask from");
		return -ENOTSUP;
	}
	/* The agent's own mounts may be restricted copies; those of process 1 are the host's. */
	if (mno_source_file_new(c, "1/mounts", sizeof(struct filesystem), ret_priv) == 0)
		return 0;
	c->reason[0] = '\0';
	return mno_source_file_new(c, "self/mounts", sizeof(struct filesystem), ret_priv);
}

/* A word of the mount table, its \ooo escapes undone. */
static char *unescape(const char *s, size_t n)
{
	char *out = malloc(n + 1);
	size_t o = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		bool octal = s[i] == '\\' && i + 3 < n && s[i + 1] >= '0' && s[i + 1] <= '3';

		for (size_t k = 2; octal && k < 4; k++)
			octal = s[i + k] >= '0' && s[i + k] <= '7';
		if (octal) {
			out[o++] = (char)((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 +
					  (s[i + 3] - '0'));
			i += 3;
		} else {
			out[o++] = s[i];
		}
	}
	out[o] = '\0';
	return out;
}

static bool is_skipped(const char *path, const char *type)
{
	if (!strcmp(path, "/"))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(skipped_types); i++) {
		if (!strcmp(type, skipped_types[i]))
			return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(skipped_dirs); i++) {
		size_t n = strlen(skipped_dirs[i]);

		if (!strncmp(path, skipped_dirs[i], n) && (path[n] == '/' || path[n] == '\0'))
			return true;
	}
	return false;
}

static struct mount *mount_find(
	struct filesystem *fs, const char *device, const char *path, const char *type)
{
	for (size_t i = 0; i < fs->n; i++) {
		struct mount *m = fs->mount[i];

		if (!strcmp(m->path, path) && !strcmp(m->device, device) && !strcmp(m->type, type))
			return m;
	}
	return NULL;
}

/* Takes the three strings. */
static void mount_see(struct filesystem *fs, char *device, char *path, char *type)
{
	struct mount *m = NULL;

	if (device && path && type && !is_skipped(path, type)) {
		m = mount_find(fs, device, path, type);
		if (m)
			m->seen = true;
		else if (fs->n == MOUNTS_MAX)
			fs->skipped++;
		else if ((m = calloc(1, sizeof(*m)))) {
			memset(m->slot, 0xff, sizeof(m->slot)); /* MNO_SLOT_NONE */
			m->seen = true;
			m->device = TAKE_PTR(device);
			m->path = TAKE_PTR(path);
			m->type = TAKE_PTR(type);
			fs->mount[fs->n++] = m;
		}
	}
	free(device);
	free(path);
	free(type);
}

static void mount_drop(struct filesystem *fs, struct mno_source_ctx *c, size_t i)
{
	struct mount *m = fs->mount[i];

	for (size_t k = 0; k < COLUMNS; k++)
		mno_source_remove(c, &m->slot[k]);
	mount_free(m);
	fs->mount[i] = fs->mount[--fs->n];
}

static int list_mounts(struct filesystem *fs, struct mno_source_ctx *c)
{
	struct mno_scan s;
	int r = mno_source_read(c, fs->fd, false, &s);

	if (r < 0)
		return r;
	for (size_t i = 0; i < fs->n; i++)
		fs->mount[i]->seen = false;
	fs->skipped = 0;
	while (s.p < s.end) {
		const char *device, *path, *type;
		size_t nd = mno_scan_word(&s, ' ', &device), np = mno_scan_word(&s, ' ', &path);
		size_t nt = mno_scan_word(&s, ' ', &type);

		if (nd && np && nt && *path == '/')
			mount_see(fs, unescape(device, nd), unescape(path, np), unescape(type, nt));
		mno_scan_line(&s);
	}
	for (size_t i = fs->n; i-- > 0;) {
		if (!fs->mount[i]->seen)
			mount_drop(fs, c, i);
	}
	return 0;
}

static void ask(void *arg)
{
	struct question *q = arg;

	q->err = statvfs(q->path, &q->vfs) < 0 ? -errno : 0;
}

static void question_free(void *arg)
{
	struct question *q = arg;

	free(q->path);
	free(q);
}

static void submit(struct mount *m, struct mno_source_ctx *c)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q)
		return;
	q->path = strdup(m->path);
	if (!q->path || mno_slow_submit(c->slow, ask, question_free, q, ASK_TIMEOUT, &m->job) < 0) {
		question_free(q);
		return;
	}
	m->ask_ns = c->now_ns + ASK_EVERY;
}

/* Looks whether the answer is there. */
static void collect(struct mount *m)
{
	void *arg = NULL;
	int r;

	if (!m->job)
		return;
	r = mno_slow_poll(m->job, &arg);
	if (r == -EINPROGRESS)
		return;
	m->error = r < 0;
	m->known = false;
	if (r == 0) {
		const struct question *q = arg;

		m->error = q->err < 0;
		m->known = q->err == 0;
		m->vfs = q->vfs;
	}
	if (r != -ETIMEDOUT)
		m->job = mno_slow_release(m->job);
}

static void publish(struct mount *m, struct mno_source_ctx *c)
{
	const struct mno_label labels[] = {
		{"device", m->device}, {"fstype", m->type}, {"mountpoint", m->path}};
	double unit = (double)m->vfs.f_frsize, v[COLUMNS];

	v[SIZE] = unit * (double)m->vfs.f_blocks;
	v[FREE] = unit * (double)m->vfs.f_bfree;
	v[AVAIL] = unit * (double)m->vfs.f_bavail;
	v[FILES] = (double)m->vfs.f_files;
	v[FILES_FREE] = (double)m->vfs.f_ffree;
	v[READONLY] = m->vfs.f_flag & ST_RDONLY ? 1 : 0;
	v[ERROR] = m->error;
	if (!m->known && !m->error)
		return;
	for (size_t i = m->known ? 0 : ERROR; i < COLUMNS; i++)
		mno_source_put(c, &m->slot[i], &columns[i], labels, ARRAY_SIZE(labels), v[i]);
}

static int filesystem_tick(void *priv, struct mno_source_ctx *c)
{
	struct filesystem *fs = priv;
	struct pollfd changed = {.fd = fs->fd, .events = POLLPRI};
	int r = 0;

	if (c->now_ns >= fs->list_ns || poll(&changed, 1, 0) > 0) {
		r = list_mounts(fs, c);
		fs->list_ns = c->now_ns + LIST_EVERY;
	}
	for (size_t i = 0; i < fs->n; i++) {
		struct mount *m = fs->mount[i];

		collect(m);
		if (!m->job && c->now_ns >= m->ask_ns)
			submit(m, c);
		publish(m, c);
		if (m->error && m->job)
			mno_source_reason(c, "a mounted file system does not answer");
	}
	if (fs->skipped)
		mno_source_reason(c, "%zu mounts over the limit of %d are not asked", fs->skipped,
			MOUNTS_MAX);
	return r;
}

const struct mno_source mno_source_filesystem = {
	.name = "filesystem",
	.summary = "space of mounted file systems (statfs, asked from the slow pool)",
	.open = filesystem_open,
	.tick = filesystem_tick,
	.close = filesystem_close,
};
