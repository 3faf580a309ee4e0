/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of form 1 to form 2 while they are used, on what the version that had form 1 wrote. */
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include "docs_rig.h"
#include "../../../libmno/src/docs/docs_internal.h"
#include "mno/log.h"
#include "mno/store_check.h"
#include "mno/store_quarantine.h"

#define D(fn) cmocka_unit_test_setup_teardown(fn, docs_setup, docs_teardown)

/* --- what is in the files -------------------------------------------------------------------------- */

struct forms {
	size_t n[DOCS_FORM + 1], old;
	unsigned env;
};

/* Forms of all documents as they stand in the environment. */
static struct forms count_forms(struct docs_rig *g)
{
	struct forms f = {0};
	uint32_t format;
	MDB_cursor *c;
	char name[] = "identity";
	MDB_val k = {8, name}, v;
	MDB_stat st;
	MDB_txn *t;

	assert_int_equal(mno_read_begin(g->d->e, &t), 0);
	assert_int_equal(mdb_cursor_open(t, g->d->e->dbi[MNO_DB_DOC], &c), 0);
	while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0)
		f.n[MNO_MIN(*(uint8_t *)v.mv_data >> 4, (int)DOCS_FORM)]++;
	mdb_cursor_close(c);
	assert_int_equal(mdb_stat(t, g->d->e->dbi[MNO_DB_DOC_OLD], &st), 0);
	f.old = st.ms_entries;
	k = (MDB_val){8, name};
	assert_int_equal(mdb_get(t, g->d->e->dbi[MNO_DB_META], &k, &v), 0);
	memcpy(&format, v.mv_data, sizeof(format));
	f.env = format;
	mno_read_end(g->d->e, t);
	return f;
}

static void assert_forms(struct docs_rig *g, size_t first, size_t second, size_t old, unsigned env)
{
	struct forms f = count_forms(g);

	assert_int_equal(f.n[0], 0);
	assert_int_equal(f.n[1], first);
	assert_int_equal(f.n[2], second);
	assert_int_equal(f.old, old);
	assert_int_equal(f.env, env);
}

static void assert_whole(struct docs_rig *g)
{
	struct mno_verify_opts o = {.sz = sizeof(o), .deep = true, .pages = true};
	struct mno_verify_progress p;

	assert_int_equal(mno_store_verify(g->s, &o, &p), 0);
	assert_int_equal(p.damaged, 0);
}

static struct mno_doc_op put_op(const char *coll, const char *id, const char *text)
{
	return (struct mno_doc_op){.verb = MNO_DOC_PUT,
		.ns = "assets",
		.coll = coll,
		.id = id,
		.id_len = strlen(id),
		.kind = MNO_DOC_JSON,
		.value = text,
		.len = strlen(text)};
}

static void put(struct docs_rig *g, const char *coll, const char *id, const char *text)
{
	struct mno_doc_op op = put_op(coll, id, text);

	assert_int_equal(mno_docs_apply(g->d, &op, 1, NULL, NULL), 0);
}

static void del(struct docs_rig *g, const char *id)
{
	struct mno_doc_op op = put_op("hosts", id, "");

	op.verb = MNO_DOC_DELETE;
	assert_int_equal(mno_docs_apply(g->d, &op, 1, NULL, NULL), 0);
}

static uint64_t revision(struct docs_rig *g, const char *id)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_doc doc;

	assert_int_equal(mno_docs_get(g->d, "assets", "hosts", id, strlen(id), &b, &doc), 0);
	return doc.revision;
}

/* --- tests ----------------------------------------------------------------------------------------- */

static void old_documents_take_the_new_form(void **state)
{
	struct docs_rig *g = *state;
	struct mno_docs_form f;

	assert_docs(g, g->want); /* before */
	assert_int_equal(mno_docs_form(g->d, &f), 0);
	assert_int_equal(f.stage, MNO_DOCS_FORM_NEEDED);
	assert_true(f.from == 1 && f.to == 2 && f.need_bytes > 100000 && f.total == 350);
	assert_forms(g, 350, 0, 0, 2);
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), -ENOENT);
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_CONFIRM), -ENOENT);
	assert_true(docs_work(g->d) > 30);
	assert_docs(g, g->want);
	assert_forms(g, 0, 350, 350, 3);
	assert_int_equal(mno_docs_form(g->d, &f), 0);
	assert_int_equal(f.stage, MNO_DOCS_FORM_DONE);
	assert_true(f.damaged == 0 && f.old_bytes > 100000 && !f.failed);
	assert_true(f.keep_until_ms > f.done_ms && f.done_ms >= f.began_ms);
	assert_int_equal(revision(g, "host-001"), 1);
	assert_int_equal(revision(g, "host-005"), 2);
	assert_whole(g);
	docs_reopen(g, 20);
	assert_docs(g, g->want);
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_CONFIRM), 0);
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), -ENOENT);
	docs_work(g->d);
	assert_forms(g, 0, 350, 0, 3);
	assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_NONE);
	assert_docs(g, g->want);
}

/* Mixed forms answer as one form does, at each step. */
static void each_step_leaves_all_answers(void **state)
{
	struct docs_rig *g = *state;
	struct mno_docs_form f;
	uint64_t last = 0;

	docs_reopen(g, 25);
	do {
		assert_docs(g, g->want);
		assert_int_equal(mno_docs_form(g->d, &f), 0);
		if (f.stage == MNO_DOCS_FORM_COPYING) {
			assert_true(f.done >= last && f.done <= f.total);
			last = f.done;
			assert_true(f.done < 100 || f.remaining_ms >= 0);
		}
	} while (mno_docs_work(g->d) == 1);
	assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_DONE);
}

static void writes_go_on(void **state)
{
	struct docs_rig *g = *state;
	uint64_t n, faults;
	char id[32];

	for (int i = 0; i < 12; i++) {
		mno_docs_work(g->d);
		snprintf(id, sizeof(id), "host-%03d", 12 * i + 1);
		put(g, "hosts", id, "{\"rank\":1}");
		snprintf(id, sizeof(id), "host-%03d", 199 - 3 * i);
		del(g, id);
		snprintf(id, sizeof(id), "new-%d", i);
		put(g, "fresh", id, "{\"a\":[1,2]}");
	}
	assert_int_equal(mno_docs_coll_drop(g->d, "blobs", "raw", NULL), 0);
	docs_work(g->d);
	assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_DONE);
	/* 350, less 12 deleted and 40 dropped, and 12 new; of the old values 12 more are changed */
	assert_forms(g, 0, 310, 286, 3);
	assert_int_equal(revision(g, "host-001"), 2);
	assert_int_equal(revision(g, "host-025"), 3);
	assert_whole(g);
	assert_int_equal(mno_docs_check(g->d, 0, NULL, NULL, &n, &faults), 0);
	assert_true(n == 310 && faults == 0);
}

/* With what was written since, in the old form; from anywhere. */
static void it_can_be_undone(void **state)
{
	struct docs_rig *g = *state;

	for (unsigned steps = 2; steps < 60; steps += 9) {
		char *before;

		for (unsigned i = 0; i < steps; i++)
			mno_docs_work(g->d);
		put(g, "hosts", "host-003/\x01\xff long", "{\"rank\":3}");
		put(g, "hosts", "between", "{\"rank\":4}");
		del(g, "between");
		before = docs_answers(g->d);
		assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), 0);
		mno_docs_work(g->d);
		put(g, "hosts", "while-undone", "{}");
		del(g, "while-undone");
		docs_work(g->d);
		assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_UNDONE);
		assert_int_equal(count_forms(g).n[2], 0);
		assert_int_equal(count_forms(g).old, 0);
		assert_int_equal(count_forms(g).env, 2);
		assert_whole(g);
		free(before);
		before = docs_answers(g->d);
		docs_reopen(g, 20); /* it stays so until somebody wants it otherwise */
		assert_int_equal(docs_work(g->d), 0);
		assert_docs(g, before);
		assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_RUN), 0);
		free(before);
	}
	docs_work(g->d);
	assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_DONE);
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_RUN), -ENOENT);
}

static void undone_is_as_it_was(void **state)
{
	struct docs_rig *g = *state;

	docs_work(g->d);
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), 0);
	docs_work(g->d);
	assert_forms(g, 350, 0, 0, 2);
	assert_docs(g, g->want);
}

static int spoil(void *arg, struct mno_docs_txn *t)
{
	const struct docs_head h = {.form = 1, .kind = MNO_DOC_JSON, .number = 2};
	uint8_t key[DOCS_KEY_LEN];
	struct docs_cat_coll *c = docs_cat_coll(t->cat, "assets", "hosts");

	return docs_seal_put(t->d, t->t, MNO_DB_DOC_OLD, key, docs_key(key, c->id, "host-001", 8),
		&h, "\2\0{}", 4, 0, NULL);
}

static void quiet(void *arg, enum mno_log_level level, const char *msg)
{
}

/* One old value is made another before all are compared. */
static void a_difference_takes_all_back(void **state)
{
	struct docs_rig *g = *state;
	struct mno_docs_form f;

	while (docs_stage(g->d) != MNO_DOCS_FORM_CHECKING)
		assert_int_equal(mno_docs_work(g->d), 1);
	assert_int_equal(mno_docs_write(g->d, spoil, NULL, NULL), 0);
	mno_log_set(quiet, NULL, MNO_LOG_ERR);
	docs_work(g->d);
	mno_log_set(NULL, NULL, MNO_LOG_INFO);
	assert_int_equal(mno_docs_form(g->d, &f), 0);
	assert_int_equal(f.stage, MNO_DOCS_FORM_UNDONE);
	assert_true(f.failed);
	assert_forms(g, 350, 0, 0, 2);
}

static int damage(void *arg, struct mno_docs_txn *t)
{
	struct docs_cat_coll *c = docs_cat_coll(t->cat, "assets", "hosts");
	uint8_t key[DOCS_KEY_LEN];
	MDB_val k = {docs_key(key, c->id, "host-007", 8), key}, v;
	_cleanup_buf_ struct mno_buf b = {0};

	assert_int_equal(mdb_get(t->t, t->d->e->dbi[MNO_DB_DOC], &k, &v), 0);
	mno_buf_add(&b, v.mv_data, v.mv_size);
	b.data[b.len - 1] ^= 1;
	v = (MDB_val){b.len, b.data};
	return mdb_put(t->t, t->d->e->dbi[MNO_DB_DOC], &k, &v, 0);
}

static void damaged_documents_stay_as_they_are(void **state)
{
	struct docs_rig *g = *state;
	struct mno_docs_form f;

	assert_int_equal(mno_docs_write(g->d, damage, NULL, NULL), 0);
	docs_work(g->d);
	assert_int_equal(mno_docs_form(g->d, &f), 0);
	assert_int_equal(f.stage, MNO_DOCS_FORM_DONE);
	assert_int_equal(f.damaged, 1);
	assert_forms(g, 1, 349, 349, 3);
	put(g, "hosts", "host-008", "{}"); /* writes of others go on */
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), 0);
	docs_work(g->d);
	assert_forms(g, 350, 0, 0, 2);
}

/* A bit of a value in the place of bytes; @arg: its key. */
struct hit {
	enum mno_db db;
	uint8_t key[DOCS_KEY_LEN];
	size_t len;
};

static int hit(void *arg, struct mno_docs_txn *t)
{
	struct hit *h = arg;
	MDB_val k = {h->len, h->key}, v;
	_cleanup_buf_ struct mno_buf b = {0};
	int r = mno_lmdb_error(mdb_get(t->t, t->d->e->dbi[h->db], &k, &v));

	if (r < 0)
		return r;
	mno_buf_add(&b, v.mv_data, v.mv_size);
	b.data[b.len - 1] ^= 1;
	v = (MDB_val){b.len, b.data};
	return mdb_put(t->t, t->d->e->dbi[h->db], &k, &v, 0);
}

static void hit_row(struct docs_rig *g, char tag)
{
	struct hit h = {.db = MNO_DB_DOC_META, .key = {(uint8_t)tag}, .len = 5};

	assert_int_equal(mno_docs_write(g->d, hit, &h, NULL), 0);
}

static int find_hosts(void *arg, struct mno_docs_txn *t)
{
	mno_be32(arg, docs_cat_coll(t->cat, "assets", "hosts")->id);
	return 0;
}

/* One of two rows that say how far it is: nothing is lost, and both are whole again. */
static void its_place_has_a_copy(void **state)
{
	struct docs_rig *g = *state;
	struct mno_docs_form f, was;

	mno_log_set(quiet, NULL, MNO_LOG_ERR);
	for (unsigned steps = 3; steps < 40; steps += 6)
		for (unsigned reopen = 0; reopen < 2; reopen++) {
			for (unsigned i = 0; i < 3; i++)
				mno_docs_work(g->d);
			assert_int_equal(mno_docs_form(g->d, &was), 0);
			hit_row(g, steps % 4 == 1 ? 'F' : 'f');
			if (reopen)
				docs_reopen(g, 20);
			assert_int_equal(mno_docs_form(g->d, &f), 0);
			assert_int_equal(f.stage, was.stage);
			assert_int_equal(f.done, was.done);
		}
	docs_work(g->d);
	mno_log_set(NULL, NULL, MNO_LOG_INFO);
	assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_DONE);
	docs_reopen(g, 20);
	assert_whole(g);
	assert_docs(g, g->want);
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_CONFIRM), 0);
	docs_work(g->d);
	assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_NONE);
	docs_reopen(g, 20);
	assert_whole(g);
}

/* Both are lost, in each stage: it begins anew in its direction, and comes to the same end. */
static void without_its_place_it_begins_anew(void **state)
{
	struct docs_rig *g = *state;
	unsigned seen = 0;

	mno_log_set(quiet, NULL, MNO_LOG_ERR);
	for (unsigned steps = 1; steps < 90; steps += 4) {
		enum mno_docs_form_stage was;
		bool undo = steps % 3 == 0, confirm = steps % 3 == 1;

		for (unsigned i = 0; i < steps; i++)
			mno_docs_work(g->d);
		was = docs_stage(g->d);
		if (undo && was >= MNO_DOCS_FORM_COPYING && was <= MNO_DOCS_FORM_DONE)
			assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), 0);
		if (confirm && was == MNO_DOCS_FORM_DONE)
			assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_CONFIRM), 0);
		for (unsigned i = 0; (undo || confirm) && i < (steps > 80 ? 500 : 1 + steps / 5);
			i++)
			mno_docs_work(g->d);
		was = docs_stage(g->d);
		if (was < MNO_DOCS_FORM_COPYING)
			break;
		seen |= 1u << was;
		hit_row(g, 'f');
		hit_row(g, 'F');
		if (steps % 2)
			docs_reopen(g, 20);
		assert_docs(g, g->want);
		docs_work(g->d);
		assert_docs(g, g->want);
		if (was >= MNO_DOCS_FORM_UNDOING && was <= MNO_DOCS_FORM_UNDONE) {
			assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_UNDONE);
			assert_forms(g, 350, 0, 0, 2);
		} else {
			assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_DONE);
			assert_int_equal(count_forms(g).n[2], 350);
			assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), 0);
			docs_work(g->d);
		}
		assert_whole(g);
		assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_RUN), 0);
	}
	mno_log_set(NULL, NULL, MNO_LOG_INFO);
	for (unsigned i = MNO_DOCS_FORM_COPYING; i < MNO_DOCS_FORM_STAGES; i++)
		if (i != MNO_DOCS_FORM_CLEARING && !(seen >> i & 1))
			fail_msg("nothing was lost while %u", i);
}

static int count_old(void *arg, const struct mno_quarantined *q)
{
	assert_string_equal(q->db, "doc_old");
	assert_non_null(strstr(q->lost, "its form before the migration"));
	++*(unsigned *)arg;
	return 0;
}

/* Found by a check after the migration: moved; what is taken back comes from the new form. */
static void a_damaged_old_form_is_quarantined(void **state)
{
	struct docs_rig *g = *state;
	struct mno_verify_opts o = {.sz = sizeof(o)};
	struct hit h = {.db = MNO_DB_DOC_OLD};
	struct mno_verify_progress p;
	unsigned n = 0;
	MDB_cursor *c;
	MDB_val k, v;
	MDB_txn *t;

	docs_work(g->d);
	assert_int_equal(mno_read_begin(g->d->e, &t), 0);
	assert_int_equal(mdb_cursor_open(t, g->d->e->dbi[MNO_DB_DOC_OLD], &c), 0);
	assert_int_equal(mdb_cursor_get(c, &k, &v, MDB_FIRST), 0);
	memcpy(h.key, k.mv_data, h.len = k.mv_size);
	mdb_cursor_close(c);
	mno_read_end(g->d->e, t);
	assert_int_equal(mno_docs_write(g->d, hit, &h, NULL), 0);
	mno_log_set(quiet, NULL, MNO_LOG_ERR);
	assert_int_equal(mno_store_verify(g->s, &o, &p), 0);
	assert_int_equal(p.damaged, 1);
	docs_work(g->d);
	assert_int_equal(mno_quarantine_each(g->s, NULL, 0, count_old, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), 0);
	docs_work(g->d);
	mno_log_set(NULL, NULL, MNO_LOG_INFO);
	assert_forms(g, 350, 0, 0, 2);
	assert_docs(g, g->want);
	assert_whole(g);
}

/* Found while all are compared: the migration is taken back, and nothing of the documents is lost. */
static void a_damaged_old_form_while_comparing(void **state)
{
	struct docs_rig *g = *state;
	struct hit h = {.db = MNO_DB_DOC_OLD};
	struct mno_docs_form f;
	unsigned n = 0;

	while (docs_stage(g->d) != MNO_DOCS_FORM_CHECKING)
		assert_int_equal(mno_docs_work(g->d), 1);
	h.len = docs_key(h.key, 0, "host-190", 8);
	assert_int_equal(mno_docs_write(g->d, find_hosts, h.key, NULL), 0);
	assert_int_equal(mno_docs_write(g->d, hit, &h, NULL), 0);
	mno_log_set(quiet, NULL, MNO_LOG_ERR);
	docs_work(g->d);
	mno_log_set(NULL, NULL, MNO_LOG_INFO);
	assert_int_equal(mno_docs_form(g->d, &f), 0);
	assert_int_equal(f.stage, MNO_DOCS_FORM_UNDONE);
	assert_int_equal(mno_quarantine_each(g->s, NULL, 0, count_old, &n), 0);
	assert_int_equal(n, 1);
	assert_forms(g, 350, 0, 0, 2);
	assert_docs(g, g->want);
	assert_whole(g);
}

static int newer(void *arg, struct mno_docs_txn *t)
{
	return mno_env_format_put(t->d->e, t->t, 4);
}

static char said[512];
static void keep_text(void *arg, enum mno_log_level level, const char *msg)
{
	snprintf(said, sizeof(said), "%s", msg);
}

static void a_newer_format_is_refused(void **state)
{
	struct docs_rig *g = *state;

	assert_int_equal(mno_docs_write(g->d, newer, NULL, NULL), 0);
	docs_shut(g);
	mno_log_set(keep_text, NULL, MNO_LOG_ERR);
	assert_int_equal(docs_try_open(g, 20), -MNO_EVERSION);
	mno_log_set(NULL, NULL, MNO_LOG_INFO);
	assert_non_null(strstr(said, "docs is of format 4"));
	assert_non_null(strstr(said, "start the newer one"));
}

static int row_of_newer(void *arg, struct mno_docs_txn *t)
{
	t->state.form = DOCS_FORM + 1;
	return 0;
}

static void newer_documents_are_refused(void **state)
{
	struct docs_rig *g = *state;

	assert_int_equal(mno_docs_write(g->d, row_of_newer, NULL, NULL), 0);
	docs_shut(g);
	assert_int_equal(docs_try_open(g, 20), -MNO_EVERSION);
}

static void quotas_do_not_stop_it(void **state)
{
	struct docs_rig *g = *state;
	struct mno_doc_op op = put_op("x", "y", "{}");

	op.ns = "blobs";
	assert_int_equal(mno_docs_quota(g->d, "blobs", 150, 1, NULL), 0);
	assert_int_equal(mno_docs_apply(g->d, &op, 1, NULL, NULL), -ENOSPC);
	docs_work(g->d);
	assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_DONE);
	assert_int_equal(mno_docs_apply(g->d, &op, 1, NULL, NULL), -ENOSPC);
}

static void without_room_it_waits(void **state)
{
	struct mno_store_opts so = {.sz = sizeof(so), .floor_bytes = UINT64_MAX / 2};
	struct mno_docs_opts o = {.sz = sizeof(o), .feed_age_ms = DUMP_FEED_AGE, .no_worker = true};
	struct docs_rig *g = *state;
	struct mno_docs_form f;

	docs_shut(g);
	assert_int_equal(mno_store_open(g->tmp.dir, &so, &g->s), 0);
	assert_int_equal(mno_docs_open(g->s, &o, &g->d), 0);
	mno_log_set(keep_text, NULL, MNO_LOG_WARN);
	assert_int_equal(docs_work(g->d), 0);
	mno_log_set(NULL, NULL, MNO_LOG_INFO);
	assert_non_null(strstr(said, "for want of room"));
	assert_int_equal(mno_docs_form(g->d, &f), 0);
	assert_int_equal(f.stage, MNO_DOCS_FORM_NEEDED);
	assert_true(f.need_bytes > f.free_bytes);
	assert_docs(g, g->want);
	assert_forms(g, 350, 0, 0, 2);
}

static void a_new_store_has_the_new_form(void **state)
{
	struct docs_rig *g = *state;
	char path[160];

	docs_shut(g);
	snprintf(path, sizeof(path), "rm -rf %s/*", g->tmp.dir);
	assert_int_equal(system(path), 0);
	assert_int_equal(docs_try_open(g, 20), 0);
	put(g, "hosts", "a", "{}");
	put(g, "hosts", "a", "{}");
	assert_int_equal(revision(g, "a"), 2);
	assert_int_equal(docs_work(g->d), 0);
	assert_int_equal(docs_stage(g->d), MNO_DOCS_FORM_NONE);
	assert_forms(g, 0, 1, 0, 3);
}

/* The worker does it while threads read and write; each of them sees its own model. */
struct user {
	struct docs_rig *g;
	atomic_bool *stop;
	unsigned n, bad, no;
};

static void *reader(void *arg)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct user *u = arg;
	struct mno_doc doc;
	char id[32];

	for (; !*u->stop; u->n++) {
		snprintf(id, sizeof(id), "b%u", u->n * 7 % 40);
		u->bad += mno_docs_get(u->g->d, "blobs", "raw", id, strlen(id), &b, &doc) != 0 ||
			  doc.len != (u->n * 7 % 40) * (u->n * 7 % 40) * 2 || doc.revision != 1;
	}
	return NULL;
}

static void *writer(void *arg)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct user *u = arg;
	struct mno_doc doc;
	char id[32], text[48];

	for (; !*u->stop; u->n++) {
		struct mno_doc_op op;

		snprintf(id, sizeof(id), "host-%03u", u->n % 97 * 2 + u->no);
		if (u->n % 97 * 2 + u->no == 3)
			continue;
		snprintf(text, sizeof(text), "{\"rank\":%u}", u->n);
		op = put_op("hosts", id, text);
		u->bad += mno_docs_apply(u->g->d, &op, 1, NULL, NULL) != 0;
		u->bad += mno_docs_get(u->g->d, "assets", "hosts", id, strlen(id), &b, &doc) != 0 ||
			  doc.len != strlen(text) || memcmp(doc.value, text, doc.len) != 0;
	}
	return NULL;
}

static bool wait_stage(struct docs_rig *g, enum mno_docs_form_stage want)
{
	struct timespec ts = {.tv_nsec = 2000000};

	for (int i = 0; i < 20000 && docs_stage(g->d) != want; i++)
		nanosleep(&ts, NULL);
	return docs_stage(g->d) == want;
}

static void used_all_the_time(void **state)
{
	static void *(*const fns[])(void *) = {reader, writer, reader, writer};
	struct docs_rig *g = *state;
	struct mno_docs_opts o = {.sz = sizeof(o), .feed_age_ms = DUMP_FEED_AGE, .form_step = 3};
	atomic_bool stop = false;
	struct user u[ARRAY_SIZE(fns)];
	pthread_t th[ARRAY_SIZE(fns)];
	uint64_t n, faults;

	mno_docs_close(g->d);
	assert_int_equal(mno_docs_open(g->s, &o, &g->d), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
		u[i] = (struct user){.g = g, .stop = &stop, .no = i / 2};
		assert_int_equal(pthread_create(&th[i], NULL, fns[i], &u[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		assert_true(wait_stage(g, MNO_DOCS_FORM_DONE));
		assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_UNDO), 0);
		assert_true(wait_stage(g, MNO_DOCS_FORM_UNDONE));
		assert_int_equal(mno_docs_form_want(g->d, MNO_DOCS_FORM_RUN), 0);
	}
	assert_true(wait_stage(g, MNO_DOCS_FORM_DONE));
	stop = true;
	for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
		pthread_join(th[i], NULL);
		assert_true(u[i].n > 50);
		assert_int_equal(u[i].bad, 0);
	}
	assert_int_equal(count_forms(g).n[1], 0);
	assert_int_equal(mno_docs_check(g->d, 0, NULL, NULL, &n, &faults), 0);
	assert_int_equal(faults, 0);
	assert_whole(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		D(old_documents_take_the_new_form),
		D(each_step_leaves_all_answers),
		D(writes_go_on),
		D(it_can_be_undone),
		D(undone_is_as_it_was),
		D(a_difference_takes_all_back),
		D(damaged_documents_stay_as_they_are),
		D(its_place_has_a_copy),
		D(without_its_place_it_begins_anew),
		D(a_damaged_old_form_is_quarantined),
		D(a_damaged_old_form_while_comparing),
		D(a_newer_format_is_refused),
		D(newer_documents_are_refused),
		D(quotas_do_not_stop_it),
		D(without_room_it_waits),
		D(a_new_store_has_the_new_form),
		D(used_all_the_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
