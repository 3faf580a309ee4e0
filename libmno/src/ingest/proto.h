/* SPDX-License-Identifier: Apache-2.0 */
/* Reader of protobuf's wire format: fields of one message, one after the other. Bounded, pure. */
#pragma once

#include <stdint.h>
#include <string.h>
#include "mno/macro.h"

enum proto_type { PROTO_VARINT, PROTO_FIXED64, PROTO_BYTES, PROTO_FIXED32 = 5 };

struct proto {
	const char *p, *end;
	bool bad; /* what is left cannot be read */
};
struct proto_field {
	uint32_t no;
	enum proto_type type;
	uint64_t u; /* varint, or the bits of a fixed one */
	double d;   /* fixed 64 */
	const char *p;
	size_t len; /* of bytes */
};

static inline struct proto proto_of(const struct proto_field *f)
{
	const char *p = f->p ? f->p : ""; /* a number has no bytes */

	return (struct proto){p, p + (f->p ? f->len : 0), false};
}

/* Signed numbers as sint32 and sint64 have them. */
static inline int64_t proto_zigzag(uint64_t u)
{
	return (int64_t)(u >> 1) ^ -(int64_t)(u & 1);
}

/* false: cut, or longer than 10 bytes. */
static inline bool proto_varint(struct proto *in, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 70 && in->p < in->end; shift += 7) {
		uint8_t c = (uint8_t)*in->p++;

		v |= shift < 64 ? (uint64_t)(c & 0x7f) << shift : 0;
		if (!(c & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

static inline bool proto_take(struct proto *in, size_t n, const char **ret)
{
	if ((size_t)(in->end - in->p) < n)
		return false;
	*ret = in->p;
	in->p += n;
	return true;
}

/* The next field; false at the end, or when it cannot be read (then .bad). */
static inline bool proto_next(struct proto *in, struct proto_field *ret)
{
	struct proto_field f = {0};
	uint64_t tag, n;
	bool ok;

	if (in->p == in->end || in->bad)
		return false;
	ok = proto_varint(in, &tag) && tag >> 3 > 0 && tag >> 3 < 1u << 29;
	f.no = ok ? (uint32_t)(tag >> 3) : 0;
	f.type = ok ? (enum proto_type)(tag & 7) : PROTO_VARINT;
	if (ok && f.type == PROTO_VARINT) {
		ok = proto_varint(in, &f.u);
	} else if (ok && f.type == PROTO_BYTES) {
		ok = proto_varint(in, &n) && n <= (uint64_t)(in->end - in->p) &&
		     proto_take(in, (size_t)n, &f.p);
		f.len = ok ? (size_t)n : 0;
	} else if (ok && (f.type == PROTO_FIXED64 || f.type == PROTO_FIXED32)) {
		f.len = f.type == PROTO_FIXED64 ? 8 : 4;
		ok = proto_take(in, f.len, &f.p);
		if (ok)
			memcpy(&f.u, f.p, f.len);
		memcpy(&f.d, &f.u, sizeof(f.d));
	} else {
		ok = false; /* groups are long gone */
	}
	in->bad = !ok;
	if (ok)
		*ret = f;
	return ok;
}
