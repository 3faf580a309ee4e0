/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about the host that are read from files. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/utsname.h>

#include "doctor_private.h"

static bool read_at(int dir, const char *path, char *out, size_t size)
{
	_cleanup_close_ int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

	if (n < 0)
		return false;
	out[n] = '\0';
	return true;
}

static bool line_at(int dir, const char *path, char *out, size_t size)
{
	char text[512];

	if (!read_at(dir, path, text, sizeof(text)))
		return false;
	text[strcspn(text, "\n")] = '\0';
	snprintf(out, size, "%s", text);
	return true;
}

bool mno_host_line(const char *path, char *out, size_t size)
{
	return line_at(AT_FDCWD, path, out, size);
}

bool mno_host_bracketed(const char *text, char *out, size_t size)
{
	const char *a = strchr(text, '['), *b = a ? strchr(a, ']') : NULL;

	if (!b)
		return false;
	snprintf(out, size, "%.*s", (int)(b - a - 1), a + 1);
	return true;
}

bool mno_host_listed(const char *list, const char *word, char sep)
{
	size_t n = strlen(word);

	for (const char *p = list; p && *p; p = strchr(p, sep), p = p ? p + 1 : NULL)
		if (!strncmp(p, word, n) && (p[n] == sep || !p[n]))
			return true;
	return false;
}

void mno_host_mounts(struct mno_host *h, const char *mounts)
{
	bool v1 = false, v2 = false;
	char where[128], type[32];

	for (const char *p = mounts; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		if (sscanf(p, "%*s %127s %31s", where, type) != 2)
			continue;
		v1 |= !strcmp(type, "cgroup");
		v2 |= !strcmp(type, "cgroup2");
		if (!strcmp(type, "cgroup2") && !*h->cgroup_root)
			strcpy(h->cgroup_root, where);
		else if (!strcmp(type, "bpf") && !*h->bpffs)
			strcpy(h->bpffs, where);
		else if (!strcmp(type, "tracefs") && !*h->tracefs)
			strcpy(h->tracefs, where);
	}
	h->cgroup_mode = v1 && v2 ? "hybrid" : v2 ? "unified" : v1 ? "v1" : "none";
}

/* securityfs, mounted where only we see it if it is not mounted at its place. */
static int securityfs(void)
{
	_cleanup_close_ int fs = -1;
	int dir = open("/sys/kernel/security", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir >= 0 && !faccessat(dir, "lsm", R_OK, 0))
		return dir;
	if (dir >= 0)
		close(dir);
	fs = fsopen("securityfs", FSOPEN_CLOEXEC);
	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC, 0);
}

static void read_security(struct mno_host *h)
{
	_cleanup_close_ int dir = securityfs();
	char line[128];

	strcpy(h->lockdown, "unknown");
	if (dir < 0)
		return;
	line_at(dir, "lsm", h->lsms, sizeof(h->lsms));
	if (line_at(dir, "lockdown", line, sizeof(line)))
		mno_host_bracketed(line, h->lockdown, sizeof(h->lockdown));
	else if (*h->lsms)
		strcpy(h->lockdown, "absent");
}

void mno_host_read(struct mno_host *h, const char *cgroup_root)
{
	_cleanup_free_ char *mounts = malloc(256 * 1024);
	struct utsname u;
	char path[192];

	*h = (struct mno_host){.cgroup_mode = "none"};
	if (!uname(&u))
		snprintf(h->kernel, sizeof(h->kernel), "%s", u.release);
	h->btf = !access("/sys/kernel/btf/vmlinux", R_OK);
	h->cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	if (cgroup_root)
		snprintf(h->cgroup_root, sizeof(h->cgroup_root), "%s", cgroup_root);
	if (mounts) {
		/* a long table comes in several reads; what is beyond the first 256 KiB is not looked at */
		FILE *f = fopen("/proc/self/mounts", "re");
		size_t n = f ? fread(mounts, 1, 256 * 1024 - 1, f) : 0;

		mounts[n] = '\0';
		if (f)
			fclose(f);
		mno_host_mounts(h, mounts);
	}
	if (*h->cgroup_root) {
		snprintf(path, sizeof(path), "%s/cgroup.controllers", h->cgroup_root);
		mno_host_line(path, h->controllers, sizeof(h->controllers));
	}
	read_security(h);
}
