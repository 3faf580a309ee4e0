/* SPDX-License-Identifier: Apache-2.0 */
/* Variable-length integers in buffers, and a bounded reader with a sticky error. */
#pragma once

#include "mno/buf.h"

#define MNO_VARINT_MAX 10

static inline uint64_t mno_zigzag(int64_t v)
{
	return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}
static inline int64_t mno_unzigzag(uint64_t v)
{
	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}
static inline uint8_t *mno_varint_write(uint8_t *p, uint64_t v)
{
	while (v >= 0x80) {
		*p++ = (uint8_t)v | 0x80;
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}
static inline void mno_varint_add(struct mno_buf *b, uint64_t v)
{
	char *p = mno_buf_reserve(b, MNO_VARINT_MAX);

	if (p)
		mno_buf_commit(b, (size_t)((char *)mno_varint_write((uint8_t *)p, v) - p));
}

/* Reads within [p, end); @bad sticks and later reads give zeros. */
struct mno_reader {
	const uint8_t *p, *end;
	bool bad;
};
static inline size_t mno_reader_left(const struct mno_reader *r)
{
	return (size_t)(r->end - r->p);
}
static inline uint64_t mno_read_varint(struct mno_reader *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
		uint8_t c = *r->p++;

		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return v;
	}
	r->bad = true;
	r->p = r->end;
	return 0;
}
/* Borrowed bytes, or NULL and bad. */
static inline const uint8_t *mno_read_bytes(struct mno_reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (mno_reader_left(r) < n) {
		r->bad = true;
		r->p = r->end;
		return NULL;
	}
	r->p += n;
	return p;
}
static inline uint8_t mno_read_u8(struct mno_reader *r)
{
	const uint8_t *p = mno_read_bytes(r, 1);

	return p ? *p : 0;
}
static inline uint64_t mno_read_u64(struct mno_reader *r)
{
	const uint8_t *p = mno_read_bytes(r, 8);
	uint64_t v = 0;

	if (p)
		memcpy(&v, p, 8);
	return v;
}
