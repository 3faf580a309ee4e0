/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.json: one JSON object on one line, whose last members are "blake2b", the hash of all
 * bytes before it, and "signature" over the same bytes. It is input from outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "backup_internal.h"
#include "mno/err.h"
#include "mno/json.h"
#include "mno/log.h"

#define HASH_TEXT ",\"blake2b\":\""
#define SIGN_TEXT "\",\"signature\":\""
#define END_TEXT  "\"}\n"

void manifest_done(struct manifest *m)
{
	free(m->files);
	free(m->left_out);
	*m = (struct manifest){0};
}

int manifest_add(struct manifest *m, const struct backup_file *f)
{
	if (m->n >= FILES_MAX)
		return -MNO_ELIMIT;
	if (m->n == m->cap) {
		size_t cap = m->cap * 2 + 32;
		struct backup_file *p = reallocarray(m->files, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		m->files = p;
		m->cap = cap;
	}
	m->files[m->n++] = *f;
	return 0;
}

const struct backup_file *manifest_find(const struct manifest *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (!strcmp(m->files[i].path, path))
			return &m->files[i];
	return NULL;
}

/* --- hexadecimal ----------------------------------------------------------------------------- */

static void put_hex(struct mno_buf *b, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mno_buf_addf(b, "%02x", p[i]);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool get_hex(const char *s, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int a = digit(s[2 * i]), b = a < 0 ? -1 : digit(s[2 * i + 1]);

		if (b < 0)
			return false;
		p[i] = (uint8_t)(a << 4 | b);
	}
	return true;
}

/* --- writing --------------------------------------------------------------------------------- */

static void put_file(struct mno_json *j, const struct backup_file *f)
{
	char hash[2 * MNO_DIGEST_BYTES + 1];

	for (size_t i = 0; i < MNO_DIGEST_BYTES; i++)
		snprintf(hash + 2 * i, 3, "%02x", f->hash[i]);
	mno_json_obj(j);
	mno_json_kstr(j, "path", f->path);
	mno_json_kstr(j, "env_id", f->env_id);
	mno_json_ku64(j, "size", f->size);
	mno_json_kstr(j, "blake2b", hash);
	mno_json_ku64(j, "txn", f->txn);
	mno_json_ku64(j, "dev", f->dev);
	mno_json_ku64(j, "ino", f->ino);
	mno_json_ki64(j, "ctime_ns", f->ctime_ns);
	mno_json_kbool(j, "linked", f->linked);
	mno_json_end(j);
}

static void put_body(const struct manifest *m, struct mno_buf *out, const char *pub)
{
	struct mno_json j;

	mno_json_init(&j, out);
	mno_json_obj(&j);
	mno_json_ku64(&j, "format", MANIFEST_FORMAT);
	mno_json_kstr(&j, "version", m->version);
	mno_json_kstr(&j, "store", m->store);
	mno_json_ki64(&j, "time_ms", m->time_ms);
	mno_json_ku64(&j, "took_ns", m->took_ns);
	mno_json_kstr(&j, "previous", m->previous);
	mno_json_kstr(&j, "kek_id", m->kek_id);
	mno_json_kstr(&j, "public_key", pub);
	mno_json_key(&j, "left_out");
	mno_json_arr(&j);
	for (size_t i = 0; i < m->n_left_out; i++)
		mno_json_str(&j, m->left_out[i]);
	mno_json_end_arr(&j);
	mno_json_key(&j, "files");
	mno_json_arr(&j);
	for (size_t i = 0; i < m->n; i++)
		put_file(&j, &m->files[i]);
	mno_json_end_arr(&j);
	mno_json_end(&j);
	if (!out->err)
		out->len--; /* the closing brace comes after hash and signature */
}

int manifest_write(struct manifest *m, const struct mno_keys *keys, struct mno_buf *out)
{
	_cleanup_buf_ struct mno_buf pub = {0};
	uint8_t hash[MNO_DIGEST_BYTES], sig[MNO_SIGN_BYTES] = {0};
	size_t body;
	int r = keys ? mno_sign_public(keys, m->pub) : 0;

	if (r < 0)
		return r;
	if (keys)
		put_hex(&pub, m->pub, sizeof(m->pub));
	put_body(m, out, mno_buf_cstr(&pub));
	if (out->err)
		return out->err;
	body = out->len;
	mno_digest_of(out->data, body, hash);
	if (keys)
		r = mno_sign(keys, out->data, body, sig);
	mno_buf_adds(out, HASH_TEXT);
	put_hex(out, hash, sizeof(hash));
	mno_buf_adds(out, SIGN_TEXT);
	if (keys)
		put_hex(out, sig, sizeof(sig));
	mno_buf_adds(out, END_TEXT);
	return r ?: out->err;
}

/* --- reading --------------------------------------------------------------------------------- */

/* The two last members, from the end. Length of what is before them, 0: not of this form. */
static size_t split(const char *p, size_t n, struct manifest *m, uint8_t hash[MNO_DIGEST_BYTES])
{
	size_t end = strlen(END_TEXT), sign = strlen(SIGN_TEXT), head = strlen(HASH_TEXT), fixed;

	for (unsigned with = 0; with < 2; with++) {
		size_t sig = with ? 2 * MNO_SIGN_BYTES : 0;

		fixed = head + 2 * MNO_DIGEST_BYTES + sign + sig + end;
		if (n <= fixed || memcmp(p + n - end, END_TEXT, end) ||
			memcmp(p + n - fixed, HASH_TEXT, head) ||
			memcmp(p + n - end - sig - sign, SIGN_TEXT, sign) ||
			!get_hex(p + n - fixed + head, hash, MNO_DIGEST_BYTES) ||
			!get_hex(p + n - end - sig, m->sig, sig / 2))
			continue;
		m->is_signed = with;
		return n - fixed;
	}
	return 0;
}

static struct json_object *member(struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, type) ? v : NULL;
}

/* Text of at most @size - 1 bytes of [a-zA-Z0-9._-], "" included. */
static bool get_text(struct json_object *o, const char *key, char *ret, size_t size)
{
	struct json_object *v = member(o, key, json_type_string);
	const char *s = v ? json_object_get_string(v) : NULL;
	static const char ok[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";

	if (!s || strlen(s) >= size || strspn(s, ok) != strlen(s) ||
		strlen(s) != (size_t)json_object_get_string_len(v))
		return false;
	strcpy(ret, s);
	return true;
}

static bool get_u64(struct json_object *o, const char *key, uint64_t *ret)
{
	struct json_object *v = member(o, key, json_type_int);

	if (!v || (json_object_get_int64(v) < 0))
		return false;
	*ret = json_object_get_uint64(v);
	return true;
}

/* "folder/file", neither hidden: nothing outside of the backup can be named. */
static bool path_ok(const char *s)
{
	const char *slash = strchr(s, '/');

	return slash && slash > s && *s != '.' && slash[1] && slash[1] != '.' &&
	       !strchr(slash + 1, '/') && strncmp(s, "keys/kek", 8) != 0;
}

static bool get_file(struct json_object *o, struct backup_file *f)
{
	char hash[2 * MNO_DIGEST_BYTES + 1];
	struct json_object *linked = member(o, "linked", json_type_boolean);
	uint64_t ctime_ns;

	if (!get_text(o, "path", f->path, sizeof(f->path)) || !path_ok(f->path) ||
		!get_text(o, "env_id", f->env_id, sizeof(f->env_id)) ||
		!get_u64(o, "size", &f->size) || !get_text(o, "blake2b", hash, sizeof(hash)) ||
		strlen(hash) != sizeof(hash) - 1 || !get_hex(hash, f->hash, sizeof(f->hash)) ||
		!get_u64(o, "txn", &f->txn) || !get_u64(o, "dev", &f->dev) ||
		!get_u64(o, "ino", &f->ino) || !get_u64(o, "ctime_ns", &ctime_ns) || !linked)
		return false;
	f->ctime_ns = (int64_t)ctime_ns;
	f->linked = json_object_get_boolean(linked);
	return true;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct backup_file *)a)->path, ((const struct backup_file *)b)->path);
}

static int get_files(struct json_object *o, struct manifest *m)
{
	struct json_object *v = member(o, "files", json_type_array);
	int r = v ? 0 : -MNO_ECORRUPT;

	for (size_t i = 0; r == 0 && i < json_object_array_length(v); i++) {
		struct backup_file f = {0};

		r = get_file(json_object_array_get_idx(v, i), &f) ? manifest_add(m, &f)
								  : -MNO_ECORRUPT;
	}
	if (r == 0 && m->n)
		qsort(m->files, m->n, sizeof(*m->files), by_path);
	for (size_t i = 1; r == 0 && i < m->n; i++)
		if (!by_path(&m->files[i - 1], &m->files[i]))
			r = -MNO_ECORRUPT;
	return r;
}

static int get_left_out(struct json_object *o, struct manifest *m)
{
	struct json_object *v = member(o, "left_out", json_type_array);
	size_t n = v ? json_object_array_length(v) : 0;

	if (!v || n > FILES_MAX)
		return -MNO_ECORRUPT;
	m->left_out = n ? calloc(n, sizeof(*m->left_out)) : NULL;
	for (; n && m->left_out && m->n_left_out < n; m->n_left_out++) {
		const char *s = json_object_get_string(json_object_array_get_idx(v, m->n_left_out));

		snprintf(m->left_out[m->n_left_out], sizeof(*m->left_out), "%s", s ?: "");
	}
	return n && !m->left_out ? -ENOMEM : 0;
}

static int get_all(struct json_object *o, struct manifest *m)
{
	char pub[2 * MNO_PUBLIC_BYTES + 1];
	uint64_t format, time_ms;
	int r;

	if (!get_u64(o, "format", &format))
		return -MNO_ECORRUPT;
	if (format != MANIFEST_FORMAT)
		return -MNO_EVERSION;
	if (!get_text(o, "version", m->version, sizeof(m->version)) ||
		!get_text(o, "store", m->store, sizeof(m->store)) ||
		!get_u64(o, "time_ms", &time_ms) || !get_u64(o, "took_ns", &m->took_ns) ||
		!get_text(o, "previous", m->previous, sizeof(m->previous)) ||
		!get_text(o, "kek_id", m->kek_id, sizeof(m->kek_id)) ||
		!get_text(o, "public_key", pub, sizeof(pub)))
		return -MNO_ECORRUPT;
	m->time_ms = (int64_t)time_ms;
	if (m->is_signed &&
		(strlen(pub) != sizeof(pub) - 1 || !get_hex(pub, m->pub, sizeof(m->pub))))
		return -MNO_ECORRUPT;
	r = get_left_out(o, m);
	return r ?: get_files(o, m);
}

/* The object without its last two members is one, too. */
static int parse_body(const char *p, size_t n, struct manifest *m)
{
	struct json_tokener *t = json_tokener_new_ex(8);
	struct json_object *o = NULL;
	int r = -MNO_ECORRUPT;

	if (!t)
		return -ENOMEM;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(t, p, (int)n);
	if (!o && json_tokener_get_error(t) == json_tokener_continue)
		o = json_tokener_parse_ex(t, "}", 1);
	if (o && json_tokener_get_error(t) == json_tokener_success &&
		json_object_is_type(o, json_type_object))
		r = get_all(o, m);
	json_object_put(o);
	json_tokener_free(t);
	return r;
}

int manifest_parse(const char *p, size_t n, struct manifest *ret, size_t *ret_body)
{
	_cleanup_manifest_ struct manifest m = {0};
	uint8_t want[MNO_DIGEST_BYTES], hash[MNO_DIGEST_BYTES];
	size_t body = n <= MANIFEST_MAX ? split(p, n, &m, want) : 0;
	int r;

	if (!body)
		return -MNO_ECORRUPT;
	mno_digest_of(p, body, hash);
	if (memcmp(hash, want, sizeof(hash)) != 0)
		return -MNO_ECORRUPT;
	r = parse_body(p, body, &m);
	/* by the key it names itself: finds damage; whose key that is, only the KEK can tell */
	if (r == 0 && m.is_signed && !mno_sign_check(m.pub, p, body, m.sig))
		r = -MNO_ECORRUPT;
	if (r < 0)
		return r;
	*ret = m;
	m = (struct manifest){0};
	*ret_body = body;
	return 0;
}

int manifest_read(int dir_fd, struct manifest *ret, struct mno_buf *text, size_t *ret_body)
{
	_cleanup_close_ int fd =
		openat(dir_fd, MANIFEST, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	_cleanup_buf_ struct mno_buf own = {0};
	struct stat st;
	size_t body;
	ssize_t got = 1;
	char *p;

	text = text ?: &own;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > MANIFEST_MAX)
		return -MNO_ECORRUPT;
	while (got > 0 && (p = mno_buf_reserve(text, 65536))) {
		got = read(fd, p, 65536);
		if (got > 0)
			mno_buf_commit(text, (size_t)got);
	}
	if (text->err || got < 0)
		return text->err ?: -errno;
	return manifest_parse(text->data, text->len, ret, ret_body ?: &body);
}

void manifest_info(const struct manifest *m, const char *name, struct mno_backup_info *ret)
{
	*ret = (struct mno_backup_info){.time_ms = m->time_ms,
		.files = m->n,
		.left_out = m->n_left_out,
		.took_ns = m->took_ns,
		.is_signed = m->is_signed};
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	memcpy(ret->previous, m->previous, sizeof(ret->previous));
	memcpy(ret->store, m->store, sizeof(ret->store));
	memcpy(ret->kek_id, m->kek_id, sizeof(ret->kek_id));
	memcpy(ret->host_version, m->version, sizeof(ret->host_version));
	for (size_t i = 0; i < m->n; i++) {
		ret->bytes += m->files[i].size;
		ret->new_bytes += m->files[i].linked ? 0 : m->files[i].size;
	}
}
