/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "mno/err.h"
#include "mno/event.h"

const struct mno_kind *mno_kind_find(const struct mno_kinds *k, uint16_t kind)
{
	for (size_t i = 0; i < k->n; i++)
		if (k->v[i]->kind == kind)
			return k->v[i];
	return NULL;
}

const struct mno_kind *mno_kind_by_name(const struct mno_kinds *k, const char *name)
{
	for (size_t i = 0; i < k->n; i++)
		if (!strcmp(k->v[i]->name, name))
			return k->v[i];
	return NULL;
}

static bool is_var(uint16_t type)
{
	return type == MNO_F_VAR_STR || type == MNO_F_VAR_ARGV || type == MNO_F_VAR_PATH;
}

int mno_event_check(
	const struct mno_kinds *k, const void *p, size_t len, const struct mno_kind **ret_kind)
{
	const struct mno_hdr *h = p;
	const struct mno_kind *kd;

	if (len < sizeof(*h) || h->size < sizeof(*h) || h->size > len)
		return -MNO_ETRUNCATED;
	kd = mno_kind_find(k, h->kind);
	if (!kd)
		return -MNO_EUNKNOWN_KIND;
	if (h->version != kd->version)
		return -MNO_EVERSION;
	if (h->size < kd->size)
		return -MNO_ETRUNCATED;
	for (size_t i = 0; i < kd->n_fields; i++) {
		const struct mno_field *f = &kd->fields[i];
		const struct mno_var *v = (const void *)((const char *)p + f->off);

		if (is_var(f->type) && v->len &&
			(v->off < kd->size || (uint32_t)v->off + v->len > h->size))
			return -MNO_ECORRUPT;
	}
	*ret_kind = kd;
	return 0;
}

const char *mno_event_var(const void *rec, const struct mno_var *v, size_t *ret_len, bool *ret_cut)
{
	*ret_len = v->len;
	if (ret_cut)
		*ret_cut = v->flags & MNO_VAR_CUT;
	return v->len ? (const char *)rec + v->off : "";
}

size_t mno_event_path(const char *parts, size_t len, char *buf, size_t size)
{
	const char *end = parts + len;
	size_t o = 0;

	if (!size)
		return 0;
	/* from the last component (the one nearest to the root) to the first */
	while (end > parts && end[-1] == '\0')
		end--;
	while (end > parts) {
		const char *start = end;
		size_t n;

		while (start > parts && start[-1] != '\0')
			start--;
		n = (size_t)(end - start);
		if (o + n + 2 > size)
			break;
		if (*start != '/')
			buf[o++] = '/';
		memcpy(buf + o, start, n);
		o += n;
		end = start > parts ? start - 1 : parts;
	}
	buf[o] = '\0';
	return o;
}

static uint64_t load_uint(const void *p, uint16_t size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const uint16_t *)p;
	case 4:
		return *(const uint32_t *)p;
	default:
		return *(const uint64_t *)p;
	}
}

static void json_argv(struct mno_json *j, const char *s, size_t n)
{
	mno_json_arr(j);
	while (n) {
		size_t len = strnlen(s, n);

		mno_json_strn(j, s, len);
		if (len == n)
			break;
		s += len + 1;
		n -= len + 1;
	}
	mno_json_end_arr(j);
}

static void json_var(const struct mno_field *f, const void *rec, struct mno_json *j)
{
	const struct mno_var *v = (const void *)((const char *)rec + f->off);
	char path[4096], key[64];
	bool cut;
	size_t n;
	const char *s = mno_event_var(rec, v, &n, &cut);

	if (f->type == MNO_F_VAR_ARGV)
		json_argv(j, s, n);
	else if (f->type == MNO_F_VAR_PATH)
		mno_json_strn(j, path, mno_event_path(s, n, path, sizeof(path)));
	else
		mno_json_strn(j, s, strnlen(s, n));
	if (cut) {
		snprintf(key, sizeof(key), "%s_cut", f->name);
		mno_json_kbool(j, key, true);
	}
}

static void json_ip(const uint8_t *a, struct mno_json *j)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	char text[INET6_ADDRSTRLEN];

	if (!memcmp(a, mapped, sizeof(mapped)))
		inet_ntop(AF_INET, a + 12, text, sizeof(text));
	else
		inet_ntop(AF_INET6, a, text, sizeof(text));
	mno_json_str(j, text);
}

static void json_cgroup(uint64_t id, const struct mno_event_ctx *ctx, struct mno_json *j)
{
	char path[1024];
	const char *p =
		ctx->cgroup_path ? ctx->cgroup_path(ctx->arg, id, path, sizeof(path)) : NULL;

	if (p)
		mno_json_str(j, p);
	else
		mno_json_u64(j, id);
}

static void json_enum(const struct mno_field *f, uint64_t v, struct mno_json *j)
{
	if (v < f->n_names && f->names[v])
		mno_json_str(j, f->names[v]);
	else
		mno_json_u64(j, v);
}

static void json_field(const struct mno_field *f, const void *rec, const struct mno_event_ctx *ctx,
	struct mno_json *j)
{
	const void *p = (const char *)rec + f->off;

	mno_json_key(j, f->name);
	switch ((enum mno_field_type)f->type) {
	case MNO_F_U8:
	case MNO_F_U16:
	case MNO_F_U32:
	case MNO_F_U64:
		mno_json_u64(j, load_uint(p, f->size));
		break;
	case MNO_F_S32:
		mno_json_i64(j, *(const int32_t *)p);
		break;
	case MNO_F_S64:
		mno_json_i64(j, *(const int64_t *)p);
		break;
	case MNO_F_BOOL:
		mno_json_bool(j, load_uint(p, f->size));
		break;
	case MNO_F_CHARS:
		mno_json_strn(j, p, strnlen(p, f->size));
		break;
	case MNO_F_TIME:
		mno_json_i64(j, *(const int64_t *)p + ctx->boot_offset_ns);
		break;
	case MNO_F_CGROUP:
		json_cgroup(*(const uint64_t *)p, ctx, j);
		break;
	case MNO_F_IP:
		json_ip(p, j);
		break;
	case MNO_F_ENUM_U32:
		json_enum(f, load_uint(p, f->size), j);
		break;
	case MNO_F_VAR_STR:
	case MNO_F_VAR_ARGV:
	case MNO_F_VAR_PATH:
		json_var(f, rec, j);
		break;
	}
}

void mno_event_json(const struct mno_kind *kd, const void *rec, const struct mno_event_ctx *ctx,
	struct mno_json *j)
{
	const struct mno_hdr *h = rec;

	mno_json_obj(j);
	mno_json_kstr(j, "kind", kd->name);
	mno_json_ki64(j, "time_ns", (int64_t)h->ktime + ctx->boot_offset_ns);
	mno_json_ku64(j, "cpu", h->cpu);
	mno_json_ku64(j, "seq", h->seq);
	for (size_t i = 0; i < kd->n_fields; i++)
		json_field(&kd->fields[i], rec, ctx, j);
	mno_json_end(j);
}

void mno_kinds_reference(const struct mno_kinds *k, struct mno_buf *out)
{
	for (size_t i = 0; i < k->n; i++) {
		const struct mno_kind *kd = k->v[i];

		mno_buf_addf(out, "## %s (kind 0x%04x, version %u, %u bytes)\n\n%s\n\n", kd->name,
			kd->kind, kd->version, kd->size, kd->help);
		mno_buf_adds(out, "| field | offset | bytes | meaning |\n|---|---|---|---|\n");
		for (size_t f = 0; f < kd->n_fields; f++)
			mno_buf_addf(out, "| %s | %u | %u | %s |\n", kd->fields[f].name,
				kd->fields[f].off, kd->fields[f].size, kd->fields[f].help);
		mno_buf_addc(out, '\n');
	}
}
