/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of the catalogue in the feed: so what is replayed has the indexes and quotas of its time. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/json.h"

static const char *const types[] = {[MNO_DOC_ORDERED] = "ordered", [MNO_DOC_FULLTEXT] = "fulltext"};

int docs_feed_index(struct mno_docs_txn *t, enum mno_doc_change_op op,
	const struct docs_cat_index *x, const struct docs_cat_coll *coll)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_doc doc = {.id = x->name, .id_len = strlen(x->name), .created_ms = t->now_ms};
	struct mno_json j;

	if (op == MNO_DOC_CHANGE_INDEX) {
		mno_json_init(&j, &b);
		mno_json_obj(&j);
		mno_json_kstr(&j, "path", x->path_text);
		mno_json_kstr(&j, "type", types[x->type]);
		mno_json_kbool(&j, "unique", x->unique);
		mno_json_kbool(&j, "multi", x->multi);
		mno_json_kbool(&j, "secret", x->secret);
		mno_json_end(&j);
		doc.kind = MNO_DOC_JSON;
	} else if (op == MNO_DOC_CHANGE_INDEX_FAILED) {
		mno_buf_adds(&b, x->error);
		doc.kind = MNO_DOC_TEXT;
	}
	if (b.err)
		return b.err;
	doc.value = b.data;
	doc.len = b.len;
	t->state.next_seq++;
	return docs_feed_add(t, op, coll, &doc);
}

int docs_feed_quota(struct mno_docs_txn *t, const struct docs_cat_ns *n)
{
	const struct docs_cat_coll none = {.ns = (struct docs_cat_ns *)n};
	struct mno_doc doc = {.id = "", .kind = MNO_DOC_JSON, .created_ms = t->now_ms};
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_json j;

	mno_json_init(&j, &b);
	mno_json_obj(&j);
	mno_json_ku64(&j, "docs", n->quota_docs);
	mno_json_ku64(&j, "bytes", n->quota_bytes);
	mno_json_end(&j);
	if (b.err)
		return b.err;
	doc.value = b.data;
	doc.len = b.len;
	t->state.next_seq++;
	return docs_feed_add(t, MNO_DOC_CHANGE_QUOTA, &none, &doc);
}

int docs_txn_index_failed(struct mno_docs_txn *t, const struct docs_cat_index *x, const char *why)
{
	struct docs_cat_index copy = *x;
	int r;

	copy.state = MNO_DOC_INDEX_FAILED;
	snprintf(copy.error, sizeof(copy.error), "%s", why);
	r = docs_index_put(t->d, t->t, &copy);
	if (r == 0 && x->coll)
		r = docs_feed_index(t, MNO_DOC_CHANGE_INDEX_FAILED, &copy, x->coll);
	return r < 0 ? r : docs_txn_recat(t);
}

/* --- making them again --------------------------------------------------------------------------- */

static struct json_object *parse(const struct mno_doc *doc)
{
	struct json_tokener *k = json_tokener_new_ex(4);
	struct json_object *o = k && doc->value && doc->len < 65536
					? json_tokener_parse_ex(k, doc->value, (int)doc->len)
					: NULL;

	if (k)
		json_tokener_free(k);
	return o;
}

static struct json_object *member(struct json_object *o, const char *name)
{
	return json_object_is_type(o, json_type_object) ? json_object_object_get(o, name) : NULL;
}

static int replay_index(struct mno_docs_txn *t, const struct mno_doc_change *c, const char *name,
	struct json_object *o)
{
	const char *type = json_object_get_string(member(o, "type"));
	struct mno_doc_index def = {.name = name,
		.path = json_object_get_string(member(o, "path")),
		.unique = json_object_get_boolean(member(o, "unique")),
		.multi = json_object_get_boolean(member(o, "multi")),
		.secret = json_object_get_boolean(member(o, "secret"))};

	if (!type || !def.path)
		return -MNO_ECORRUPT;
	def.type = strcmp(type, types[MNO_DOC_FULLTEXT]) ? MNO_DOC_ORDERED : MNO_DOC_FULLTEXT;
	return docs_txn_index(t, c->ns, c->coll, &def);
}

static int replay_failed(struct mno_docs_txn *t, const struct mno_doc_change *c, const char *name,
	struct json_object *o)
{
	struct docs_cat_coll *coll = docs_cat_coll(t->cat, c->ns, c->coll);
	struct docs_cat_index *x = coll ? docs_cat_index(coll, name) : NULL;
	char why[200];

	snprintf(why, sizeof(why), "%.*s", (int)MNO_MIN(c->doc.len, sizeof(why) - 1),
		(const char *)c->doc.value ?: "");
	return x ? docs_txn_index_failed(t, x, why) : -MNO_ECORRUPT;
}

static int replay_unindex(struct mno_docs_txn *t, const struct mno_doc_change *c, const char *name,
	struct json_object *o)
{
	return docs_txn_unindex(t, c->ns, c->coll, name);
}

static int replay_quota(struct mno_docs_txn *t, const struct mno_doc_change *c, const char *name,
	struct json_object *o)
{
	int64_t docs = json_object_get_int64(member(o, "docs"));
	int64_t bytes = json_object_get_int64(member(o, "bytes"));

	return docs_txn_quota(t, c->ns, (uint64_t)docs, (uint64_t)bytes);
}

static int replay_drop(struct mno_docs_txn *t, const struct mno_doc_change *c, const char *name,
	struct json_object *o)
{
	return docs_txn_drop(t, c->ns, c->coll);
}

int docs_replay_admin(struct mno_docs_txn *t, const struct mno_doc_change *c)
{
	static int (*const rows[])(struct mno_docs_txn * t, const struct mno_doc_change *c,
		const char *name, struct json_object *o) = {
		[MNO_DOC_CHANGE_DROP] = replay_drop,
		[MNO_DOC_CHANGE_INDEX] = replay_index,
		[MNO_DOC_CHANGE_UNINDEX] = replay_unindex,
		[MNO_DOC_CHANGE_INDEX_FAILED] = replay_failed,
		[MNO_DOC_CHANGE_QUOTA] = replay_quota,
	};
	struct json_object *o = c->doc.kind == MNO_DOC_JSON ? parse(&c->doc) : NULL;
	char name[MNO_DOC_NAME_MAX + 1];
	int r = -MNO_ECORRUPT;

	snprintf(name, sizeof(name), "%.*s", (int)MNO_MIN(c->doc.id_len, sizeof(name) - 1),
		(const char *)c->doc.id ?: "");
	if ((unsigned)c->op < ARRAY_SIZE(rows) && rows[c->op])
		r = rows[c->op](t, c, name, o);
	json_object_put(o);
	return r;
}
