/* SPDX-License-Identifier: Apache-2.0 */
/* Partitions in archives, and those that came back from one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include "store_internal.h"

bool mno_store_attached(struct mno_store *s, enum mno_class c, int64_t t_ms)
{
	struct mno_env name = {.class = c};
	char path[64];

	mno_class_bounds(c, t_ms, &name.t0_ms, &name.t1_ms);
	mno_env_name(&name);
	snprintf(path, sizeof(path), "%s/" MNO_ATTACHED_FILE, name.name);
	return faccessat(s->dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* On record: the archive itself may be anywhere. */
int64_t mno_store_held_ms(struct mno_store *s)
{
	int fd = openat(s->dir_fd, MNO_ARCHIVED_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int64_t oldest = INT64_MAX, t;
	struct dirent *de;
	enum mno_class c;

	if (!d) {
		mno_close_p(&fd);
		return oldest;
	}
	while ((de = readdir(d)))
		if (mno_env_parse(de->d_name, &c, &t) == 0)
			oldest = MNO_MIN(oldest, t);
	closedir(d);
	return oldest;
}
