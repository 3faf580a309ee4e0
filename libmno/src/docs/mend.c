/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of DOC_META that are damaged, put right at the opening: rows of the catalogue from their
 * copies, counters from what they count. A collection whose name is lost in both forms is called
 * lost-NUMBER: its documents can be read there.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/log.h"

#define BAD_MAX   4096u      /* rows in one opening; more at the next */
#define LOST_SEQS (1u << 20) /* may have been given since what is left was written */
#define LOST_IDS  64u
#define LOST_NS   (1u << 31) /* number of a namespace for those that have lost theirs */

struct bad {
	uint8_t tag;
	uint32_t id;
};
struct mend {
	struct mno_docs *d;
	MDB_txn *t;
	struct bad *v;
	size_t n, damaged, sound;
	struct mno_buf row;
};

uint8_t docs_meta_copy(enum docs_meta_tag tag)
{
	return tag == DOCS_META_NS || tag == DOCS_META_COLL || tag == DOCS_META_INDEX ||
			       tag == DOCS_META_FORM
		       ? (uint8_t)(tag - 'a' + 'A')
		       : 0;
}

static bool is_copy(uint8_t tag)
{
	return tag >= 'A' && tag <= 'Z' && docs_meta_copy(tag - 'A' + 'a') == tag;
}

/* --- looking ------------------------------------------------------------------------------------ */

static bool has_copy(struct mend *m, const uint8_t *key)
{
	uint8_t copy[5];
	MDB_val k = {sizeof(copy), copy}, v;

	memcpy(copy, key, sizeof(copy));
	copy[0] = docs_meta_copy(key[0]);
	return !copy[0] || mdb_get(m->t, m->d->e->dbi[MNO_DB_DOC_META], &k, &v) == 0;
}

static int look_at(struct mend *m, const MDB_val *k, const MDB_val *v)
{
	const uint8_t *key = k->mv_data;
	struct docs_head h;
	int r;

	if (k->mv_size != 5 || key[0] == DOCS_META_GEN || m->n == BAD_MAX)
		return 0;
	r = docs_seal_open(
		m->d, MNO_DB_DOC_META, key, k->mv_size, v->mv_data, v->mv_size, &h, &m->row);
	if (r == -ENOMEM)
		return r;
	m->sound += r == 0;
	m->damaged += r < 0;
	if (r < 0 || !has_copy(m, key))
		m->v[m->n++] = (struct bad){
			r < 0 ? key[0] : docs_meta_copy(key[0]), mno_get_be32(key + 1)};
	return 0;
}

static int each_row(struct mend *m, int (*fn)(struct mend *m, const MDB_val *k, const MDB_val *v))
{
	MDB_val k, v;
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(m->t, m->d->e->dbi[MNO_DB_DOC_META], &c)), rc = 0;

	if (r < 0)
		return r;
	while (r == 0 && (rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0)
		r = fn(m, &k, &v);
	mdb_cursor_close(c);
	return r < 0 || !rc || rc == MDB_NOTFOUND ? r : mno_lmdb_error(rc);
}

/* --- counting again ------------------------------------------------------------------------------ */

static int count_coll(struct mend *m, uint32_t id, struct docs_usage *add)
{
	uint8_t from[4];
	MDB_val k = {sizeof(from), from}, v;
	MDB_cursor *c;
	int rc, r = mno_lmdb_error(mdb_cursor_open(m->t, m->d->e->dbi[MNO_DB_DOC], &c));

	if (r < 0)
		return r;
	mno_be32(from, id);
	for (rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
		rc == 0 && k.mv_size > 4 && !memcmp(k.mv_data, from, 4);
		rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
		add->docs++;
		add->bytes += k.mv_size + v.mv_size;
	}
	mdb_cursor_close(c);
	return rc && rc != MDB_NOTFOUND ? mno_lmdb_error(rc) : 0;
}

/* Of a collection, or of all in a namespace. */
static int mend_usage(struct mend *m, uint32_t id)
{
	struct docs_usage u = {0};
	struct docs_cat *cat;
	int r = docs_cat_get_write(m->d, m->t, &cat);

	if (r < 0)
		return r;
	for (size_t i = 0; i < cat->n_coll && r == 0; i++)
		if (cat->coll[i].id == id || cat->coll[i].ns->id == id)
			r = count_coll(m, cat->coll[i].id, &u);
	docs_cat_unref(cat);
	return r < 0 ? r : docs_usage_put(m->d, m->t, id, &u);
}

/* The highest first number of the keys in @db, at least *@id. */
static void highest_id(struct mend *m, enum mno_db db, uint32_t *id)
{
	MDB_val k, v;
	MDB_cursor *c;

	if (mdb_cursor_open(m->t, m->d->e->dbi[db], &c))
		return;
	if (mdb_cursor_get(c, &k, &v, MDB_LAST) == 0 && k.mv_size > 4)
		*id = MNO_MAX(*id, mno_get_be32(k.mv_data));
	mdb_cursor_close(c);
}

/* Versions are readable, damaged or not; feed chunks tell their first number and size. */
static int highest_seq(struct mend *m, enum mno_db db, struct docs_state *s)
{
	MDB_val k, v;
	MDB_cursor *c;
	int rc, r = mno_lmdb_error(mdb_cursor_open(m->t, m->d->e->dbi[db], &c));

	if (r < 0)
		return r;
	while ((rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0) {
		struct docs_head h;
		_cleanup_buf_ struct mno_buf raw = {0};

		if (db == MNO_DB_DOC_FEED && k.mv_size == 8) {
			s->next_seq = MNO_MAX(s->next_seq, mno_get_be64(k.mv_data));
			s->feed_bytes += v.mv_size;
		} else if (db == MNO_DB_DOC && docs_seal_open(m->d, db, k.mv_data, k.mv_size,
						       v.mv_data, v.mv_size, &h, &raw) == 0) {
			s->next_seq = MNO_MAX(s->next_seq, h.number);
			s->form = MNO_MAX(s->form, (unsigned)h.form);
		}
	}
	mdb_cursor_close(c);
	return rc == MDB_NOTFOUND ? 0 : mno_lmdb_error(rc);
}

static int note_id(struct mend *m, const MDB_val *k, const MDB_val *v)
{
	uint32_t *id = (uint32_t *)(void *)m->row.data;

	if (k->mv_size == 5)
		*id = MNO_MAX(*id, mno_get_be32((const uint8_t *)k->mv_data + 1) & ~LOST_NS);
	return 0;
}

static int mend_state(struct mend *m, uint32_t no)
{
	struct docs_state s = {.next_seq = 1};
	uint32_t id = 0;
	int r;

	mno_buf_reset(&m->row);
	mno_buf_add(&m->row, &id, sizeof(id));
	r = m->row.err ?: each_row(m, note_id);
	if (r == 0)
		memcpy(&id, m->row.data, sizeof(id));
	highest_id(m, MNO_DB_DOC, &id);
	highest_id(m, MNO_DB_DOC_IDX, &id);
	highest_id(m, MNO_DB_DOC_UNIQ, &id);
	if (r == 0)
		r = highest_seq(m, MNO_DB_DOC, &s);
	if (r == 0)
		r = highest_seq(m, MNO_DB_DOC_FEED, &s);
	s.next_seq += LOST_SEQS;
	/* without documents, or with one of the newest form: that form; else it may be migrated to */
	s.form = s.form ?: DOCS_FORM;
	if (docs_meta_get(m->d, m->t, DOCS_META_FORM, 0, &m->row) != -ENOENT) {
		s.form = DOCS_FORM;
		s.old_seq = s.next_seq; /* any may have its older form beside it */
	}
	s.next_id = id + LOST_IDS;
	return r < 0 ? r : docs_state_put(m->d, m->t, &s);
}

/* --- the catalogue -------------------------------------------------------------------------------- */

static int first_ns(struct mend *m, const MDB_val *k, const MDB_val *v)
{
	const uint8_t *key = k->mv_data;

	if (k->mv_size != 5 || key[0] != DOCS_META_NS)
		return 0;
	m->v[BAD_MAX].id = mno_get_be32(key + 1);
	return 1;
}

static int mend_ns(struct mend *m, uint32_t id)
{
	struct docs_cat_ns n = {.id = id};

	snprintf(n.name, sizeof(n.name), "lost-%u", id);
	return docs_ns_put(m->d, m->t, &n);
}

static int mend_coll(struct mend *m, uint32_t id)
{
	struct docs_cat_ns ns = {.id = LOST_NS};
	struct docs_cat_coll c = {.id = id, .ns = &ns};
	int r = each_row(m, first_ns);

	if (r == 1)
		ns.id = m->v[BAD_MAX].id;
	else if (r == 0)
		r = mend_ns(m, LOST_NS);
	snprintf(c.name, sizeof(c.name), "lost-%u", id);
	return r < 0 ? r : docs_coll_put(m->d, m->t, &c);
}

/* What it was cannot be told: its entries go in the background. */
static int mend_index(struct mend *m, uint32_t id)
{
	struct docs_cat_index x = {.id = id, .state = MNO_DOC_INDEX_DROPPING, .path_text = "$"};

	snprintf(x.name, sizeof(x.name), "lost-%u", id);
	return docs_index_put(m->d, m->t, &x);
}

static int mend_build(struct mend *m, uint32_t id)
{
	return docs_meta_del(m->d, m->t, DOCS_META_BUILD, id); /* it begins anew */
}

/* It is left as it is: that tells the worker that there is a migration to begin anew (form.c). */
static int mend_form(struct mend *m, uint32_t id)
{
	return 0;
}

static const struct {
	enum docs_meta_tag tag;
	int (*fn)(struct mend *m, uint32_t id);
	const char *what;
} menders[] = {
	/* in this order: the later ones look at the catalogue */
	{DOCS_META_NS, mend_ns, "the name and quotas of a namespace"},
	{DOCS_META_COLL, mend_coll, "the name of a collection"},
	{DOCS_META_INDEX, mend_index, "an index: declare it again"},
	{DOCS_META_BUILD, mend_build, "how far an index is built"},
	{DOCS_META_FORM, mend_form, "how far the migration is: it begins anew"},
	{DOCS_META_STATE, mend_state, "the counters of the documents"},
	{DOCS_META_USAGE, mend_usage, "the size of a collection"},
};

/* From the other form of the same row, if that is whole. */
static int from_copy(struct mend *m, uint8_t tag, uint32_t id)
{
	uint8_t first = is_copy(tag) ? (uint8_t)(tag - 'A' + 'a') : tag;
	uint8_t other = is_copy(tag) ? first : docs_meta_copy(tag);
	int r = other ? docs_meta_get(m->d, m->t, other, id, &m->row) : -ENOENT;

	return r < 0 ? r : docs_meta_put(m->d, m->t, first, id, &m->row);
}

static int mend_one(struct mend *m, size_t with, const struct bad *b)
{
	int r;

	if (is_copy(b->tag)) /* its primary has its own turn if it is damaged, too */
		r = from_copy(m, b->tag, b->id);
	else if ((r = from_copy(m, b->tag, b->id)) < 0 && r != -ENOMEM) {
		r = menders[with].fn(m, b->id);
		if (r == 0)
			mno_err("docs: a row of the catalogue is damaged. Lost or counted again: "
				"%s (number %u)",
				menders[with].what, b->id);
	}
	return r == -ENOENT || r == -MNO_ECORRUPT || r == -MNO_EVERSION ? 0 : r;
}

static int mend_all(void *arg, struct mno_txn *txn)
{
	struct mend *m = arg;
	uint64_t gen = 0;
	int r = 0;

	m->t = txn->t;
	docs_gen_get(m->d, m->t, &gen);
	m->d->gen_next = gen + 1;
	for (size_t with = 0; with < ARRAY_SIZE(menders) && r == 0; with++) {
		for (size_t i = 0; i < m->n && r == 0; i++)
			if (m->v[i].tag == menders[with].tag ||
				m->v[i].tag == docs_meta_copy(menders[with].tag))
				r = mend_one(m, with, &m->v[i]);
		if (r == 0)
			r = docs_gen_put(m->d, m->t);
	}
	return r;
}

int docs_mend(struct mno_docs *d)
{
	struct mend m = {.d = d};
	int r;

	m.v = calloc(BAD_MAX + 1, sizeof(*m.v));
	r = m.v ? mno_read_begin(d->e, &m.t) : -ENOMEM;
	if (r == 0) {
		r = each_row(&m, look_at);
		mno_read_end(d->e, m.t);
	}
	/* bits flip in some rows; in all of them it is the keys that are not those of this catalogue */
	if (r == 0 && m.damaged && !m.sound)
		r = -ENOKEY;
	if (r == 0 && m.damaged) {
		mno_warn("docs: %zu rows of the catalogue are damaged: mending", m.damaged);
		d->store->damaged += m.damaged;
	}
	if (r == 0 && m.n && !d->store->opts.read_only)
		r = mno_committer_run(d->committer, mend_all, &m, true);
	free(m.v);
	mno_buf_done(&m.row);
	return r;
}
