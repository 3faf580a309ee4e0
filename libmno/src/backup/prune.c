/* SPDX-License-Identifier: Apache-2.0 */
/* Which backups there are, and which may go. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "backup_internal.h"
#include "mno/err.h"
#include "mno/log.h"

/* Its manifest is whole and all files are there with their length: a glance, not a proof. */
static bool glance(int dest, const char *name, struct mno_backup_info *ret)
{
	_cleanup_close_ int fd =
		openat(dest, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_manifest_ struct manifest m = {0};
	struct stat st;
	bool whole = true;

	*ret = (struct mno_backup_info){0};
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	if (fd < 0 || manifest_read(fd, &m, NULL, NULL) < 0)
		return false;
	manifest_info(&m, name, ret);
	for (size_t i = 0; i < m.n && whole; i++)
		whole = fstatat(fd, m.files[i].path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			(uint64_t)st.st_size == m.files[i].size;
	ret->complete = whole;
	return whole;
}

int mno_backup_list(const char *dest, struct mno_backup_info **ret, size_t *ret_n)
{
	_cleanup_close_ int dir = -1;
	char(*names)[MNO_BACKUP_NAME] = NULL;
	struct mno_backup_info *v;
	size_t n = 0;
	int r = dest_open(dest, false, &dir, NULL);

	if (r == 0)
		r = dest_names(dir, &names, &n);
	if (r < 0)
		return r;
	v = calloc(n + 1, sizeof(*v));
	for (size_t i = 0; v && i < n; i++)
		glance(dir, names[i], &v[i]);
	free(names);
	if (!v)
		return -ENOMEM;
	*ret = v;
	*ret_n = n;
	return 0;
}

/* Whether one of the first @n is whole to the last byte. */
static int prove_one(const char *dest, const struct mno_backup_info *v, size_t n,
	const struct mno_backup_opts *o)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_buf_ struct mno_buf path = {0};
		struct mno_backup_verdict verdict;
		int r;

		if (!v[i].complete)
			continue;
		mno_buf_addf(&path, "%s/%s", dest, v[i].name);
		r = mno_backup_verify(mno_buf_cstr(&path), NULL, o, &verdict);
		if (r == 0 && !verdict.damaged)
			return 0;
		if (r < 0 && r != -MNO_ECORRUPT && r != -ENOENT)
			return r;
	}
	return -MNO_ECORRUPT;
}

int mno_backup_prune(
	const char *dest, unsigned keep, const struct mno_backup_opts *o, size_t *ret_n)
{
	_cleanup_free_ struct mno_backup_info *v = NULL;
	_cleanup_close_ int dir = -1, lock = -1;
	size_t n = 0, good = 0, stay = 0, deleted = 0;
	int r = keep ? dest_open(dest, false, &dir, &lock) : -EINVAL;

	if (r == 0)
		r = mno_backup_list(dest, &v, &n);
	if (r < 0)
		return r;
	dest_clean(dir);
	for (; stay < n && good < keep; stay++)
		good += v[stay].complete;
	if (stay < n || good < stay)
		r = prove_one(dest, v, stay, o);
	for (size_t i = 0; i < n && r == 0; i++) {
		char gone[48];

		if (i < stay && v[i].complete)
			continue;
		/* in one step: what is half deleted is no backup */
		snprintf(gone, sizeof(gone), PARTIAL "%s", v[i].name);
		if (renameat(dir, v[i].name, dir, gone) < 0)
			r = -errno;
		else
			r = tree_remove(dir, gone);
		deleted += r == 0;
	}
	if (deleted && fsync(dir) < 0 && r == 0)
		r = -errno;
	*ret_n = deleted;
	return r;
}
