/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streaming JSON writer into a mno_buf: no tree, commas by itself, at most 32 levels.
 * Errors stick in buf->err. Invalid UTF-8 becomes U+FFFD, so the output is always valid JSON.
 * Numbers: NaN and infinities become null. Not thread-safe.
 */
#pragma once

#include "mno/buf.h"

struct mno_json {
	struct mno_buf *out;
	uint32_t first; /* bit per level: nothing written there yet */
	uint8_t depth;
	bool after_key;
};

/* Begins one document at the end of @out, which must outlive the writer. */
void mno_json_init(struct mno_json *j, struct mno_buf *out);
void mno_json_obj(struct mno_json *j);
void mno_json_end(struct mno_json *j); /* closes an object */
void mno_json_arr(struct mno_json *j);
void mno_json_end_arr(struct mno_json *j);
void mno_json_key(struct mno_json *j, const char *key);
void mno_json_str(struct mno_json *j, const char *s); /* NULL writes null */
void mno_json_strn(struct mno_json *j, const char *s, size_t n);
void mno_json_u64(struct mno_json *j, uint64_t v);
void mno_json_i64(struct mno_json *j, int64_t v);
void mno_json_f64(struct mno_json *j, double v); /* shortest text that reads back the same */
void mno_json_bool(struct mno_json *j, bool v);
void mno_json_null(struct mno_json *j);
/* Text that is JSON already, taken as it is. */
void mno_json_raw(struct mno_json *j, const char *text, size_t n);

/* key and value in one call */
void mno_json_kstr(struct mno_json *j, const char *key, const char *s);
void mno_json_ku64(struct mno_json *j, const char *key, uint64_t v);
void mno_json_ki64(struct mno_json *j, const char *key, int64_t v);
void mno_json_kf64(struct mno_json *j, const char *key, double v);
void mno_json_kbool(struct mno_json *j, const char *key, bool v);

/*
 * Writes @v as Prometheus prints a float64 ("1", "0.5", "+Inf", "NaN", "1e+21"): the
 * shortest digits that read back the same, an exponent below 1e-6 and from 1e21 on.
 * @buf of 40 bytes suffices. Returns the length. Pure.
 */
size_t mno_f64_format(double v, char *buf);
