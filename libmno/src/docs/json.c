/* SPDX-License-Identifier: Apache-2.0 */
/* Documents, changes and transactions as JSON. */
#include <errno.h>
#include <string.h>
#include "mno/err.h"
#include "mno/util.h"
#include "value.h"

/* --- base64 (RFC 4648) ----------------------------------------------------------------------------- */

static const char alphabet[2][65] = {
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"};

void mno_base64_add(struct mno_buf *b, const void *p, size_t n, bool url)
{
	const unsigned char *s = p;
	const char *a = alphabet[url];

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)s[i] << 16;
		size_t k = MNO_MIN(n - i, (size_t)3);
		char t[4];

		v |= k > 1 ? (uint32_t)s[i + 1] << 8 : 0;
		v |= k > 2 ? s[i + 2] : 0;
		for (int j = 0; j < 4; j++)
			t[j] = a[v >> (18 - 6 * j) & 63];
		mno_buf_add(b, t, k + 1);
	}
}

static int digit(char c)
{
	const char *p = c ? strchr(alphabet[0], c) : NULL;

	if (!p)
		return c == '-' ? 62 : c == '_' ? 63 : -1;
	return (int)(p - alphabet[0]);
}

int mno_base64_read(const char *s, size_t n, struct mno_buf *out)
{
	uint32_t v = 0;
	unsigned bits = 0;

	while (n && s[n - 1] == '=')
		n--;
	if (n % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int d = digit(s[i]);

		if (d < 0)
			return -EINVAL;
		v = v << 6 | (uint32_t)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			mno_buf_addc(out, (char)(v >> bits));
		}
	}
	return out->err ?: (v & ((1u << bits) - 1)) ? -EINVAL : 0;
}

/* --- writing --------------------------------------------------------------------------------------- */

static bool is_utf8(const char *s, size_t n)
{
	for (size_t i = 0, k; i < n; i += k) {
		k = mno_utf8_len(s + i, n - i);
		if (!k)
			return false;
	}
	return true;
}

static void put_base64(struct mno_json *j, const char *key, const void *p, size_t n)
{
	_cleanup_buf_ struct mno_buf b = {0};

	mno_base64_add(&b, p, n, false);
	mno_json_key(j, key);
	mno_json_strn(j, mno_buf_cstr(&b), b.len);
	if (b.err && !j->out->err)
		j->out->err = b.err;
}

static void put_text(
	struct mno_json *j, const char *key, const char *key64, const char *s, size_t n)
{
	if (!is_utf8(s, n)) {
		put_base64(j, key64, s, n);
		return;
	}
	mno_json_key(j, key);
	mno_json_strn(j, s, n);
}

static void put_value(struct mno_json *j, const struct mno_doc *d)
{
	switch (d->kind) {
	case MNO_DOC_JSON:
	case MNO_DOC_INTEGER:
		mno_json_key(j, "value");
		mno_json_raw(j, d->value, d->len);
		break;
	case MNO_DOC_BINARY:
		put_base64(j, "value_base64", d->value, d->len);
		break;
	default:
		put_text(j, "value", "value_base64", d->value, d->len);
	}
}

static void put_doc(struct mno_json *j, const struct mno_doc *d)
{
	put_text(j, "id", "id_base64", d->id, d->id_len);
	if (!d->kind)
		return;
	mno_json_ku64(j, "version", d->version);
	if (d->revision)
		mno_json_ku64(j, "revision", d->revision);
	mno_json_ki64(j, "created_ms", d->created_ms);
	mno_json_ki64(j, "updated_ms", d->updated_ms);
	mno_json_kstr(j, "kind", mno_doc_kind_name(d->kind));
	if (d->value)
		put_value(j, d);
}

void mno_doc_json(const struct mno_doc *doc, struct mno_json *j)
{
	mno_json_obj(j);
	put_doc(j, doc);
	mno_json_end(j);
}

void mno_doc_change_json(const struct mno_doc_change *c, struct mno_json *j)
{
	static const char *const ops[] = {[MNO_DOC_CHANGE_PUT] = "put",
		[MNO_DOC_CHANGE_DELETE] = "delete",
		[MNO_DOC_CHANGE_DROP] = "drop",
		[MNO_DOC_CHANGE_INDEX] = "index",
		[MNO_DOC_CHANGE_UNINDEX] = "index-drop",
		[MNO_DOC_CHANGE_INDEX_FAILED] = "index-failed",
		[MNO_DOC_CHANGE_QUOTA] = "quota"};

	mno_json_obj(j);
	mno_json_ku64(j, "seq", c->seq);
	mno_json_ki64(j, "time_ms", c->time_ms);
	mno_json_kstr(j, "op", ops[c->op]);
	mno_json_kstr(j, "ns", c->ns);
	mno_json_kstr(j, "coll", c->coll);
	if (c->doc.id_len)
		put_doc(j, &c->doc);
	mno_json_end(j);
}

/* --- reading a transaction ------------------------------------------------------------------------ */

struct parse {
	struct mno_arena *a;
	struct mno_docs_error *err;
	struct mno_buf key, scratch;
	struct mno_doc_op *ops; /* NULL: counted only */
	size_t n;
	/* Of the operation at hand, as it stands. */
	struct text {
		const char *p;
		size_t n;
	} member[12];
	struct text list; /* "ops" of the whole */
};

enum { OP, NS, COLL, ID, ID64, KIND, VALUE, VALUE64, IF_VERSION, IF_ABSENT, IF_PRESENT };
static const char *const members[] = {[OP] = "op",
	[NS] = "ns",
	[COLL] = "coll",
	[ID] = "id",
	[ID64] = "id_base64",
	[KIND] = "kind",
	[VALUE] = "value",
	[VALUE64] = "value_base64",
	[IF_VERSION] = "if_version",
	[IF_ABSENT] = "if_absent",
	[IF_PRESENT] = "if_present"};

static void *copy(struct parse *p, const void *s, size_t n)
{
	char *c = mno_arena_alloc(p->a, n + 1);

	if (c) {
		memcpy(c, s, n);
		c[n] = 0;
	}
	return c;
}

struct root {
	struct parse *p;
	enum mno_doc_type type;
	const char *s;
	size_t n;
};

static int take_root(void *arg, unsigned path, const struct docs_scalar *v)
{
	struct root *r = arg;

	r->type = v->type;
	r->s = copy(r->p, v->n ? v->p : "", v->n);
	r->n = v->n;
	return r->s ? 1 : -ENOMEM;
}

/* The scalar that a member is; false when it is no scalar of @type. */
static int read_scalar(
	struct parse *p, int m, enum mno_doc_type type, const char **ret, size_t *ret_n)
{
	static const struct docs_path path;
	const struct docs_path *paths[] = {&path};
	const struct text *t = &p->member[m];
	struct root root = {.p = p};
	int r = t->n && *t->p != '['
			? docs_scan(t->p, t->n, paths, 1, &p->scratch, take_root, &root, NULL)
			: 0;

	if (r < 0)
		return r;
	if (r == 0 || root.type != type)
		return docs_fail(p->err, -EINVAL, "\"%s\" is %s", members[m],
			!t->n                    ? "missing"
			: type == MNO_DOC_STRING ? "no string"
						 : "not what it should be");
	*ret = root.s;
	*ret_n = root.n;
	return 0;
}

static int decode64(struct parse *p, int m, const void **ret, size_t *ret_n)
{
	_cleanup_buf_ struct mno_buf b = {0};
	const char *s;
	size_t n;
	int r = read_scalar(p, m, MNO_DOC_STRING, &s, &n);

	if (r < 0)
		return r;
	if (mno_base64_read(s, n, &b) < 0)
		return docs_fail(p->err, -MNO_ESYNTAX, "\"%s\" is no base64", members[m]);
	*ret = copy(p, mno_buf_cstr(&b), b.len);
	*ret_n = b.len;
	return *ret ? 0 : -ENOMEM;
}

static int read_name(struct parse *p, int m, const char **ret)
{
	size_t n;
	int r = read_scalar(p, m, MNO_DOC_STRING, ret, &n);

	if (r == 0 && strlen(*ret) != n)
		r = docs_fail(p->err, -EINVAL, "\"%s\" has a NUL in it", members[m]);
	return r;
}

static int read_id(struct parse *p, struct mno_doc_op *op)
{
	const char *s;
	int r;

	if (p->member[ID64].n)
		return decode64(p, ID64, &op->id, &op->id_len);
	r = read_scalar(p, ID, MNO_DOC_STRING, &s, &op->id_len);
	op->id = r == 0 ? s : NULL;
	return r;
}

/* JSON and numbers as they stand; texts and decimals as strings. */
static int read_value(struct parse *p, struct mno_doc_op *op)
{
	const struct text *t = &p->member[VALUE];
	const char *s;
	int r;

	if (p->member[VALUE64].n)
		return decode64(p, VALUE64, &op->value, &op->len);
	if (!t->n)
		return docs_fail(p->err, -EINVAL, "a put needs \"value\" or \"value_base64\"");
	if (op->kind == MNO_DOC_BINARY)
		return docs_fail(p->err, -EINVAL, "a binary value comes as \"value_base64\"");
	if (op->kind == MNO_DOC_JSON || (op->kind != MNO_DOC_TEXT && *t->p != '"')) {
		op->value = copy(p, t->p, t->n);
		op->len = t->n;
		return op->value ? 0 : -ENOMEM;
	}
	r = read_scalar(p, VALUE, MNO_DOC_STRING, &s, &op->len);
	op->value = r == 0 ? s : NULL;
	return r;
}

static int read_flag(struct parse *p, int m, bool *ret)
{
	const struct text *t = &p->member[m];

	*ret = t->n == 4 && !memcmp(t->p, "true", 4);
	return !t->n || *ret || (t->n == 5 && !memcmp(t->p, "false", 5))
		       ? 0
		       : docs_fail(p->err, -EINVAL, "\"%s\" is true or false", members[m]);
}

static int read_pre(struct parse *p, struct mno_doc_op *op)
{
	bool absent, present, version = p->member[IF_VERSION].n;
	const char *s;
	size_t n;
	int r = read_flag(p, IF_ABSENT, &absent);

	if (r == 0)
		r = read_flag(p, IF_PRESENT, &present);
	if (r == 0 && version)
		r = read_scalar(p, IF_VERSION, MNO_DOC_NUMBER, &s, &n);
	if (r < 0)
		return r;
	if (version && mno_parse_u64(s, &op->if_version) < 0)
		return docs_fail(p->err, -EINVAL, "\"if_version\" is no version");
	if (version + absent + present > 1)
		return docs_fail(p->err, -EINVAL, "more than one precondition");
	op->pre = version   ? MNO_DOC_IF_VERSION
		  : absent  ? MNO_DOC_IF_ABSENT
		  : present ? MNO_DOC_IF_PRESENT
			    : MNO_DOC_ANY;
	return 0;
}

static int take_member(void *arg, const char *key, size_t key_len, const char *s, size_t n)
{
	struct parse *p = arg;

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		if (strlen(members[i]) != key_len || memcmp(members[i], key, key_len))
			continue;
		if (p->member[i].n)
			return docs_fail(p->err, -EINVAL, "\"%s\" is there twice", members[i]);
		p->member[i] = (struct text){s, n};
		return 0;
	}
	return docs_fail(p->err, -EINVAL, "an operation has no member \"%.*s\"",
		(int)MNO_MIN(key_len, (size_t)40), key);
}

static int read_op(struct parse *p, struct mno_doc_op *op)
{
	static const struct {
		const char *name;
		enum mno_doc_verb verb;
	} verbs[] = {{"put", MNO_DOC_PUT}, {"delete", MNO_DOC_DELETE}, {"check", MNO_DOC_CHECK}};
	const char *verb = NULL, *kind = "json";
	int r = read_name(p, OP, &verb);

	if (r == 0)
		r = read_name(p, NS, &op->ns);
	if (r == 0)
		r = read_name(p, COLL, &op->coll);
	if (r == 0 && p->member[KIND].n)
		r = read_name(p, KIND, &kind);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(verb, verbs[i].name))
			op->verb = verbs[i].verb;
	op->kind = mno_doc_kind_find(kind);
	if (!op->verb)
		return docs_fail(
			p->err, -EINVAL, "\"op\" is put, delete or check, not \"%.40s\"", verb);
	if (!op->kind)
		return docs_fail(p->err, -EINVAL,
			"\"kind\" is json, binary, text, integer or decimal, not \"%.40s\"", kind);
	r = read_id(p, op);
	if (r == 0 && op->verb == MNO_DOC_PUT)
		r = read_value(p, op);
	return r < 0 ? r : read_pre(p, op);
}

static int take_op(void *arg, const char *key, size_t key_len, const char *s, size_t n)
{
	struct parse *p = arg;
	int r;

	if (!p->ops)
		return ++p->n > MNO_DOC_OPS_MAX ? -MNO_ELIMIT : 0;
	if (p->err)
		p->err->op = p->n;
	if (*s != '{')
		return docs_fail(p->err, -EINVAL, "an operation is an object");
	memset(p->member, 0, sizeof(p->member));
	r = docs_scan_members(s, n, &p->key, take_member, p);
	return r < 0 ? r : read_op(p, &p->ops[p->n++]);
}

static int take_list(void *arg, const char *key, size_t key_len, const char *s, size_t n)
{
	struct parse *p = arg;

	if (key_len == 3 && !memcmp(key, "ops", 3) && !p->list.p) {
		p->list = (struct text){s, n};
		return 0;
	}
	return docs_fail(p->err, -EINVAL, "a transaction has only the member \"ops\", once");
}

static int read_list(struct parse *p, const char *s, size_t n)
{
	size_t blank = strspn(s, " \t\r\n");
	int r = 0;

	if (s[blank] == '{')
		r = docs_scan_members(s, n, &p->key, take_list, p);
	else
		p->list = (struct text){s + blank, n - blank};
	if (r < 0)
		return r;
	if (!p->list.p || *p->list.p != '[')
		return docs_fail(p->err, -EINVAL,
			"a transaction is {\"ops\": [...]}, or the list of operations");
	r = docs_scan_members(p->list.p, p->list.n, &p->key, take_op, p);
	if (r < 0 || !p->n)
		return docs_fail(p->err, -MNO_ELIMIT, "a transaction has 1 to %u operations",
			MNO_DOC_OPS_MAX);
	p->ops = mno_arena_calloc(p->a, p->n, sizeof(*p->ops));
	p->n = 0;
	return p->ops ? docs_scan_members(p->list.p, p->list.n, &p->key, take_op, p) : -ENOMEM;
}

int mno_docs_ops_parse(struct mno_arena *a, const char *s, size_t n, struct mno_doc_op **ret_ops,
	size_t *ret_n, struct mno_docs_error *err)
{
	struct parse p = {.a = a, .err = err};
	size_t at;
	char *text;
	int r;

	if (err)
		*err = (struct mno_docs_error){.op = MNO_DOC_OP_NONE};
	r = docs_scan(s, n, NULL, 0, &p.scratch, NULL, NULL, &at);
	if (r == -MNO_ESYNTAX)
		docs_fail(err, r, "this is no JSON: byte %zu", at);
	if (r == 0) {
		text = copy(&p, s, n); /* ends in a NUL */
		r = text ? read_list(&p, text, n) : -ENOMEM;
	}
	mno_buf_done(&p.key);
	mno_buf_done(&p.scratch);
	if (r < 0)
		return r;
	*ret_ops = p.ops;
	*ret_n = p.n;
	return 0;
}
