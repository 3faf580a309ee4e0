/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event contract: one descriptor per record kind, one fields[] table in it, from which the
 * size checks, JSON, field names and the reference page are derived. All functions are pure
 * and thread-safe unless they take a writer.
 */
#pragma once

#include "mno/buf.h"
#include "mno/json.h"
#include "mno_wire.h"

enum mno_field_type {
	MNO_F_U8,
	MNO_F_U16,
	MNO_F_U32,
	MNO_F_U64,
	MNO_F_S32,
	MNO_F_S64,
	MNO_F_BOOL,     /* u8, 0 or 1 */
	MNO_F_CHARS,    /* char[size], NUL-padded, any bytes */
	MNO_F_TIME,     /* u64 CLOCK_BOOTTIME ns, shown as Unix ns */
	MNO_F_CGROUP,   /* u64 cgroup id, shown as a path when known */
	MNO_F_IP,       /* u8[16], IPv4 mapped; shown as text */
	MNO_F_VAR_STR,  /* struct mno_var: one string */
	MNO_F_VAR_ARGV, /* struct mno_var: strings separated by NUL */
	MNO_F_VAR_PATH, /* struct mno_var: path components from the leaf up, NUL-separated */
	MNO_F_ENUM_U32, /* u32 shown through .names */
};

struct mno_field {
	const char *name;
	const char *help; /* with the unit, for the reference page */
	uint16_t type;
	uint16_t off, size;       /* from the start of the record */
	const char *const *names; /* MNO_F_ENUM_U32: texts by value */
	uint16_t n_names;
};

/* FIELD(struct type, member, MNO_F_..., "help") */
#define MNO_FIELD(st, member, ftype, text)                                                         \
	{                                                                                          \
		.name = #member, .help = text, .type = ftype, .off = offsetof(st, member),         \
		.size = sizeof(((st *)0)->member),                                                 \
	}
/* The same under another name, e.g. for a member of a nested struct. */
#define MNO_FIELD_AS(st, member, text_name, ftype, text)                                           \
	{                                                                                          \
		.name = text_name, .help = text, .type = ftype, .off = offsetof(st, member),       \
		.size = sizeof(((st *)0)->member),                                                 \
	}
#define MNO_FIELD_ENUM(st, member, texts, text)                                                    \
	{                                                                                          \
		.name = #member, .help = text, .type = MNO_F_ENUM_U32,                             \
		.off = offsetof(st, member), .size = sizeof(((st *)0)->member), .names = texts,    \
		.n_names = ARRAY_SIZE(texts),                                                      \
	}

struct mno_kind {
	uint16_t kind;
	uint16_t version;
	uint32_t size; /* of the fixed part, header included; a record may be longer */
	const char *name, *help;
	const struct mno_field *fields;
	size_t n_fields;
};

/* All kinds of the process, e.g. the union of the probes' tables. Borrowed, static data. */
struct mno_kinds {
	const struct mno_kind *const *v;
	size_t n;
};

/* The kind with this number or name, NULL if there is none; lives as long as @k. */
const struct mno_kind *mno_kind_find(const struct mno_kinds *k, uint16_t kind);
const struct mno_kind *mno_kind_by_name(const struct mno_kinds *k, const char *name);

/*
 * Checks bytes that claim to be a record: header complete, size matches @len, kind known,
 * version ours, fixed part present, every mno_var inside the tail.
 * 0 and *@ret_kind, or -MNO_ETRUNCATED, -MNO_EUNKNOWN_KIND, -MNO_EVERSION, -MNO_ECORRUPT.
 * Never reads past @len; @p needs 8-byte alignment.
 */
int mno_event_check(
	const struct mno_kinds *k, const void *p, size_t len, const struct mno_kind **ret_kind);

/* What JSON output needs from outside the record; each member may be zero. */
struct mno_event_ctx {
	int64_t boot_offset_ns; /* added to boottime stamps */
	/* Path of a cgroup id into @buf; NULL when unknown. */
	const char *(*cgroup_path)(void *arg, uint64_t id, char *buf, size_t size);
	void *arg;
};

/* One checked record as a JSON object {kind, time_ns, seq, cpu, <fields>}. Total. */
void mno_event_json(const struct mno_kind *kd, const void *rec, const struct mno_event_ctx *ctx,
	struct mno_json *j);

/* Bytes of a var field of a checked record (borrowed from @rec). */
const char *mno_event_var(const void *rec, const struct mno_var *v, size_t *ret_len, bool *ret_cut);

/* Joins leaf-up NUL-separated components into "/a/b/c" in @buf; "" if empty. Returns length. */
size_t mno_event_path(const char *parts, size_t len, char *buf, size_t size);

/* Writes the reference page (Markdown) of all kinds. */
void mno_kinds_reference(const struct mno_kinds *k, struct mno_buf *out);
