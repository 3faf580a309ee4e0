/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prometheus remote write 1.0: messages of protobuf, compressed by snappy. A file has one message,
 * or many, each behind its length as a varint.
 */
#include <errno.h>
#include <snappy-c.h>

#include "../ingest_internal.h"
#include "../proto.h"

#define MESSAGE_MAX (32u << 20) /* compressed */
#define RAW_MAX     (64u << 20)
#define SLICE       (64u << 10)
#define ARRAY_MAX   (1u << 16) /* spans, or buckets, of one histogram */

/* Growing array; items of its own size. */
struct array {
	void *v; /* owned */
	size_t n, cap;
};

struct rw {
	bool framed; /* the first message was behind a length, so all are */
	bool single; /* it was not: all of the input is one */
	char *raw;   /* owned: the message, uncompressed */
	size_t raw_cap;
	struct mno_buf labels;                       /* of one series, as they came */
	struct array spans[2], deltas[2], counts[2]; /* negative, positive */
};

/* --- messages --------------------------------------------------------------------------------- */

/* Text of field @no of a message, empty if there is none; false when it is malformed. */
static bool read_label(const struct proto_field *label, struct proto_field part[2])
{
	struct proto p = proto_of(label);
	struct proto_field f;

	part[0] = part[1] = (struct proto_field){0};
	while (proto_next(&p, &f))
		if ((f.no == 1 || f.no == 2) && f.type == PROTO_BYTES)
			part[f.no - 1] = f;
	return !p.bad;
}

static enum mno_ingest_reason read_labels(struct mno_ingest *p, const struct proto_field *series)
{
	struct proto in = proto_of(series);
	struct proto_field f, part[2];

	p->labels.n = 0;
	p->labels.metric = NULL;
	while (proto_next(&in, &f)) {
		enum mno_ingest_reason why;

		if (f.no != 1 || f.type != PROTO_BYTES)
			continue;
		if (!read_label(&f, part))
			return MNO_INGEST_BAD_SYNTAX;
		why = ingest_label_add(&p->labels, part[0].p, part[0].len, part[1].p, part[1].len);
		if (why)
			return why;
	}
	return MNO_INGEST_TAKEN;
}

/* What tells the series apart in the input: the bytes of its labels. */
static bool collect_labels(struct rw *rw, const struct proto_field *series)
{
	struct proto in = proto_of(series);
	struct proto_field f;

	mno_buf_reset(&rw->labels);
	while (proto_next(&in, &f))
		if (f.no == 1 && f.type == PROTO_BYTES) {
			/* no byte of a text key is a control character: never taken for one */
			mno_buf_add(&rw->labels, (char[]){1}, 1);
			mno_buf_add(&rw->labels, &f.len, sizeof(f.len));
			mno_buf_add(&rw->labels, f.p, f.len);
		}
	return !in.bad && !rw->labels.err;
}

static uint32_t find_series(
	struct mno_ingest *p, const struct proto_field *series, enum mno_ingest_reason *ret_why)
{
	struct rw *rw = p->state;
	struct ingest_cache *c = &p->cache;
	uint32_t e;

	*ret_why = MNO_INGEST_BAD_SYNTAX;
	if (!collect_labels(rw, series))
		return INGEST_NONE;
	*ret_why = MNO_INGEST_BAD_NAME;
	if (!rw->labels.len)
		return INGEST_NONE;
	e = ingest_cache_find(c, rw->labels.data, rw->labels.len,
		ingest_hash(c, rw->labels.data, rw->labels.len));
	if (e != INGEST_NONE)
		return c->v[e].series;
	*ret_why = read_labels(p, series);
	if (*ret_why)
		return INGEST_NONE;
	return ingest_series_labels(p, rw->labels.data, rw->labels.len, ret_why);
}

/* --- native histograms ------------------------------------------------------------------------ */

static bool array_add(struct mno_ingest *p, struct array *a, const void *item, size_t size)
{
	if (a->n == ARRAY_MAX)
		return false;
	if (a->n == a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 64;
		void *v = reallocarray(a->v, cap, size);

		if (!v) {
			p->err = -ENOMEM;
			return false;
		}
		a->v = v;
		a->cap = cap;
	}
	memcpy((char *)a->v + a->n++ * size, item, size);
	return true;
}

static bool read_span(struct mno_ingest *p, struct array *a, const struct proto_field *span)
{
	struct mno_native_span s = {0};
	struct proto in = proto_of(span);
	struct proto_field f;

	while (proto_next(&in, &f)) {
		if (f.no == 1 && f.type == PROTO_VARINT)
			s.offset = (int32_t)proto_zigzag(f.u);
		else if (f.no == 2 && f.type == PROTO_VARINT)
			s.length = (uint32_t)f.u;
	}
	return !in.bad && array_add(p, a, &s, sizeof(s));
}

/* A repeated number, packed or not. */
static bool read_deltas(struct mno_ingest *p, struct array *a, const struct proto_field *f)
{
	struct proto in = proto_of(f);
	int64_t v;

	if (f->type == PROTO_VARINT) {
		v = proto_zigzag(f->u);
		return array_add(p, a, &v, sizeof(v));
	}
	while (f->type == PROTO_BYTES && in.p < in.end) {
		uint64_t u;

		if (!proto_varint(&in, &u))
			return false;
		v = proto_zigzag(u);
		if (!array_add(p, a, &v, sizeof(v)))
			return false;
	}
	return f->type == PROTO_BYTES;
}

static bool read_counts(struct mno_ingest *p, struct array *a, const struct proto_field *f)
{
	if (f->type == PROTO_FIXED64)
		return array_add(p, a, &f->d, sizeof(f->d));
	if (f->type != PROTO_BYTES || f->len % 8)
		return false;
	for (size_t i = 0; i < f->len; i += 8)
		if (!array_add(p, a, f->p + i, 8))
			return false;
	return true;
}

static bool read_buckets(
	struct mno_ingest *p, unsigned side, unsigned what, const struct proto_field *f)
{
	struct rw *rw = p->state;

	if (what == 0)
		return f->type == PROTO_BYTES && read_span(p, &rw->spans[side], f);
	return what == 1 ? read_deltas(p, &rw->deltas[side], f)
			 : read_counts(p, &rw->counts[side], f);
}

/* What is beyond all schemas stays so: nobody can store it. */
static int8_t schema_of(int64_t v)
{
	return v < INT8_MIN || v > INT8_MAX ? INT8_MAX : (int8_t)v;
}

static bool read_histogram_field(
	struct mno_ingest *p, const struct proto_field *f, struct mno_native_hist *h, int64_t *t_ms)
{
	static const uint8_t types[16] = {[1] = PROTO_VARINT + 1,
		[2] = PROTO_FIXED64 + 1,
		[3] = PROTO_FIXED64 + 1,
		[4] = PROTO_VARINT + 1,
		[5] = PROTO_FIXED64 + 1,
		[6] = PROTO_VARINT + 1,
		[7] = PROTO_FIXED64 + 1,
		[14] = PROTO_VARINT + 1,
		[15] = PROTO_VARINT + 1};

	if (f->no >= 8 && f->no <= 13)
		return read_buckets(p, f->no >= 11, (f->no - 8) % 3, f);
	if (f->no >= ARRAY_SIZE(types) || types[f->no] != f->type + 1)
		return f->no >= ARRAY_SIZE(types); /* fields of later versions are read over */
	switch (f->no) {
	case 1:
		h->count = f->u;
		break;
	case 2:
		h->count_float = f->d, h->is_float = true;
		break;
	case 3:
		h->sum = f->d;
		break;
	case 4:
		h->schema = schema_of(proto_zigzag(f->u));
		break;
	case 5:
		h->zero_threshold = f->d;
		break;
	case 6:
		h->zero_count = f->u;
		break;
	case 7:
		h->zero_count_float = f->d;
		break;
	case 14:
		h->reset = f->u > 3 ? 0 : (uint8_t)f->u;
		break;
	case 15:
		*t_ms = (int64_t)f->u;
		break;
	}
	return true;
}

static struct mno_native_buckets buckets_of(const struct rw *rw, unsigned side, bool is_float)
{
	const struct array *v = is_float ? &rw->counts[side] : &rw->deltas[side];

	return (struct mno_native_buckets){.n_spans = rw->spans[side].n,
		.spans = rw->spans[side].v,
		.n = v->n,
		.deltas = is_float ? NULL : v->v,
		.counts = is_float ? v->v : NULL};
}

/* Spans say how many buckets there are: as many must have come. */
static bool is_whole(const struct mno_native_buckets *b)
{
	uint64_t n = 0;

	for (size_t i = 0; i < b->n_spans; i++)
		n += b->spans[i].length;
	return n == b->n;
}

static enum mno_ingest_reason read_histogram(
	struct mno_ingest *p, uint32_t series, const struct proto_field *field)
{
	struct rw *rw = p->state;
	struct mno_native_hist h = {0};
	struct proto in = proto_of(field);
	enum mno_ingest_reason why;
	struct proto_field f;
	int64_t t = 0;
	int r;

	for (unsigned i = 0; i < 2; i++)
		rw->spans[i].n = rw->deltas[i].n = rw->counts[i].n = 0;
	while (proto_next(&in, &f))
		if (!read_histogram_field(p, &f, &h, &t))
			return MNO_INGEST_BAD_SYNTAX;
	h.negative = buckets_of(rw, 0, h.is_float);
	h.positive = buckets_of(rw, 1, h.is_float);
	if (in.bad || !is_whole(&h.negative) || !is_whole(&h.positive))
		return MNO_INGEST_BAD_SYNTAX;
	why = ingest_check_time(p, t);
	if (why || !p->sink.histogram)
		return why ? why : MNO_INGEST_HISTOGRAM;
	ingest_flush(p); /* in the order of the input */
	r = p->err ? 0 : p->sink.histogram(p->arg, series, t, &h);
	if (r == -EINVAL)
		return MNO_INGEST_HISTOGRAM;
	if (r < 0)
		p->err = r;
	p->st.histograms++;
	return MNO_INGEST_TAKEN;
}

/* --- series ------------------------------------------------------------------------------------- */

static enum mno_ingest_reason read_sample(
	struct mno_ingest *p, uint32_t series, const struct proto_field *field)
{
	struct proto in = proto_of(field);
	enum mno_ingest_reason why;
	struct proto_field f;
	double v = 0;
	int64_t t = 0;

	while (proto_next(&in, &f)) {
		if (f.no == 1 && f.type == PROTO_FIXED64)
			v = f.d;
		else if (f.no == 2 && f.type == PROTO_VARINT)
			t = (int64_t)f.u;
	}
	if (in.bad)
		return MNO_INGEST_BAD_SYNTAX;
	why = t > INGEST_T_MAX || t < -INGEST_T_MAX ? MNO_INGEST_BAD_TIME : ingest_check_time(p, t);
	if (!why)
		ingest_emit(p, series, t, v);
	return why;
}

/* What one refused label costs: all samples of its series. */
static void refuse_series(
	struct mno_ingest *p, enum mno_ingest_reason why, const struct proto_field *series)
{
	struct proto in = proto_of(series);
	struct proto_field f;
	uint64_t n = 0;

	while (proto_next(&in, &f))
		n += (f.no == 2 || f.no == 4) && f.type == PROTO_BYTES;
	ingest_refuse(p, why, n ? n : 1, series->p, series->p + series->len);
}

static void read_series(struct mno_ingest *p, const struct proto_field *field)
{
	struct proto in = proto_of(field);
	enum mno_ingest_reason why;
	uint32_t series = find_series(p, field, &why);
	struct proto_field f;

	if (series == INGEST_NONE) {
		if (!p->err)
			refuse_series(p, why, field);
		return;
	}
	while (!p->err && proto_next(&in, &f)) {
		if (f.type != PROTO_BYTES)
			continue;
		p->st.exemplars += f.no == 3;
		why = f.no == 2   ? read_sample(p, series, &f)
		      : f.no == 4 ? read_histogram(p, series, &f)
				  : MNO_INGEST_TAKEN;
		if (why)
			ingest_refuse(p, why, 1, f.p, f.p + f.len);
	}
}

/* All of a message is read, or none of it. */
static bool is_sound(const char *s, size_t n)
{
	struct proto in = {s, s + n, false};
	struct proto_field f;
	unsigned fields = 0;

	while (proto_next(&in, &f)) {
		if ((f.no == 1 || f.no == 3) && f.type != PROTO_BYTES)
			return false;
		fields++;
	}
	return !in.bad && (fields || !n);
}

static void read_request(struct mno_ingest *p, const char *s, size_t n)
{
	struct proto in = {s, s + n, false};
	struct proto_field f;

	while (!p->err && proto_next(&in, &f)) {
		if (f.no == 1 && f.type == PROTO_BYTES)
			read_series(p, &f);
		p->st.metadata += f.no == 3;
	}
}

/* --- snappy and the frame ----------------------------------------------------------------------- */

/* Uncompresses a message into rw->raw. 0, -EBADMSG, -E2BIG, -ENOMEM. */
static int unpack(struct rw *rw, const char *s, size_t n, size_t *ret_len)
{
	size_t len;

	if (!n || snappy_uncompressed_length(s, n, &len) != SNAPPY_OK)
		return -EBADMSG;
	if (len > RAW_MAX)
		return -E2BIG;
	if (snappy_validate_compressed_buffer(s, n) != SNAPPY_OK)
		return -EBADMSG; /* before any memory is taken for it */
	if (len > rw->raw_cap || !rw->raw) {
		free(rw->raw);
		rw->raw_cap = 0;
		rw->raw = malloc(len ? len : 1);
		if (!rw->raw)
			return -ENOMEM;
		rw->raw_cap = len;
	}
	if (snappy_uncompress(s, n, rw->raw, &len) != SNAPPY_OK || !is_sound(rw->raw, len))
		return -EBADMSG;
	*ret_len = len;
	return 0;
}

/* One message; false when it is none. */
static bool take_message(struct mno_ingest *p, const char *s, size_t n, bool refuse)
{
	struct rw *rw = p->state;
	size_t len;
	int r = unpack(rw, s, n, &len);

	if (r == -ENOMEM) {
		p->err = r;
		return true;
	}
	if (r < 0 && !refuse)
		return false;
	p->st.lines++;
	if (r < 0)
		ingest_refuse(
			p, r == -E2BIG ? MNO_INGEST_TOO_LONG : MNO_INGEST_BAD_SYNTAX, 1, s, s + n);
	else
		read_request(p, rw->raw, len);
	return r == 0;
}

/*
 * The next message behind its length at *@s. false: not all of it is there yet, or the first one
 * shows that there are no lengths.
 */
static bool take_framed(struct mno_ingest *p, const char **s, const char *end)
{
	struct rw *rw = p->state;
	struct proto in = {*s, end, false};
	uint64_t n;

	if (!proto_varint(&in, &n)) {
		if (end - *s < 10)
			return false;
		n = UINT64_MAX;
	}
	if (n > MESSAGE_MAX) {
		if (!rw->framed) {
			rw->single = true;
			return false;
		}
		p->st.lines++; /* where the next one begins cannot be known */
		ingest_refuse(p, MNO_INGEST_TOO_LONG, 1, *s, in.p);
		p->skipping = true;
		return false;
	}
	if ((uint64_t)(end - in.p) < n)
		return false;
	if (!take_message(p, in.p, n, rw->framed) && !rw->framed) {
		rw->single = true;
		return false;
	}
	rw->framed = true;
	*s = in.p + n;
	return true;
}

/* Takes the messages that are complete out of what came. */
static void take_all(struct mno_ingest *p)
{
	const char *at = p->carry.data, *end = at + p->carry.len;

	while (!p->err && at < end && !p->skipping && take_framed(p, &at, end))
		;
	if (p->skipping)
		at = end;
	if (at == p->carry.data)
		return;
	p->carry.len = (size_t)(end - at);
	memmove(p->carry.data, at, p->carry.len);
}

/* Too much, or not good enough, for a single message: then the lengths count, come what may. */
static void not_single(struct mno_ingest *p)
{
	struct rw *rw = p->state;

	rw->single = false;
	rw->framed = true;
	take_all(p);
}

static void feed(struct mno_ingest *p, const char *s, size_t n)
{
	struct rw *rw = p->state;

	while (n && !p->skipping && !p->err) {
		size_t part = MNO_MIN(n, (size_t)SLICE);

		mno_buf_add(&p->carry, s, part);
		if (p->carry.err)
			p->err = -ENOMEM;
		else if (!rw->single)
			take_all(p);
		if (!p->err && !rw->framed && p->carry.len > MESSAGE_MAX)
			not_single(p);
		s += part;
		n -= part;
	}
}

static void end(struct mno_ingest *p)
{
	struct rw *rw = p->state;

	if (!p->carry.len || p->skipping)
		return;
	if (!rw->framed && take_message(p, p->carry.data, p->carry.len, false))
		mno_buf_reset(&p->carry);
	else if (!rw->framed)
		not_single(p);
	if (p->carry.len && !p->skipping && !p->err) {
		p->st.lines++;
		ingest_refuse(p, MNO_INGEST_CUT, 1, p->carry.data, p->carry.data + p->carry.len);
	}
	mno_buf_reset(&p->carry);
}

static void done(struct mno_ingest *p)
{
	struct rw *rw = p->state;

	free(rw->raw);
	mno_buf_done(&rw->labels);
	for (unsigned i = 0; i < 2; i++) {
		free(rw->spans[i].v);
		free(rw->deltas[i].v);
		free(rw->counts[i].v);
	}
}

/* Text has no control characters; the name label of a series is in the first bytes. */
static unsigned looks(const char *s, size_t n)
{
	size_t odd = 0, m = MNO_MIN(n, (size_t)256);

	for (size_t i = 0; i < m; i++)
		odd += (unsigned char)s[i] < 9 || (s[i] > 13 && s[i] < 32 && s[i] != 27);
	if (odd < 2)
		return 0;
	return memmem(s, m, "__name__", 8) ? 95 : 40;
}

const struct ingest_ops ingest_remote_write = {
	.state_size = sizeof(struct rw), .feed = feed, .end = end, .done = done, .looks = looks};
