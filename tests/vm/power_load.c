/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power_load write DIR DEVICE SECTOR STEPS [nosync]: fills the store of DIR with what
 * fault_load.h describes, in two runs, changing its keys and the form of the documents that were
 * there (fault_form.h) on the way. After each acknowledged
 * commit its number goes to DEVICE past its file system: of telemetry to SECTOR, of documents to
 * the next one. With nosync LMDB never syncs.
 * power_load check DIR ROWS DOCS SUM: compares the store with the model; prints what is there, and
 * into the file $POWER_STAGES how far the migration is. Goes on with that, or takes it back.
 * power_load sum DIR: prints the SUM of the documents that are there before.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include "../unit/store/fault_form.h"
#include "mno/store_keys.h"

#define D2_COMMITS  2 /* a power cut may take, of one second each */
#define SECTOR_SIZE 512

static bool no_sync;

int mdb_env_open(MDB_env *e, const char *path, unsigned flags, mdb_mode_t mode)
{
	int (*real)(MDB_env *, const char *, unsigned, mdb_mode_t) = (int (*)(
		MDB_env *, const char *, unsigned, mdb_mode_t))dlsym(RTLD_NEXT, "mdb_env_open");

	return real(e, path, flags | (no_sync ? MDB_NOSYNC : 0), mode);
}

struct writer {
	struct load l;
	int fd; /* of the device, unbuffered */
	off_t sector;
	int from, to; /* of the documents */
	int failed;   /* by their thread */
};

static int ack(const struct writer *w, int which, int n)
{
	_Alignas(SECTOR_SIZE) char text[SECTOR_SIZE] = {0};

	snprintf(text, sizeof(text), "%d\n", n);
	if (pwrite(w->fd, text, sizeof(text), (w->sector + which) * SECTOR_SIZE) != sizeof(text))
		return load_wrong("no mark: %s", strerror(errno));
	return 0;
}

static void *docs_main(void *arg)
{
	struct writer *w = arg;
	int r = 0;

	for (int i = w->from; i < w->to && r == 0; i++) {
		r = load_docs(&w->l, i);
		if (r == 0)
			r = ack(w, 1, i + 1);
		if (r == 0) {
			r = MNO_MIN(form_some(&w->l, i), 0);
			if (r < 0)
				load_wrong("migration at document %d: %s", i, mno_strerror(r));
		}
	}
	w->failed = r;
	return NULL;
}

static int rotate(struct writer *w, int step)
{
	size_t n;

	switch (step) {
	case 6:
		return mno_store_rotate_kek(w->l.store, NULL);
	case 10:
		return mno_store_rotate_data(w->l.store, "docs", &n);
	case 14:
		return mno_store_rotate_data(w->l.store, "main", &n);
	default:
		return 0;
	}
}

static int session(struct writer *w, const char *dir, int from, int to)
{
	pthread_t thread;
	int r = load_open(&w->l, dir);

	w->from = from * 2;
	w->to = to * 2;
	if (r < 0 || pthread_create(&thread, NULL, docs_main, w))
		return load_wrong("no start: %s", mno_strerror(r));
	for (int i = from; i < to && r == 0; i++) {
		r = load_rows(&w->l, i);
		if (r == 0)
			r = ack(w, 0, i + 1);
		if (r == 0 && from) {
			r = rotate(w, i - from);
			if (r < 0)
				load_wrong("keys at step %d: %s", i, mno_strerror(r));
		}
	}
	pthread_join(thread, NULL);
	load_close(&w->l);
	return r ?: w->failed;
}

static int do_write(char **argv)
{
	struct writer w = {
		.fd = open(argv[3], O_WRONLY | O_DIRECT | O_CLOEXEC), .sector = atol(argv[4])};
	int steps = atoi(argv[5]), r;

	if (w.fd < 0)
		return load_wrong("%s: %s", argv[3], strerror(errno));
	r = session(&w, argv[2], 0, steps / 2);
	if (r == 0)
		r = session(&w, argv[2], steps / 2, steps);
	close(w.fd);
	return r;
}

static int note_stage(enum mno_docs_form_stage stage)
{
	const char *path = getenv("POWER_STAGES");
	FILE *f = path ? fopen(path, "ae") : NULL;

	if (f)
		fprintf(f, "%s\n", mno_docs_form_stage_name(stage));
	return f && fclose(f) == 0 ? 0 : load_wrong("no file for stages");
}

static int do_check(char **argv)
{
	struct load_mark acked = {atoi(argv[3]), atoi(argv[4])}, found = {0};
	enum mno_docs_form_stage stage;
	int r = load_check(argv[2], acked, D2_COMMITS, true, &found);

	if (r == 0) /* half of the cuts go forth, half back */
		r = form_check(argv[2], strtoull(argv[5], NULL, 10),
			(found.rows + found.docs) % 2 ? FORM_RESUMED : FORM_UNDONE, &stage);
	if (r == 0)
		r = note_stage(stage);
	printf("%d %d\n", found.rows, found.docs);
	return r;
}

static int do_sum(char **argv)
{
	struct load l;
	uint64_t sum = 0;
	int r = load_open(&l, argv[2]);

	if (r == 0)
		r = form_sum(l.docs, &sum);
	load_close(&l);
	printf("%llu\n", (unsigned long long)sum);
	return r;
}

int main(int argc, char **argv)
{
	no_sync = argc == 7 && strcmp(argv[6], "nosync") == 0;
	if ((argc == 6 || no_sync) && strcmp(argv[1], "write") == 0)
		return do_write(argv) < 0;
	if (argc == 6 && strcmp(argv[1], "check") == 0)
		return do_check(argv) < 0;
	if (argc == 3 && strcmp(argv[1], "sum") == 0)
		return do_sum(argv) < 0;
	fprintf(stderr, "usage: power_load write DIR DEVICE SECTOR STEPS [nosync]\n"
			"       power_load check DIR ROWS DOCS SUM\n"
			"       power_load sum DIR\n");
	return 2;
}
