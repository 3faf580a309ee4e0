/* SPDX-License-Identifier: Apache-2.0 */
/* What the databases of the series hold, for whoever looks for damage. */
#include <errno.h>
#include "../store/verify.h"
#include "mno/err.h"
#include "labels_internal.h"
#include "late.h"
#include "native.h"
#include "rollup_internal.h"
#include "series_internal.h"

int verify_series(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_(key_labels_done)
	struct key_labels k = {0};
	int r = key_parse(raw->data, raw->len, &k);

	return r == -EINVAL ? -MNO_ECORRUPT : r;
}

int verify_block_v1(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_free_ struct block_v1 *b = malloc(sizeof(*b));
	uint16_t idx[BLOCK_V1_ROWS];
	double v[BLOCK_V1_ROWS];
	size_t n;
	int r = b ? block_v1_open((uint8_t *)raw->data, raw->len, b) : -ENOMEM;

	for (unsigned i = 0; i < GROUP_SERIES && r == 0; i++)
		if (b->columns >> i & 1)
			r = block_v1_column(b, i, idx, v, &n);
	return r;
}

static int verify_group(const struct block *b, size_t group, struct piece *p, double *v)
{
	int r = block_pieces(b, group, p);

	for (size_t i = 0; r == 0 && i < b->n_windows; i++)
		for (uint64_t have = p[i].columns; have && r == 0; have &= have - 1) {
			unsigned col = (unsigned)__builtin_ctzll(have);
			struct column c;

			r = column_decode(p[i].p[col], p[i].len[col], b->w[i].n, &c, v);
		}
	return r;
}

int verify_block(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_free_ struct block *b = malloc(sizeof(*b));
	_cleanup_free_ struct piece *p = malloc(BLOCK_WINDOWS * sizeof(*p));
	_cleanup_free_ double *v = malloc(HEAD_ROWS * sizeof(*v));
	int r = b && p && v ? block_open((uint8_t *)raw->data, raw->len, b) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < b->n_groups; i++)
		r = verify_group(b, i, p, v);
	return r;
}

int verify_late(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_free_ struct block *b = malloc(sizeof(*b));
	int r = b ? block_open((uint8_t *)raw->data, raw->len, b) : -ENOMEM;

	if (r == 0 && (b->n_groups != 1 || b->g[0].group != mno_get_be32(key)))
		r = -MNO_ECORRUPT;
	return r ?: verify_block(key, s, raw);
}

int verify_hist(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_free_ struct natives *b = calloc(1, sizeof(*b));
	int r = b ? native_decode((uint8_t *)raw->data, raw->len, b) : -ENOMEM;

	if (r == 0 && b->v[0].t_ms != mno_time_unkey(mno_get_be64(key + 4)))
		r = -MNO_ECORRUPT;
	if (b)
		natives_done(b);
	return r;
}

static int no_points(void *arg, unsigned col, struct roll_column *c)
{
	return 0;
}

int verify_roll(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	const uint8_t *p = (uint8_t *)raw->data;
	size_t left = raw->len;
	uint32_t head[2];
	int r = 0;

	for (; left && r == 0; p += head[1], left -= head[1]) {
		if (left < sizeof(head))
			return -MNO_ECORRUPT;
		memcpy(head, p, sizeof(head));
		p += sizeof(head);
		left -= sizeof(head);
		if (head[1] > left)
			return -MNO_ECORRUPT;
		r = roll_decode(p, head[1], ~0ULL, no_points, NULL);
	}
	return r;
}

int verify_agg(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_free_ struct mno_agg *one = calloc(GROUP_SERIES, sizeof(*one));
	struct agg_reader a;
	uint64_t columns;
	uint32_t group;
	int r = one ? agg_open(&a, (uint8_t *)raw->data, raw->len,
			      mno_time_unkey(mno_get_be64(key)), mno_time_unkey(s->a))
		    : -ENOMEM;

	while (r == 0)
		r = agg_next(&a, &group, &columns, one);
	return r == -ENOENT ? 0 : r;
}

int verify_posting(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_(set_done)
	struct id_set set = {0};

	return set_decode(raw->data, raw->len, &set);
}

int verify_values(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	return values_check(raw, mno_get_be32(key + 16) == 0);
}

int verify_span(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	return raw->len == 64 * 2 * sizeof(int64_t) ? 0 : -MNO_ECORRUPT;
}

uint64_t tell_series(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_addf(
		out, "name and labels of series %u; its samples have no name", mno_get_be32(k));
	return 1;
}

uint64_t tell_records(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	uint32_t group = mno_get_be32(k);

	mno_buf_addf(out, "names and labels of series %u to %u; their samples have no name",
		group * GROUP_SERIES, group * GROUP_SERIES + GROUP_SERIES - 1);
	return head ? head->count : GROUP_SERIES;
}

/* The head of a group's value tells which it has; one that is damaged is told of by itself. */
bool has_record(struct mno_env *e, MDB_txn *t, const uint8_t id_be[4])
{
	uint32_t id = mno_get_be32(id_be);
	struct mno_seal head;
	uint8_t key[4];
	MDB_val k = {sizeof(key), key}, v;

	mno_be32(key, id / GROUP_SERIES);
	if (mdb_get(t, e->dbi[MNO_DB_SERIES_GROUP], &k, &v) == 0 &&
		(mno_seal_peek(key, sizeof(key), v.mv_data, v.mv_size, MNO_SEAL_RECORDS, &head) <
				0 ||
			head.a >> (id % GROUP_SERIES) & 1))
		return true;
	k = (MDB_val){4, (void *)id_be};
	return mdb_get(t, e->dbi[MNO_DB_SERIES], &k, &v) != MDB_NOTFOUND;
}

/* Without a readable head only the begin is known. */
static uint64_t tell_window(
	uint64_t t0, const struct mno_seal *head, const char *what, struct mno_buf *out)
{
	mno_buf_adds(out, " from ");
	mno_time_text(mno_time_unkey(t0), out);
	if (!head) {
		mno_buf_addf(out, " to the next %s", what);
		return 0;
	}
	mno_buf_adds(out, " to ");
	mno_time_text(mno_time_unkey(head->a), out);
	mno_buf_addf(out, " (%llu samples of %u series)", (unsigned long long)head->b, head->count);
	return head->b;
}

uint64_t tell_block_v1(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	uint32_t group = mno_get_be32(k);

	mno_buf_addf(out, "samples of the series %u to %u", group * GROUP_SERIES,
		group * GROUP_SERIES + GROUP_SERIES - 1);
	return tell_window(mno_get_be64(k + 4), head, "block", out);
}

uint64_t tell_block(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_addf(out, "samples of the series from %u on", mno_get_be32(k + 8) * GROUP_SERIES);
	return tell_window(mno_get_be64(k), head, "block", out);
}

uint64_t tell_roll(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_addf(out, "rolled-up points of the series from %u on, of the window of ",
		mno_get_be32(k + 8) * GROUP_SERIES);
	mno_time_text(mno_time_unkey(mno_get_be64(k)), out);
	return head ? head->b : 0;
}

uint64_t tell_index(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_adds(out, "a part of an index: searches by label may miss series");
	return 0;
}

uint64_t tell_tail(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_addf(out, "row %u of those that wait for the next block", k[0]);
	if (!head)
		return 0;
	mno_buf_adds(out, ", of ");
	mno_time_text(mno_time_unkey(head->a), out);
	mno_buf_adds(out, ", and the rows behind it");
	return 0;
}

uint64_t tell_agg(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_adds(out, "sums of a block, whose samples are still there");
	return 0;
}

uint64_t tell_late(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_addf(out, "late samples of the series from %u on, of the time from ",
		mno_get_be32(k) * GROUP_SERIES);
	mno_time_text(mno_time_unkey(mno_get_be64(k + 8)), out);
	return 0;
}

uint64_t tell_hist(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_addf(out, "histograms of series %u from ", mno_get_be32(k));
	mno_time_text(mno_time_unkey(mno_get_be64(k + 4)), out);
	return head ? head->count : 0;
}
