/* SPDX-License-Identifier: Apache-2.0 */
/* Keys are changed while the store works; a crash at any point is taken up; nothing is lost. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include "../../../libmno/src/crypt/crypt.h"
#include "../series/rig.h"
#include "mno/docs.h"
#include "mno/ledger.h"
#include "mno/store_check.h"
#include "mno/store_keys.h"

#define IDS  70
#define ROWS 600

static void fill(struct st *s)
{
	struct mno_txn *t = begin(s);
	struct mno_proc proc = {.pid = 7, .start_ns = 10, .end_ns = NS_PER_SEC};
	uint32_t ids[IDS];
	char key[32];

	for (unsigned i = 0; i < IDS; i++) {
		snprintf(key, sizeof(key), "k{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
		assert_int_equal(ids[i], i + 1);
	}
	assert_int_equal(mno_ledger_store(s->e, t, &proc, 1), 0);
	commit(s, t);
	add_rows(s, ids, IDS, 1, ROWS + 1);
}

/* All samples are there, and no value is damaged. */
static void whole(struct st *s)
{
	struct mno_verify_opts o = {.sz = sizeof(o), .deep = true, .pages = false};
	struct mno_verify_progress p;
	struct seen seen = {0};
	uint32_t ids[IDS];

	for (unsigned i = 0; i < IDS; i++)
		ids[i] = i + 1;
	assert_int_equal(
		mno_series_read(s->s, ids, IDS, 0, 100000, SIZE_MAX, count_column, &seen), 0);
	assert_int_equal(seen.samples, IDS * ROWS);
	assert_int_equal(seen.damaged, 0);
	assert_int_equal(mno_store_verify(s->e, &o, &p), 0);
	assert_int_equal(p.damaged, 0);
}

static void kek_id(struct st *s, char id[17])
{
	struct mno_store_keys_stat k;

	assert_int_equal(mno_store_keys_stat(s->e, &k), 0);
	assert_true(k.encrypted);
	assert_false(k.changing);
	memcpy(id, k.kek_id, 17);
}

static void *read_on(void *arg)
{
	struct st *s = arg;
	uint32_t ids[2] = {1, 70};

	for (unsigned i = 0; i < 200; i++) {
		struct seen seen = {0};

		assert_int_equal(
			mno_series_read(s->s, ids, 2, 0, 100000, SIZE_MAX, count_column, &seen), 0);
		assert_int_equal(seen.samples, 2 * ROWS);
	}
	return NULL;
}

static void test_kek(void **state)
{
	struct st *s = *state;
	char before[17], after[17], path[128];
	struct mno_keys_opts o = {.sz = sizeof(o), .source = MNO_KEY_PASSPHRASE, .name = path};
	pthread_t reader;
	FILE *f;

	fill(s);
	kek_id(s, before);
	assert_int_equal(pthread_create(&reader, NULL, read_on, s), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(mno_store_rotate_kek(s->e, NULL), 0);
	pthread_join(reader, NULL);
	kek_id(s, after);
	assert_string_not_equal(before, after);
	down(s);
	up(s);
	whole(s);
	/* another source: the store remembers it, nobody has to name it at the next start */
	snprintf(path, sizeof(path), "%s/phrase", s->tmp.dir);
	f = fopen(path, "w");
	fputs("a long passphrase\n", f);
	fclose(f);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(mno_store_rotate_kek(s->e, &o), 0);
	down(s);
	up(s);
	whole(s);
}

/* The steps one by one, as a crash after each leaves them. */
static void test_kek_cut_off(void **state)
{
	struct st *s = *state;
	char before[17], after[17];

	fill(s);
	for (unsigned wrapped = 0; wrapped < 3; wrapped++) {
		struct mno_keys *k = NULL;
		struct mno_env *part = NULL;

		kek_id(s, before);
		assert_int_equal(mno_keys_replace(s->e->dir_fd, NULL, &k), 0);
		if (wrapped > 0)
			assert_int_equal(
				mno_cipher_rewrap(s->e->main->cipher, s->e->main->dir_fd, k), 0);
		if (wrapped > 1) {
			assert_int_equal(
				mno_store_env(s->e, MNO_CLASS_EVENT, 1000, false, &part), 0);
			assert_int_equal(mno_cipher_rewrap(part->cipher, part->dir_fd, k), 0);
			mno_env_unref(part);
		}
		mno_keys_close(k);
		down(s);
		up(s);
		kek_id(s, after);
		assert_string_not_equal(before, after);
		whole(s);
	}
}

static void rotate_for_ever(const char *dir)
{
	struct st s = {0};
	size_t n;

	snprintf(s.tmp.dir, sizeof(s.tmp.dir), "%s", dir);
	up(&s);
	s.e->reseal.grace_ns = 0;
	for (;;) {
		struct mno_txn *t;

		mno_store_rotate_kek(s.e, NULL);
		mno_store_rotate_data(s.e, "main", &n);
		for (unsigned i = 0; i < 3; i++) {
			t = begin(&s);
			mno_store_reseal(s.e, t, 20000);
			commit(&s, t);
			mno_store_resealed(s.e);
		}
	}
}

static void test_killed(void **state)
{
	struct st *s = *state;
	uint64_t seed = 3;

	fill(s);
	down(s);
	for (unsigned i = 0; i < 40; i++) {
		pid_t pid = fork();

		if (pid == 0)
			rotate_for_ever(s->tmp.dir);
		usleep((useconds_t)(20000 + rnd(&seed) % 60000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		up(s);
		whole(s);
		if (i < 39)
			down(s);
	}
}

static void step(struct st *s, size_t bytes)
{
	struct mno_txn *t = begin(s);

	assert_int_equal(mno_store_reseal(s->e, t, bytes), 0);
	commit(s, t);
	assert_int_equal(mno_store_resealed(s->e), 0);
}

static void test_data(void **state)
{
	struct st *s = *state;
	struct mno_store_keys_stat k;
	unsigned steps = 0;
	uint8_t old;
	size_t n;

	fill(s);
	old = mno_cipher_current(s->e->main->cipher);
	assert_int_equal(mno_store_rotate_data(s->e, "ts-19990101", &n), -ENOENT);
	assert_int_equal(mno_store_rotate_data(s->e, NULL, &n), 0);
	assert_int_equal(n, 3); /* main, a partition of series, one of processes */
	assert_int_not_equal(mno_cipher_current(s->e->main->cipher), old);
	assert_int_equal(mno_store_rotate_data(s->e, "main", &n), -EBUSY);
	whole(s);
	for (;;) {
		s->e->reseal.grace_ns = 0;
		step(s, 1000);
		assert_int_equal(mno_store_keys_stat(s->e, &k), 0);
		if (!k.resealing)
			break;
		if (++steps == 4) { /* the place survives */
			down(s);
			up(s);
		}
		assert_true(steps < 200);
	}
	assert_true(steps > 5);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 1);
	whole(s);
	down(s);
	up(s);
	whole(s);
}

/* --- documents --------------------------------------------------------------------------------- */

#define DOCS 3000u

static struct mno_docs *docs_up(struct st *s)
{
	struct mno_docs_opts o = {.sz = sizeof(o), .no_worker = true};
	struct mno_docs *d;

	assert_int_equal(mno_docs_open(s->e, &o, &d), 0);
	return d;
}

static size_t doc_text(char *buf, size_t size, unsigned i)
{
	return (size_t)snprintf(buf, size, "{\"n\":%u,\"pad\":\"%0*u\"}", i, (int)(i % 2000), i);
}

static void docs_fill(struct mno_docs *d)
{
	static struct mno_doc_op ops[DOCS];
	static char ids[DOCS][8], texts[DOCS][2100];

	for (unsigned i = 0; i < DOCS; i++)
		ops[i] = (struct mno_doc_op){.verb = MNO_DOC_PUT,
			.ns = "n",
			.coll = "c",
			.id = ids[i],
			.id_len = (size_t)snprintf(ids[i], sizeof(ids[i]), "%u", i),
			.kind = MNO_DOC_JSON,
			.value = texts[i],
			.len = doc_text(texts[i], sizeof(texts[i]), i)};
	assert_int_equal(mno_docs_index_create(d, "n", "c",
				 &(struct mno_doc_index){.name = "n", .path = "n"}, NULL),
		0);
	for (unsigned i = 0; i < DOCS; i += 100)
		assert_int_equal(mno_docs_apply(d, ops + i, 100, NULL, NULL), 0);
	while (mno_docs_work(d) == 1)
		;
}

static void docs_whole(struct mno_docs *d)
{
	_cleanup_buf_ struct mno_buf buf = {0};
	uint64_t n, faults;
	char text[2100], id[8];

	assert_int_equal(mno_docs_check(d, 0, NULL, NULL, &n, &faults), 0);
	assert_int_equal(n, DOCS);
	assert_int_equal(faults, 0);
	for (unsigned i = 0; i < DOCS; i += 7) {
		size_t len = doc_text(text, sizeof(text), i);
		struct mno_doc doc;

		assert_int_equal(mno_docs_get(d, "n", "c", id,
					 (size_t)snprintf(id, sizeof(id), "%u", i), &buf, &doc),
			0);
		assert_int_equal(doc.len, len);
		assert_memory_equal(doc.value, text, len);
	}
}

/* In steps, with a new start in the middle; reads and writes go on; then the old key is gone. */
static void test_documents(void **state)
{
	struct st *s = *state;
	struct mno_docs *d = docs_up(s);
	struct mno_store_keys_stat k = {0};
	unsigned steps = 0;
	struct mno_env *e;
	size_t n;

	docs_fill(d);
	docs_whole(d);
	assert_int_equal(mno_store_rotate_data(s->e, "docs", &n), 0);
	assert_int_equal(mno_store_rotate_data(s->e, "docs", &n), -EBUSY);
	for (;; steps++) {
		int r = mno_docs_work(d);

		assert_true(r >= 0);
		assert_int_equal(mno_store_keys_stat(s->e, &k), 0);
		if (!k.resealing)
			break;
		if (r == 0) /* readers are waited for */
			usleep(1000);
		if (steps == 3) {
			assert_true(k.resealing && k.resealed > 0 && k.reseal_left > 0);
			docs_whole(d);
			mno_docs_close(d);
			down(s);
			up(s);
			d = docs_up(s);
			s->e->reseal.grace_ns = 0;
		}
	}
	assert_true(steps > 5);
	assert_int_equal(mno_store_keys_stat(s->e, &k), 0);
	assert_false(k.resealing);
	assert_true(k.resealed >= DOCS);
	assert_int_equal(mno_store_env(s->e, MNO_CLASS_DOCS, 0, false, &e), 0);
	assert_int_equal(mno_cipher_count(e->cipher), 1);
	assert_int_equal(mno_cipher_current(e->cipher), 2);
	mno_env_unref(e);
	docs_whole(d);
	mno_docs_close(d);
	down(s);
	up(s);
	d = docs_up(s);
	docs_whole(d);
	mno_docs_close(d);
}

/* The count outlives the process, and a key that has sealed enough is replaced by itself. */
static void test_count(void **state)
{
	struct st *s = *state;
	uint64_t before;
	struct mno_txn *t;
	uint8_t id;

	fill(s);
	before = mno_cipher_sealed(s->e->main->cipher);
	id = mno_cipher_current(s->e->main->cipher);
	assert_true(before > 100);
	for (unsigned i = 0; i < 3; i++) {
		down(s);
		up(s);
		assert_true(mno_cipher_sealed(s->e->main->cipher) >= before);
		assert_true(mno_cipher_sealed(s->e->main->cipher) < before + (i + 1) * 5000);
		before = mno_cipher_sealed(s->e->main->cipher);
		t = begin(s);
		resolve(s, t, i ? "another" : "one");
		commit(s, t);
	}
	mno_cipher_counted(s->e->main->cipher, 1ULL << 31);
	t = begin(s);
	resolve(s, t, "last_straw");
	commit(s, t);
	assert_int_equal(mno_store_resealed(s->e), 0);
	assert_int_not_equal(mno_cipher_current(s->e->main->cipher), id);
	assert_true(mno_cipher_sealed(s->e->main->cipher) < 100);
	mno_cipher_counted(s->e->main->cipher, 1ULL << 32);
	t = begin(s);
	assert_int_equal(mno_seal_put(t, MNO_DB_META, "x", 1,
				 &(struct mno_seal){.kind = MNO_SEAL_META}, "y", 1, NULL),
		-EKEYEXPIRED);
	mno_store_abort(s->e, t);
}

/* The transaction that did the last values is lost: the key that still has them must stay. */
static void test_data_aborted(void **state)
{
	struct st *s = *state;
	struct mno_store_keys_stat k;
	struct mno_txn *t;
	size_t n;

	fill(s);
	s->e->reseal.grace_ns = 0;
	assert_int_equal(mno_store_rotate_data(s->e, "main", &n), 0);
	t = begin(s);
	assert_int_equal(mno_store_reseal(s->e, t, 100 << 20), 0);
	mno_store_abort(s->e, t);
	mno_series_rollback(s->s);
	commit(s, begin(s));
	assert_int_equal(mno_store_resealed(s->e), 0);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 2);
	whole(s);
	step(s, 100 << 20);
	assert_int_equal(mno_store_keys_stat(s->e, &k), 0);
	assert_false(k.resealing);
	whole(s);
}

/* Who reads as of before sees values of the old key, and opens them. */
static void test_data_read(void **state)
{
	struct st *s = *state;
	MDB_txn *t;
	size_t n;

	fill(s);
	s->e->reseal.grace_ns = 0;
	assert_int_equal(mno_store_rotate_data(s->e, "main", &n), 0);
	assert_int_equal(mno_read_begin(s->e->main, &t), 0);
	usleep(30000);
	step(s, 100 << 20);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 2);
	mno_read_end(s->e->main, t);
	step(s, 0);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 1);
	/* copies of values outlive the read by a moment */
	assert_int_equal(mno_store_rotate_data(s->e, "main", &n), 0);
	s->e->reseal.grace_ns = MNO_RESEAL_GRACE_NS;
	step(s, 100 << 20);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 2);
	s->e->reseal.grace_ns = 0;
	step(s, 0);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 1);
	whole(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_kek),
		T(test_kek_cut_off),
		T(test_data),
		T(test_data_aborted),
		T(test_data_read),
		T(test_killed),
		T(test_documents),
		T(test_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
