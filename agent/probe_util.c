/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include "mno/log.h"
#include "probe_util.h"

/* libbpf's print callback has no argument; a load and its messages share a thread. */
static __thread struct mno_buf *capture;

_printf_(2, 0) static int on_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char text[2048];
	int n = vsnprintf(text, sizeof(text), fmt, ap);

	if (n <= 0)
		return 0;
	n = MNO_MIN(n, (int)sizeof(text) - 1);
	if (capture && level <= LIBBPF_INFO)
		mno_buf_add(capture, text, (size_t)n);
	while (n && text[n - 1] == '\n')
		text[--n] = '\0';
	if (level <= LIBBPF_INFO)
		mno_debug("%s", text);
	return 0;
}

void mno_libbpf_capture(struct mno_buf *buf)
{
	libbpf_set_print(on_libbpf);
	capture = buf;
}

int mno_rodata_set(struct bpf_object *obj, const char *name, uint64_t value)
{
	struct bpf_map *map = bpf_object__find_map_by_name(obj, ".rodata");
	struct btf *btf = bpf_object__btf(obj);
	const struct btf_var_secinfo *vars;
	const struct btf_type *sec;
	size_t size;
	char *data;
	int id;

	if (!map) /* libbpf prefixes internal maps with the object's name */
		bpf_object__for_each_map(map, obj) if (strstr(bpf_map__name(map), ".rodata")) break;
	if (!map || !btf)
		return -ENOENT;
	data = (void *)bpf_map__initial_value(map, &size);
	id = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
	if (!data || id < 0)
		return -ENOENT;
	sec = btf__type_by_id(btf, (uint32_t)id);
	vars = btf_var_secinfos(sec);
	for (unsigned i = 0; i < btf_vlen(sec); i++) {
		const struct btf_type *t = btf__type_by_id(btf, vars[i].type);

		if (strcmp(btf__name_by_offset(btf, t->name_off), name) || vars[i].size > 8 ||
			vars[i].offset + vars[i].size > size)
			continue;
		memcpy(data + vars[i].offset, &value, vars[i].size);
		return 0;
	}
	return -ENOENT;
}

/* The line of the verifier's log that says what is wrong: the last before its statistics. */
static void verdict_line(const char *log, char *out, size_t size)
{
	const char *end = strstr(log, "processed ") ?: strstr(log, "-- END PROG LOAD LOG --"),
		   *line;

	if (!end)
		end = log + strlen(log);
	while (end > log && end[-1] == '\n')
		end--;
	for (line = end; line > log && line[-1] != '\n';)
		line--;
	snprintf(out, size, "%.*s", (int)MNO_MIN((size_t)(end - line), size - 1), line);
}

static const struct {
	const char *text, *reason;
} known[] = {
	{"failed to find kernel BTF type ID of", "this kernel has no such tracepoint: "},
	{"failed to determine tracepoint", "this kernel has no such tracepoint: "},
	{"kernel BTF is missing", "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF): "},
	{"failed to find valid kernel BTF", "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF): "},
};

const char *mno_bpf_reason(int err, const char *log, char *out, size_t size)
{
	const char *verifier = strstr(log, "BEGIN PROG LOAD LOG");
	char line[256];

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		const char *at = strstr(log, known[i].text);

		if (!at)
			continue;
		snprintf(out, size, "%s%.*s", known[i].reason, (int)strcspn(at, "\n"), at);
		return out;
	}
	if (verifier) {
		verdict_line(verifier, line, sizeof(line));
		snprintf(out, size, "the kernel's verifier refused it: %s", line);
	} else if (err == -EPERM) {
		snprintf(out, size,
			"the kernel refuses this kind of BPF program here (EPERM): no rights "
			"(CAP_BPF, CAP_PERFMON), or forbidden by the host");
	} else {
		verdict_line(log, line, sizeof(line));
		snprintf(out, size, "%s (%s)", strerror(-err), *line ? line : "no further message");
	}
	return out;
}

uint64_t mno_bpf_fd_bytes(int fd)
{
	unsigned long long bytes = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "memlock: %llu", &bytes) == 1)
			break;
	fclose(f);
	return bytes;
}

int mno_bpffs_prepare(const char *dir, bool *ret_mounted)
{
	struct statfs s;
	bool mounted = false;

	if (statfs("/sys/fs/bpf", &s) < 0)
		return -errno;
	if ((unsigned long)s.f_type != BPF_FS_MAGIC) {
		if (mount("bpf", "/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			    "mode=0700") < 0)
			return -errno;
		mounted = true;
	}
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	*ret_mounted = mounted;
	return 0;
}

static void remove_below(int dfd, int depth)
{
	DIR *d = depth < 8 ? fdopendir(dfd) : NULL;
	struct dirent *e;

	if (!d) {
		close(dfd);
		return;
	}
	while ((e = readdir(d))) {
		int sub;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (!unlinkat(dirfd(d), e->d_name, 0))
			continue;
		sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			remove_below(sub, depth + 1);
		unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

void mno_pins_remove(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		remove_below(fd, 0);
}

int mno_iter_read(struct bpf_program *prog, struct mno_buf *out)
{
	struct bpf_link *link = bpf_program__attach_iter(prog, NULL);
	_cleanup_close_ int fd = -1;
	ssize_t n;
	int r = 0;

	if (!link)
		return -errno;
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd < 0)
		r = -errno;
	while (r == 0) {
		char *p = mno_buf_reserve(out, 16384);

		if (!p) {
			r = out->err;
			break;
		}
		n = read(fd, p, 16384);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : 0;
			break;
		}
		mno_buf_commit(out, (size_t)n);
	}
	bpf_link__destroy(link);
	return r;
}

int mno_map_values(struct bpf_object *obj, const char *map, void **ret, size_t *ret_size)
{
	struct bpf_map *m = bpf_object__find_map_by_name(obj, map);
	size_t page = (size_t)sysconf(_SC_PAGESIZE), size;
	void *p;

	if (!m)
		return -ENOENT;
	size = ((size_t)bpf_map__value_size(m) + 7) / 8 * 8 * bpf_map__max_entries(m);
	size = (size + page - 1) / page * page;
	p = mmap(NULL, size, PROT_READ, MAP_SHARED, bpf_map__fd(m), 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	*ret_size = size;
	return 0;
}
