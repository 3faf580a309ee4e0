/* SPDX-License-Identifier: Apache-2.0 */
/* Documents against a model in memory, and each promise of the header on its own. */
#include "rig.h"

#define MODEL_DOCS  60
#define MODEL_STEPS 3000

/* --- a model ----------------------------------------------------------------------------------- */

struct model_doc {
	bool there;
	uint64_t version;
	int age, serial, tags; /* tags: bits */
	char name[8];
};
struct model {
	struct model_doc v[MODEL_DOCS];
	uint64_t rng;
};

static const char *const words[] = {"red", "Green", "BLUE", "gr\xc3\xbcn", "black"};

static void model_json(const struct model_doc *m, char *buf, size_t size)
{
	int n = snprintf(buf, size, "{\"age\":%d%s,\"name\":\"%s\",\"serial\":%d,\"tags\":[",
		m->age, m->age % 3 ? "" : ".0", m->name, m->serial);
	bool first = true;

	for (int i = 0; i < 5; i++)
		if (m->tags & 1 << i) {
			n += snprintf(
				buf + n, size - (size_t)n, "%s\"%s\"", first ? "" : ", ", words[i]);
			first = false;
		}
	n += snprintf(buf + n, size - (size_t)n, "],\"body\":{\"text\":\"");
	for (int i = 0; i < 5; i++)
		if (m->tags & 1 << i)
			n += snprintf(buf + n, size - (size_t)n, "%s, ", words[4 - i]);
	snprintf(buf + n, size - (size_t)n, "\\u0041nd\"}}");
}

static void model_id(unsigned i, char *buf)
{
	sprintf(buf, "doc-%02u", i);
}

static void random_doc(struct model *m, struct model_doc *d)
{
	d->there = true;
	d->age = (int)(rnd(&m->rng) % 40) - 20;
	d->tags = (int)(rnd(&m->rng) % 32);
	d->serial = (int)(rnd(&m->rng) % 90);
	sprintf(d->name, "n%c%d", 'a' + (int)(rnd(&m->rng) % 4), (int)(rnd(&m->rng) % 10));
}

static bool serial_taken(const struct model *m)
{
	for (unsigned i = 0; i < MODEL_DOCS; i++)
		for (unsigned k = 0; k < i; k++)
			if (m->v[i].there && m->v[k].there && m->v[i].serial == m->v[k].serial)
				return true;
	return false;
}

/* One transaction as a script, so that the writer may run it twice. */
struct step {
	enum { S_PUT, S_DELETE, S_SAVE, S_ROLLBACK, S_RELEASE } what;
	unsigned i;
	enum mno_doc_pre pre;
	uint64_t version;
	char json[512];
	uint64_t got;
};
struct script {
	struct step v[24];
	size_t n;
	int result;
};

static int run_step(struct step *s, struct mno_docs_txn *t)
{
	struct mno_doc_result res;
	char id[16];
	struct mno_doc_op op;
	int r;

	model_id(s->i, id);
	op = put_op("people", id, s->json);
	op.verb = s->what == S_PUT ? MNO_DOC_PUT : MNO_DOC_DELETE;
	op.pre = s->pre;
	op.if_version = s->version;
	switch (s->what) {
	case S_SAVE:
		return mno_docs_txn_savepoint(t);
	case S_ROLLBACK:
		return mno_docs_txn_rollback(t);
	case S_RELEASE:
		return mno_docs_txn_release(t);
	default:
		r = mno_docs_txn_op(t, &op, &res);
		s->got = res.version;
		return r;
	}
}

static int run_script(void *arg, struct mno_docs_txn *t)
{
	struct script *s = arg;
	int r = 0;

	for (size_t i = 0; i < s->n && r == 0; i++)
		r = run_step(&s->v[i], t);
	return r == 0 ? s->result : r;
}

/* Writes a random script and plays it on a copy of the model. *@ret: what it must come to. */
static void plan_script(struct model *m, struct script *s, int *ret)
{
	struct model saved = *m;
	unsigned steps = 1 + (unsigned)(rnd(&m->rng) % 6), open = 0;

	s->n = 0;
	s->result = rnd(&m->rng) % 10 == 0 ? -EINTR : 0;
	*ret = 0;
	for (unsigned k = 0; k < steps; k++) {
		struct step *p = &s->v[s->n++];
		struct model_doc *d;

		memset(p, 0, sizeof(*p));
		if (!open && rnd(&m->rng) % 5 == 0) {
			p->what = S_SAVE;
			saved = *m;
			open = 1;
			continue;
		}
		if (open && rnd(&m->rng) % 3 == 0) {
			uint64_t rng = m->rng;

			p->what = rnd(&m->rng) % 2 ? S_ROLLBACK : S_RELEASE;
			if (p->what == S_ROLLBACK) {
				*m = saved;
				m->rng = rng + 1;
			}
			open = 0;
			continue;
		}
		p->i = (unsigned)(rnd(&m->rng) % MODEL_DOCS);
		d = &m->v[p->i];
		if (rnd(&m->rng) % 3 == 0) {
			p->what = S_DELETE;
			d->there = false;
			continue;
		}
		if (rnd(&m->rng) % 8 == 0 && s->n == 1) {
			p->pre = d->there ? MNO_DOC_IF_VERSION : MNO_DOC_IF_PRESENT;
			p->version = d->version + rnd(&m->rng) % 2;
			if (!d->there || p->version != d->version)
				*ret = -MNO_EPRECONDITION;
		}
		random_doc(m, d);
		model_json(d, p->json, sizeof(p->json));
		p->what = S_PUT;
	}
}

static void take_versions(struct model *m, const struct script *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].what == S_PUT)
			m->v[s->v[i].i].version = s->v[i].got;
}

static void compare_docs(struct rig *r, const struct model *m)
{
	_cleanup_buf_ struct mno_buf b = {0};
	char id[16], json[512];
	struct mno_doc doc;

	for (unsigned i = 0; i < MODEL_DOCS; i++) {
		int e;

		model_id(i, id);
		e = mno_docs_get(r->d, "test", "people", id, strlen(id), &b, &doc);
		if (!m->v[i].there) {
			assert_int_equal(e, -ENOENT);
			continue;
		}
		assert_int_equal(e, 0);
		model_json(&m->v[i], json, sizeof(json));
		assert_int_equal(doc.len, strlen(json));
		assert_memory_equal(doc.value, json, doc.len);
	}
}

static bool fits_age(const struct model_doc *d)
{
	return d->age >= -5 && d->age < 7;
}
static bool fits_tag(const struct model_doc *d)
{
	return d->tags & 2;
}
static bool fits_words(const struct model_doc *d)
{
	return (d->tags & 16 && d->tags & 2) || d->tags & 4;
}
static bool fits_name(const struct model_doc *d)
{
	return d->name[1] == 'b' && d->age != 3;
}
static bool fits_serial(const struct model_doc *d)
{
	return d->serial == 17;
}
static bool fits_some(const struct model_doc *d)
{
	return d->tags && d->age <= 0;
}

static const struct {
	const char *where[3], *index;
	bool (*fn)(const struct model_doc *d);
} queries[] = {
	{{"age>=-5", "age<7.0"}, "age", fits_age},
	{{"tags=Green"}, "tags", fits_tag},
	{{"body.text~RED gR\xc3\x9cn | blu*"}, "words", fits_words},
	{{"name^nb", "age!=3"}, "", fits_name},
	{{"serial=17"}, "serial", fits_serial},
	{{"tags>=A", "age<=0"}, NULL, fits_some},
};

static void compare_finds(struct rig *r, const struct model *m, bool indexed)
{
	struct rig_found f;

	for (size_t q = 0; q < ARRAY_SIZE(queries); q++) {
		size_t n = 0, want = 0;
		char id[16];

		while (n < 3 && queries[q].where[n])
			n++;
		assert_int_equal(rig_find(r, "people", queries[q].where, n, 1 + q * 3, &f), 0);
		assert_int_equal(f.damaged, 0);
		if (indexed && queries[q].index)
			assert_string_equal(f.index, queries[q].index);
		for (unsigned i = 0; i < MODEL_DOCS; i++) {
			model_id(i, id);
			if (!m->v[i].there || !queries[q].fn(&m->v[i])) {
				assert_null(strstr(f.ids, id));
				continue;
			}
			want++;
			assert_non_null(strstr(f.ids, id));
		}
		if (f.n != want)
			print_message("query %zu: %s\n", q, f.ids);
		assert_int_equal(f.n, want);
	}
}

static void make_indexes(struct rig *r)
{
	static const struct mno_doc_index defs[] = {
		{.name = "age", .path = "age"},
		{.name = "tags", .path = "tags", .multi = true},
		{.name = "serial", .path = "serial", .unique = true},
		{.name = "words", .path = "body.text", .type = MNO_DOC_FULLTEXT},
	};

	for (size_t i = 0; i < ARRAY_SIZE(defs); i++)
		assert_int_equal(
			mno_docs_index_create(r->d, "test", "people", &defs[i], &r->err), 0);
}

static size_t count(const struct model *m)
{
	size_t n = 0;

	for (unsigned i = 0; i < MODEL_DOCS; i++)
		n += m->v[i].there;
	return n;
}

static void differential(bool plain)
{
	struct rig r = {.plain = plain, .opts.no_worker = true};
	static struct model m, before;
	static struct script s;
	unsigned committed = 0, refused = 0;

	rig_new(&r);
	memset(&m, 0, sizeof(m));
	m.rng = 42;
	make_indexes(&r);
	for (unsigned i = 0; i < MODEL_STEPS; i++) {
		int want, e;
		uint64_t rng;

		before = m;
		plan_script(&m, &s, &want);
		if (want == 0)
			want = s.result;
		if (want == 0 && serial_taken(&m))
			want = -MNO_EUNIQUE;
		e = mno_docs_write(r.d, run_script, &s, &r.err);
		if (e != want)
			print_message("step %u: %s\n", i, r.err.msg);
		assert_int_equal(e, want);
		rng = m.rng;
		if (e)
			m = before;
		else
			take_versions(&m, &s);
		m.rng = rng;
		committed += !e;
		refused += e != 0;
		if (i % 100 == 99) {
			compare_docs(&r, &m);
			compare_finds(&r, &m, true);
			rig_check(&r, count(&m));
		}
		if (i % 500 == 250)
			rig_reopen(&r);
	}
	/* both ways were taken */
	assert_true(committed > MODEL_STEPS / 10 && refused > MODEL_STEPS / 20);
	rig_done(&r);
}

static void test_model_encrypted(void **state)
{
	differential(false);
}
static void test_model_plain(void **state)
{
	differential(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model_encrypted),
		cmocka_unit_test(test_model_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
