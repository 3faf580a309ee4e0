/* SPDX-License-Identifier: Apache-2.0 */
/* What the header promises beside plain storing: conditions, quotas, feed, indexes in use. */
#include <fcntl.h>
#include <pthread.h>
#include "mno/time.h"
#include "rig.h"

static struct mno_doc_op pre(struct mno_doc_op op, enum mno_doc_pre p, uint64_t version)
{
	op.pre = p;
	op.if_version = version;
	return op;
}

static void test_preconditions(void **state)
{
	struct rig r = {.opts.no_worker = true};
	struct mno_doc_op a = put_op("c", "a", "{\"n\":1}");
	uint64_t v1, v2;

	rig_new(&r);
	assert_int_equal(rig_apply(&r, pre(a, MNO_DOC_IF_PRESENT, 0), NULL), -MNO_EPRECONDITION);
	assert_int_equal(rig_apply(&r, pre(a, MNO_DOC_IF_ABSENT, 0), &v1), 0);
	assert_int_equal(rig_apply(&r, pre(a, MNO_DOC_IF_ABSENT, 0), NULL), -MNO_EPRECONDITION);
	assert_int_equal(
		rig_apply(&r, pre(a, MNO_DOC_IF_VERSION, v1 + 1), NULL), -MNO_EPRECONDITION);
	assert_int_equal(rig_apply(&r, pre(a, MNO_DOC_IF_VERSION, v1), &v2), 0);
	assert_true(v2 > v1);
	assert_int_equal(rig_delete(&r, "c", "a"), 0);
	assert_int_equal(rig_delete(&r, "c", "a"), 0);
	/* a version never comes back: who still has the old one is refused */
	assert_int_equal(rig_apply(&r, a, &v1), 0);
	assert_true(v1 > v2);
	assert_int_equal(rig_apply(&r, pre(a, MNO_DOC_IF_VERSION, v2), NULL), -MNO_EPRECONDITION);
	rig_done(&r);
}

static void test_wrong_input(void **state)
{
	static const struct {
		enum mno_doc_kind kind;
		const char *value;
		int want;
	} values[] = {
		{MNO_DOC_JSON, "{\"a\":", -MNO_ESYNTAX},
		{MNO_DOC_TEXT, "\xff\xfe", -MNO_ESYNTAX},
		{MNO_DOC_INTEGER, "9223372036854775808", -MNO_ESYNTAX},
		{MNO_DOC_INTEGER, "-9223372036854775808", 0},
		{MNO_DOC_INTEGER, "1.5", -MNO_ESYNTAX},
		{MNO_DOC_DECIMAL, "1,5", -MNO_ESYNTAX},
		{MNO_DOC_DECIMAL, "-0.00000000000000000001", 0},
		{MNO_DOC_BINARY, "\xff\xfe", 0},
		{0, "x", -EINVAL},
		{MNO_DOC_KIND_END, "x", -EINVAL},
	};
	static const char *const names[] = {"", "_x", ".x", "a/b", "a b", "a\n", NULL};
	struct rig r = {.opts.no_worker = true};
	struct mno_doc_op op;

	rig_new(&r);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		op = put_op("c", "a", values[i].value);
		op.kind = values[i].kind;
		assert_int_equal(rig_apply(&r, op, NULL), values[i].want);
		assert_true(values[i].want == 0 || r.err.msg[0]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		op = put_op(names[i], "a", "1");
		assert_int_equal(rig_apply(&r, op, NULL), -EINVAL);
	}
	op = put_op("c", "a", "1");
	op.id_len = 0;
	assert_int_equal(rig_apply(&r, op, NULL), -EINVAL);
	op.id_len = MNO_DOC_ID_MAX + 1;
	assert_int_equal(rig_apply(&r, op, NULL), -EINVAL);
	assert_int_equal(mno_docs_apply(r.d, &op, 0, NULL, &r.err), -EINVAL);
	rig_done(&r);
}

static void test_long_keys(void **state)
{
	struct mno_doc_index x = {.name = "s", .path = "s"},
			     u = {.name = "u", .path = "u", .unique = true};
	struct rig r = {.opts.no_worker = true};
	char json[3000], id[MNO_DOC_ID_MAX + 1], text[1200];
	struct rig_found f;
	const char *where = json;

	rig_new(&r);
	assert_int_equal(mno_docs_index_create(r.d, "test", "c", &x, &r.err), 0);
	assert_int_equal(mno_docs_index_create(r.d, "test", "c", &u, &r.err), 0);
	memset(text, 'x', sizeof(text));
	memset(id, 'i', sizeof(id));
	id[MNO_DOC_ID_MAX] = 0;
	for (int i = 0; i < 20; i++) {
		id[0] = (char)('a' + i);
		snprintf(json, sizeof(json), "{\"s\":\"%.1000s%02d\",\"u\":\"%.1000s%02d\"}", text,
			i, text, i);
		assert_int_equal(rig_put(&r, "c", id, json), 0);
	}
	id[0] = 'z';
	snprintf(json, sizeof(json), "{\"u\":\"%.1000s07\"}", text);
	assert_int_equal(rig_put(&r, "c", id, json), -MNO_EUNIQUE);
	snprintf(json, sizeof(json), "s=%.1000s07", text);
	assert_int_equal(rig_find(&r, "c", &where, 1, 10, &f), 0);
	assert_int_equal(f.n, 1);
	assert_int_equal(f.ids[0], 'a' + 7);
	snprintf(json, sizeof(json), "s>=%.1000s07", text);
	assert_int_equal(rig_find(&r, "c", &where, 1, 3, &f), 0);
	assert_int_equal(f.n, 13);
	rig_check(&r, 20);
	rig_done(&r);
}

static void test_quota(void **state)
{
	struct rig r = {.opts.no_worker = true};
	char big[2000];

	rig_new(&r);
	assert_int_equal(mno_docs_quota(r.d, "test", 2, 4000, &r.err), 0);
	assert_int_equal(rig_put(&r, "c", "a", "1"), 0);
	assert_int_equal(rig_put(&r, "d", "b", "1"), 0);
	assert_int_equal(rig_put(&r, "c", "x", "1"), -ENOSPC);
	assert_non_null(strstr(r.err.msg, "quota"));
	assert_int_equal(rig_put(&r, "c", "a", "2"), 0);
	assert_int_equal(rig_delete(&r, "d", "b"), 0);
	assert_int_equal(mno_docs_quota(r.d, "test", 0, 4000, &r.err), 0);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)('a' + (i * 7919 >> 3) % 26);
	big[0] = big[sizeof(big) - 2] = '"';
	big[sizeof(big) - 1] = 0;
	for (int i = 0; i < 10; i++) {
		char id[2] = {(char)('k' + i), 0};
		int e = rig_put(&r, "c", id, big);

		if (e == -ENOSPC)
			break;
		assert_int_equal(e, 0);
		assert_true(i < 9);
	}
	assert_non_null(strstr(r.err.msg, "bytes"));
	rig_done(&r);
}

/* --- the feed --------------------------------------------------------------------------------------- */

static int note_change(void *arg, const struct mno_doc_change *c)
{
	mno_buf_addf(arg, "%llu%c%s/%.*s=%.*s ", (unsigned long long)c->seq, "?pdD"[c->op],
		c -> coll, (int)c -> doc.id_len, (const char *)c->doc.id, (int)c->doc.len,
		c->doc.value ? (const char *)c->doc.value : "");
	return 0;
}

static void count_wake(void *arg)
{
	(*(int *)arg)++;
}

static void test_feed(void **state)
{
	struct rig r = {.opts = {.no_worker = true, .feed_bytes = 2000}};
	_cleanup_buf_ struct mno_buf out = {0};
	uint64_t next, oldest;
	int woken = 0, n;
	unsigned id;

	rig_new(&r);
	assert_int_equal(mno_docs_watch(r.d, count_wake, &woken, &id), 0);
	assert_int_equal(rig_put(&r, "c", "a", "1"), 0);
	assert_int_equal(rig_put(&r, "d", "b", "[2]"), 0);
	assert_int_equal(rig_delete(&r, "c", "a"), 0);
	assert_int_equal(mno_docs_coll_drop(r.d, "test", "d", &r.err), 0);
	assert_int_equal(mno_docs_feed_read(r.d, 1, note_change, &out, &next), 0);
	assert_string_equal(mno_buf_cstr(&out), "1pc/a=1 2pd/b=[2] 3dc/a= 4Dd/= ");
	assert_int_equal(next, 5);
	assert_int_equal(woken, 4);
	mno_docs_unwatch(r.d, id);
	mno_buf_reset(&out);
	assert_int_equal(mno_docs_feed_read(r.d, 3, note_change, &out, &next), 0);
	assert_string_equal(mno_buf_cstr(&out), "3dc/a= 4Dd/= ");
	assert_int_equal(mno_docs_feed_wait(r.d, 4, 0), 0);
	assert_int_equal(mno_docs_feed_wait(r.d, 5, NS_PER_MS), -ETIMEDOUT);
	for (n = 0; n < 200; n++)
		assert_int_equal(rig_put(&r, "c", "a", "\"some text\""), 0);
	assert_int_equal(woken, 4);
	assert_int_equal(mno_docs_feed_read(r.d, 5, note_change, &out, &next), -MNO_EGONE);
	assert_int_equal(mno_docs_feed_bounds(r.d, &oldest, &next), 0);
	assert_true(oldest > 100 && next == 205);
	rig_done(&r);
}

/* --- indexes in use ---------------------------------------------------------------------------------- */

static void test_build(void **state)
{
	struct mno_doc_index x = {.name = "n", .path = "n"};
	struct rig r = {.opts.no_worker = true};
	const char *where = "n=3";
	struct rig_found f;
	char id[16], json[32];

	rig_new(&r);
	for (int i = 0; i < 1500; i++) {
		sprintf(id, "%04d", i);
		sprintf(json, "{\"n\":%d}", i % 10);
		assert_int_equal(rig_put(&r, "c", id, json), 0);
	}
	assert_int_equal(mno_docs_index_create(r.d, "test", "c", &x, &r.err), 0);
	assert_int_equal(mno_docs_work(r.d), 1);
	assert_int_equal(rig_find(&r, "c", &where, 1, 1000, &f), 0);
	assert_string_equal(f.index, "");
	assert_int_equal(f.n, 150);
	assert_true(f.building > 0 && f.building < 1);
	/* both sides of where the builder is, and over a restart */
	assert_int_equal(rig_put(&r, "c", "0003", "{\"n\":7}"), 0);
	assert_int_equal(rig_put(&r, "c", "1493", "{\"n\":7}"), 0);
	assert_int_equal(rig_put(&r, "c", "1494", "{\"n\":3}"), 0);
	assert_int_equal(rig_delete(&r, "c", "1483"), 0);
	rig_reopen(&r);
	rig_work(&r);
	assert_int_equal(rig_find(&r, "c", &where, 1, 1000, &f), 0);
	assert_string_equal(f.index, "n");
	assert_int_equal(f.n, 148);
	rig_check(&r, 1499);
	assert_int_equal(mno_docs_index_drop(r.d, "test", "c", "n", &r.err), 0);
	assert_int_equal(rig_put(&r, "c", "0013", "{\"n\":7}"), 0);
	rig_work(&r);
	assert_int_equal(rig_find(&r, "c", &where, 1, 1000, &f), 0);
	assert_string_equal(f.index, "");
	assert_int_equal(f.n, 147);
	rig_check(&r, 1499);
	assert_int_equal(mno_docs_coll_drop(r.d, "test", "c", &r.err), 0);
	assert_int_equal(rig_find(&r, "c", &where, 1, 10, &f), -ENOENT);
	assert_int_equal(rig_put(&r, "c", "a", "{\"n\":3}"), 0);
	rig_work(&r);
	rig_check(&r, 1);
	rig_done(&r);
}

static int take_state(void *arg, const struct mno_doc_index *x)
{
	*(enum mno_doc_index_state *)arg = x->state;
	return 0;
}

static void test_build_fails(void **state)
{
	struct mno_doc_index x = {.name = "n", .path = "n", .unique = true};
	enum mno_doc_index_state st = 0;
	struct rig r = {.opts.no_worker = true};

	rig_new(&r);
	assert_int_equal(rig_put(&r, "c", "a", "{\"n\":1}"), 0);
	assert_int_equal(rig_put(&r, "c", "b", "{\"n\":1.0}"), 0);
	assert_int_equal(mno_docs_index_create(r.d, "test", "c", &x, &r.err), 0);
	rig_work(&r);
	assert_int_equal(mno_docs_index_each(r.d, "test", "c", take_state, &st), 0);
	assert_int_equal(st, MNO_DOC_INDEX_FAILED);
	assert_int_equal(rig_put(&r, "c", "d", "{\"n\":1}"), 0);
	assert_int_equal(mno_docs_index_drop(r.d, "test", "c", "n", &r.err), 0);
	rig_work(&r);
	rig_check(&r, 3);
	rig_done(&r);
}

static bool file_has(const char *dir, const char *text)
{
	char path[128];
	FILE *f;
	char *b = calloc(1, 4 << 20);
	size_t n;
	bool r;

	snprintf(path, sizeof(path), "%s/docs/data.mdb", dir);
	f = fopen(path, "rb");
	assert_non_null(f);
	n = fread(b, 1, 4 << 20, f);
	fclose(f);
	r = memmem(b, n, text, strlen(text)) != NULL;
	free(b);
	return r;
}

static void test_secret(void **state)
{
	struct mno_doc_index s = {.name = "s", .path = "token", .secret = true};
	struct mno_doc_index p = {.name = "p", .path = "city"};
	struct rig r = {.opts.no_worker = true};
	const char *equal = "token=hidden-4711", *less = "token<z";
	struct rig_found f;

	rig_new(&r);
	assert_int_equal(mno_docs_index_create(r.d, "test", "c", &s, &r.err), 0);
	assert_int_equal(mno_docs_index_create(r.d, "test", "c", &p, &r.err), 0);
	assert_int_equal(
		rig_put(&r, "c", "a",
			"{\"token\":\"hidden-4711\",\"city\":\"Readable\",\"x\":\"in the value\"}"),
		0);
	assert_int_equal(rig_find(&r, "c", &equal, 1, 10, &f), 0);
	assert_int_equal(f.n, 1);
	assert_string_equal(f.index, "s");
	assert_int_equal(rig_find(&r, "c", &less, 1, 10, &f), 0);
	assert_int_equal(f.n, 1);
	assert_string_equal(f.index, "");
	rig_close(&r);
	assert_false(file_has(r.tmp.dir, "hidden-4711"));
	assert_false(file_has(r.tmp.dir, "in the value"));
	assert_true(file_has(r.tmp.dir, "Readable")); /* as documented */
	tmpstate_done(&r.tmp);
}

/* --- snapshots, writers, damage ------------------------------------------------------------------------ */

static void test_snapshot(void **state)
{
	struct rig r = {.opts.no_worker = true};
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_docs_snap *s;
	struct mno_doc doc;

	rig_new(&r);
	assert_int_equal(rig_put(&r, "c", "a", "1"), 0);
	assert_int_equal(mno_docs_snap_open(r.d, &s), 0);
	assert_int_equal(rig_put(&r, "c", "a", "2"), 0);
	assert_int_equal(mno_docs_snap_get(s, "test", "c", "a", 1, &b, &doc), 0);
	assert_memory_equal(doc.value, "1", 1);
	assert_string_equal(rig_get(&r, "c", "a", &b), "2");
	usleep((MNO_DOC_SNAP_MS + 100) * 1000);
	assert_int_equal(mno_docs_snap_get(s, "test", "c", "a", 1, &b, &doc), -MNO_EGONE);
	mno_docs_snap_close(s);
	rig_done(&r);
}

#define WRITERS 8
#define ADDS    60

static void *add_up(void *arg)
{
	struct rig *r = arg;
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_docs_error err;
	struct mno_doc doc;
	char text[24];

	for (int i = 0; i < ADDS;) {
		struct mno_doc_op op;
		int e = mno_docs_get(r->d, "test", "c", "sum", 3, &b, &doc);

		if (e)
			return (void *)(intptr_t)e;
		snprintf(text, sizeof(text), "%ld", strtol(doc.value, NULL, 10) + 1);
		op = pre(put_op("c", "sum", text), MNO_DOC_IF_VERSION, doc.version);
		op.kind = MNO_DOC_INTEGER;
		e = mno_docs_apply(r->d, &op, 1, NULL, &err);
		if (e && e != -MNO_EPRECONDITION)
			return (void *)(intptr_t)e;
		i += e == 0;
	}
	return NULL;
}

static void test_lost_updates(void **state)
{
	struct rig r = {.opts = {0}};
	_cleanup_buf_ struct mno_buf b = {0};
	pthread_t t[WRITERS];
	char want[16];

	rig_new(&r);
	assert_int_equal(rig_put(&r, "c", "sum", "0 "), 0);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, add_up, &r), 0);
	for (int i = 0; i < WRITERS; i++) {
		void *e;

		pthread_join(t[i], &e);
		assert_null(e);
	}
	sprintf(want, "%d", WRITERS * ADDS);
	assert_string_equal(rig_get(&r, "c", "sum", &b), want);
	rig_check(&r, 1);
	rig_done(&r);
}

#define FLIP_BYTES 50
/* Every seventh bit of a stored value, one at a time: never another value than the one that was put. */
static void flips(bool plain)
{
	static const char text[] = "{\"marker\":\"0123456789abcdefghij\"}";
	struct rig r = {.plain = plain, .opts.no_worker = true};
	unsigned found = 0, same = 0;
	char path[128], sums[128];
	uint8_t page[4096];
	off_t at = 0, found_at = 0;
	int fd;

	rig_new(&r);
	assert_int_equal(rig_put(&r, "c", "the-id-of-it", text), 0);
	rig_close(&r);
	snprintf(path, sizeof(path), "%s/docs/data.mdb", r.tmp.dir);
	snprintf(sums, sizeof(sums), "%s/docs/pages.sum", r.tmp.dir);
	fd = open(path, O_RDWR);
	while (pread(fd, page, sizeof(page), at) == sizeof(page)) {
		uint8_t *id = memmem(page, sizeof(page), "the-id-of-it", 12);

		/* the newest leaf page that has it */
		if (id && id + 12 + FLIP_BYTES < page + sizeof(page) && page[10] == 2)
			found_at = at + (id + 12 - page);
		at += sizeof(page);
	}
	at = found_at;
	assert_true(at);
	for (unsigned bit = 0; bit < FLIP_BYTES * 8; bit += 7) {
		_cleanup_buf_ struct mno_buf b = {0};
		struct mno_doc doc;
		uint8_t c;
		int e;

		assert_int_equal(pread(fd, &c, 1, at + bit / 8), 1);
		c ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(pwrite(fd, &c, 1, at + bit / 8), 1);
		unlink(sums); /* as after kill -9: else the flip would be mended */
		rig_open(&r);
		e = mno_docs_get(r.d, "test", "c", "the-id-of-it", 12, &b, &doc);
		if (e == 0) {
			same++;
			assert_int_equal(doc.len, strlen(text));
			assert_memory_equal(doc.value, text, doc.len);
		} else {
			found++;
			assert_true(e == -MNO_ECORRUPT || e == -MNO_EVERSION || e == -ENOKEY);
		}
		rig_close(&r);
		c ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(pwrite(fd, &c, 1, at + bit / 8), 1);
	}
	close(fd);
	assert_true(found > 40);
	tmpstate_done(&r.tmp);
}

static void test_flips(void **state)
{
	flips(false);
	flips(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_preconditions),
		cmocka_unit_test(test_wrong_input),
		cmocka_unit_test(test_long_keys),
		cmocka_unit_test(test_quota),
		cmocka_unit_test(test_feed),
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_build_fails),
		cmocka_unit_test(test_secret),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_lost_updates),
		cmocka_unit_test(test_flips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
