/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of ids by (name, value), in pieces that fit a leaf. A piece's key has the first group that
 * may be in it; the first piece of a list begins at group 0.
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/map.h"
#include "series_internal.h"

#define PIECE_MAX 1800u /* bytes before sealing: stays in the leaf */
#define KEY_BYTES (FP_BYTES + 4)

/* What kind of list; names and values hold no NUL, so it can separate them. */
enum { LIST_VALUE = 'v', LIST_NAME = 'n', LIST_ALL = 'a' };

static uint64_t hash_part(const struct mno_series *s, uint8_t half, const void *p, size_t len)
{
	uint8_t key[16];

	memcpy(key, s->env->hash_key, sizeof(key));
	key[0] ^= half;
	return mno_siphash(key, p, len);
}

void label_fp(
	const struct mno_series *s, const char *name, const char *value, uint8_t ret[FP_BYTES])
{
	size_t nl = name ? strlen(name) : 0, vl = value ? strlen(value) : 0;
	char small[512], *p = small;
	size_t len = nl + vl + 2;

	/* long texts by the hash of the value: no memory to fail for */
	if (len > sizeof(small)) {
		uint64_t part[4] = {hash_part(s, 3, name, nl), hash_part(s, 4, name, nl),
			hash_part(s, 3, value ? value : "", vl),
			hash_part(s, 4, value ? value : "", vl)};

		len = 2 + sizeof(part);
		memcpy(p + 2, part, sizeof(part));
		p[0] = value ? 'V' : 'N';
		p[1] = '\0';
	} else {
		p[0] = value ? LIST_VALUE : name ? LIST_NAME : LIST_ALL;
		if (nl)
			memcpy(p + 1, name, nl);
		p[1 + nl] = '\0';
		if (vl)
			memcpy(p + 2 + nl, value, vl);
	}
	mno_be64(ret, hash_part(s, 1, p, len));
	mno_be64(ret + 8, hash_part(s, 2, p, len));
}

static void piece_key(uint8_t key[KEY_BYTES], const uint8_t fp[FP_BYTES], uint32_t group)
{
	memcpy(key, fp, FP_BYTES);
	mno_be32(key + FP_BYTES, group);
}

static bool is_of(const MDB_val *k, const uint8_t fp[FP_BYTES])
{
	return k->mv_size == KEY_BYTES && memcmp(k->mv_data, fp, FP_BYTES) == 0;
}

static uint32_t piece_group(const MDB_val *k)
{
	return mno_get_be32((const uint8_t *)k->mv_data + FP_BYTES);
}

static int piece_open(struct mno_env *e, ZSTD_DCtx *z, const MDB_val *k, const MDB_val *v,
	struct mno_buf *raw, struct id_set *out)
{
	struct mno_seal info;
	int r = mno_seal_open(e, MNO_DB_POSTING, z, k->mv_data, k->mv_size, v->mv_data, v->mv_size,
		MNO_SEAL_POSTING, &info, raw);

	if (r == -MNO_EVERSION) /* the store is of this version: the byte is damaged */
		r = -MNO_ECORRUPT;
	return r < 0 ? r : set_decode(raw->data, raw->len, out);
}

/* --- writing ------------------------------------------------------------------------------------ */

struct list {
	struct mno_series *s;
	struct mno_txn *txn;
	const uint8_t *fp;
	uint8_t key[KEY_BYTES]; /* of the piece being changed */
	bool stored;            /* it is there already */
	uint64_t limit;         /* groups from here on are in the next piece */
};

static int list_exists(struct list *l, bool *ret)
{
	uint8_t from[KEY_BYTES];
	MDB_val k = {sizeof(from), from}, v;
	MDB_cursor *c;
	int r;

	piece_key(from, l->fp, 0);
	r = mno_lmdb_error(mdb_cursor_open(l->txn->t, l->s->env->main->dbi[MNO_DB_POSTING], &c));
	if (r < 0)
		return r;
	r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GE, &k, &v));
	*ret = r == 0 && is_of(&k, l->fp);
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r;
}

/* The piece that @group belongs to, into @set; none: an empty one that begins at 0. */
static int piece_find(struct list *l, uint32_t group, struct id_set *set)
{
	uint8_t at[KEY_BYTES];
	MDB_val k = {sizeof(at), at}, v;
	MDB_cursor *c;
	int r = mno_lmdb_error(
		mdb_cursor_open(l->txn->t, l->s->env->main->dbi[MNO_DB_POSTING], &c));

	if (r < 0)
		return r;
	piece_key(at, l->fp, group);
	piece_key(l->key, l->fp, 0);
	set->n = 0;
	l->limit = UINT64_MAX;
	r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_LE, &k, &v));
	l->stored = r == 0 && is_of(&k, l->fp);
	if (l->stored) {
		memcpy(l->key, k.mv_data, KEY_BYTES);
		r = piece_open(l->s->env->main, l->s->z, &k, &v, &l->s->raw, set);
	}
	if (r == 0 || r == -ENOENT) {
		k = (MDB_val){sizeof(at), at};
		r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GT, &k, &v));
		if (r == 0 && is_of(&k, l->fp))
			l->limit = piece_group(&k);
	}
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r;
}

static int piece_put(struct list *l, const uint8_t key[KEY_BYTES])
{
	struct mno_seal info = {.kind = MNO_SEAL_POSTING};
	const struct mno_buf *raw = &l->s->raw;

	return mno_seal_put(
		l->txn, MNO_DB_POSTING, key, KEY_BYTES, &info, raw->data, raw->len, NULL);
}

/* Entries [from, to) under the key of the piece or, behind its first part, of their first group.
 * What is appended to leaves full pieces behind; what is put between, halves. */
static int pieces_write(struct list *l, const struct id_set *set, size_t from, size_t to)
{
	uint8_t key[KEY_BYTES];
	size_t cut = from + (to - from) / 2;
	int r;

	mno_buf_reset(&l->s->raw);
	set_encode(set, from, to, &l->s->raw);
	if (l->s->raw.err)
		return l->s->raw.err;
	memcpy(key, l->key, sizeof(key));
	if (from)
		piece_key(key, l->fp, set->v[from].group);
	if (l->s->raw.len <= PIECE_MAX || to - from == 1)
		return piece_put(l, key);
	if (l->limit == UINT64_MAX) {
		/* at most 11 bytes for each entry */
		for (cut = from; cut < to - 1;) {
			mno_buf_reset(&l->s->raw);
			set_encode(set, from, cut + 1, &l->s->raw);
			if (l->s->raw.len > PIECE_MAX)
				break;
			cut += MNO_MAX((PIECE_MAX - l->s->raw.len) / 16, (size_t)1);
		}
		cut = MNO_MIN(cut, to - 1);
		mno_buf_reset(&l->s->raw);
		set_encode(set, from, cut, &l->s->raw);
	}
	r = pieces_write(l, set, from, cut);
	return r < 0 ? r : pieces_write(l, set, cut, to);
}

static int piece_change(struct list *l, struct id_set *set, const struct id_set *part, bool del)
{
	int r = 0;

	if (del)
		set_sub(set, part);
	else
		r = set_or(set, part);
	if (r < 0)
		return r;
	if (set->n)
		return pieces_write(l, set, 0, set->n);
	if (!l->stored)
		return 0;
	return mno_txn_del(l->txn, MNO_DB_POSTING, l->key, sizeof(l->key));
}

int posting_apply(struct mno_series *s, struct mno_txn *txn, const uint8_t fp[FP_BYTES],
	const struct id_set *ids, bool del, bool *ret_was, bool *ret_is)
{
	_cleanup_(set_done)
	struct id_set set = {0};
	struct list l = {.s = s, .txn = txn, .fp = fp};
	int r = list_exists(&l, ret_was);

	for (size_t i = 0, n; r == 0 && i < ids->n; i += n) {
		struct id_set part = {.v = ids->v + i};

		n = 0;
		r = piece_find(&l, ids->v[i].group, &set);
		while (i + n < ids->n && ids->v[i + n].group < l.limit)
			n++;
		part.n = n;
		if (r == 0)
			r = piece_change(&l, &set, &part, del);
	}
	return r < 0 ? r : list_exists(&l, ret_is);
}

/* --- reading ------------------------------------------------------------------------------------- */

/* One piece: the one that @from belongs to, or the next. *@ret_next is where to go on, UINT64_MAX at
 * the end. */
static int load_piece(struct rd *rd, const uint8_t fp[FP_BYTES], uint32_t from, struct id_set *out,
	uint64_t *ret_next)
{
	uint8_t at[KEY_BYTES];
	MDB_val k = {sizeof(at), at}, v;
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(rd->t, rd->s->env->main->dbi[MNO_DB_POSTING], &c));

	if (r < 0)
		return r;
	piece_key(at, fp, from);
	r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_LE, &k, &v));
	if (r == -ENOENT || (r == 0 && !is_of(&k, fp))) {
		k = (MDB_val){sizeof(at), at};
		r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GE, &k, &v));
	}
	*ret_next = UINT64_MAX;
	if (r == 0 && is_of(&k, fp)) {
		r = piece_open(rd->s->env->main, rd->z, &k, &v, &rd->raw, out);
		if (r == 0)
			r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT));
		if (r == 0 && is_of(&k, fp))
			*ret_next = piece_group(&k);
	}
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r;
}

int posting_load(
	struct rd *rd, const uint8_t fp[FP_BYTES], const struct id_set *within, struct id_set *out)
{
	uint64_t at = 0;

	while (at <= UINT32_MAX) {
		uint64_t next;
		int r = rd_renew(rd);

		if (within) {
			size_t i = set_find(within, (uint32_t)at);

			if (i == within->n)
				break;
			at = within->v[i].group;
		}
		if (r == 0)
			r = load_piece(rd, fp, (uint32_t)at, out, &next);
		if (r < 0)
			return r;
		at = next;
	}
	return 0;
}
