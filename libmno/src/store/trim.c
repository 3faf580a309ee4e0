/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of the file that were read stay mapped, and the kernel maps their neighbours with them:
 * in time the whole store counts as resident memory of the process. The writer lets go of them;
 * they stay in the page cache, and a read maps them again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "store_internal.h"

#define TRIM_EVERY 10 /* commits */

/* LMDB tells the address of its map only if it was asked for one. */
static void find_map(struct mno_env *e, const struct stat *file)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "re");

	if (!f)
		return;
	while (!e->map_at && fgets(line, sizeof(line), f)) {
		uint64_t start, end, ino;
		unsigned maj, min;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*x %x:%x %" SCNu64, &start, &end,
			    &maj, &min, &ino) == 5 &&
			ino == file->st_ino && makedev(maj, min) == file->st_dev) {
			e->map_at = (void *)(uintptr_t)start;
			e->map_len = end - start;
		}
	}
	fclose(f);
}

void mno_env_trim(struct mno_env *e)
{
	mdb_filehandle_t fd;
	struct stat st;

	if (atomic_load(&e->commits) % TRIM_EVERY)
		return;
	/* not while the map is moved */
	if (pthread_rwlock_tryrdlock(&e->map_lock))
		return;
	if (!e->map_at && mdb_env_get_fd(e->env, &fd) == MDB_SUCCESS && fstat(fd, &st) == 0)
		find_map(e, &st);
	if (e->map_at)
		madvise(e->map_at, e->map_len, MADV_DONTNEED);
	pthread_rwlock_unlock(&e->map_lock);
}
