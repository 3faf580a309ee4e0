/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of each environment; the watch over readers. */
#include "mno/store_parts.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include "../crypt/crypt.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "store_internal.h"

struct each {
	struct mno_store *s;
	int (*fn)(void *arg, const struct mno_part_stat *p);
	void *arg;
};

static void fill(struct mno_part_stat *p, struct mno_env *e)
{
	static const char *const classes[] = {
		[MNO_DURABILITY_D1] = "D1", [MNO_DURABILITY_D2] = "D2", [MNO_DURABILITY_D3] = "D3"};
	const struct mno_class_info *c = mno_class_info(e->class);
	struct mno_store_stat st = {0};

	mno_env_stat(e, &st);
	p->what = c->what;
	p->durability = classes[c->durability];
	if (c->period != MNO_PERIOD_NONE) {
		p->t0_ms = e->t0_ms;
		p->t1_ms = e->t1_ms;
	}
	p->file_bytes = st.file_bytes;
	p->used_bytes = st.used_bytes;
	p->map_bytes = e->map_bytes;
	p->entries = st.entries;
	p->commits = e->commits;
	p->last_sync_ns = e->sync_ns;
	p->longest_sync_ns = e->longest_sync_ns;
	p->oldest_reader_ns = mno_env_oldest_reader_ns(e);
	p->slow_readers = e->slow_readers;
	if (!e->cipher)
		return;
	p->encrypted = true;
	p->key_id = mno_cipher_current(e->cipher);
	p->keys = mno_cipher_count(e->cipher);
	p->sealed = mno_cipher_sealed(e->cipher);
}

static int one(void *arg, struct mno_env *e, const char *name, int err)
{
	struct mno_part_stat p = {.name = name, .what = "", .durability = "", .error = err};
	struct each *q = arg;

	if (e)
		fill(&p, e);
	return q->fn(q->arg, &p);
}

/* What set_aside() left. */
static int each_aside(struct each *q)
{
	int fd = openat(q->s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		mno_close_p(&fd);
		return -ENOMEM;
	}
	while (r == 0 && (de = readdir(d))) {
		struct mno_part_stat p = {.name = de->d_name,
			.what = "set aside: could not be opened",
			.durability = "",
			.error = -MNO_ECORRUPT};
		char path[300];
		struct stat st;

		if (!strstr(de->d_name, ".damaged-"))
			continue;
		snprintf(path, sizeof(path), "%s/data.mdb", de->d_name);
		if (fstatat(q->s->dir_fd, path, &st, 0) == 0)
			p.file_bytes = (uint64_t)st.st_size;
		r = q->fn(q->arg, &p);
	}
	closedir(d);
	return r;
}

int mno_store_each_part(
	struct mno_store *s, int (*fn)(void *arg, const struct mno_part_stat *p), void *arg)
{
	struct each q = {.s = s, .fn = fn, .arg = arg};
	int r = mno_store_each(s, one, &q);

	return r ?: each_aside(&q);
}

void mno_store_health(struct mno_store *s, struct mno_store_health *ret)
{
	*ret = (struct mno_store_health){.mended = s->mended,
		.set_aside = s->set_aside,
		.damaged = s->damaged,
		.quarantined = s->quarantine.moved,
		.rebuilt = s->quarantine.rebuilt};
}

uint64_t mno_store_watch_readers(struct mno_store *s, uint64_t max_ns)
{
	uint64_t oldest = 0;
	char name[32] = "";

	pthread_mutex_lock(&s->lock);
	for (struct mno_env *e = s->envs; e; e = e->next) {
		uint64_t age = mno_env_oldest_reader_ns(e);

		if (age > oldest) {
			oldest = age;
			memcpy(name, e->name, sizeof(name));
		}
	}
	pthread_mutex_unlock(&s->lock);
	if (oldest > max_ns && !s->reader_told)
		mno_warn("store: a read transaction of %s is %.1f s old: pages that it sees "
			 "cannot be used again meanwhile",
			name, (double)oldest / (double)NS_PER_SEC);
	s->reader_told = oldest > max_ns;
	return oldest;
}
