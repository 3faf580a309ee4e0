/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "verbs.h"
#include "mno/err.h"
#include "mno/json.h"
#include "mno/util.h"

#define VALUE_MAX (1u << 20)
#define BASE      "/mno/v1/docs"

const struct ctl_option doc_options[] = {
	{"value", 0, CTL_TEXT, .metavar = "TEXT", .help = "put: the value itself"},
	{"file", 0, CTL_TEXT, .metavar = "FILE",
		.help = "put: the value is in FILE, - is standard input; at most 1 MiB"},
	{"kind", 0, CTL_WORD, .metavar = "KIND",
		.help = "put: kind of the value, json when not given",
		.words = "json binary text integer decimal"},
	{"if-version", 0, CTL_NUMBER, .metavar = "N", .help = "put, delete: only version N of it"},
	{"if-absent", 0, CTL_FLAG, .help = "put: only if it is not there"},
	{"if-present", 0, CTL_FLAG, .help = "put, delete: only if it is there"},
	{"limit", 0, CTL_COUNT, .metavar = "N",
		.help = "find: so many at most, 100 when not given"},
	{"cursor", 0, CTL_TEXT, .metavar = "TEXT", .help = "find: go on where an answer ended"},
	{"keys", 0, CTL_FLAG, .help = "find: without values"},
	{"path", 0, CTL_TEXT, .metavar = "PATH", .help = "index add: the path to index"},
	{"type", 0, CTL_WORD, .metavar = "TYPE", .help = "index add", .words = "ordered fulltext"},
	{"unique", 0, CTL_FLAG, .help = "index add: no two documents with the same value"},
	{"multi", 0, CTL_FLAG, .help = "index add: arrays are indexed by element"},
	{"secret", 0, CTL_FLAG, .help = "index add: only a keyed hash is kept; finds by = only"},
	{"since", 0, CTL_NUMBER, .metavar = "SEQ",
		.help = "watch: from this change on, else from now"},
	{"values", 0, CTL_FLAG, .help = "watch: with the values"},
	{"documents", 0, CTL_NUMBER, .metavar = "N",
		.help = "quota: so many at most, 0 is no limit"},
	{"bytes", 0, CTL_NUMBER, .metavar = "N",
		.help = "quota: so many bytes at most, 0 is no limit"},
	{"yes", 0, CTL_FLAG, .help = "drop: really delete the whole collection"},
	{0},
};

/* "/mno/v1/docs/NS/COLL..." of the first @n arguments after the action. */
static void add_path(struct ctl *c, struct mno_buf *b, size_t n)
{
	mno_buf_adds(b, BASE);
	for (size_t i = 1; i <= n && i < c->args->n_pos; i++) {
		mno_buf_addc(b, '/');
		mno_url_escape(b, c->args->pos[i]);
	}
}

static void add_flags(struct ctl *c, struct mno_buf *b)
{
	static const struct {
		const char *option, *param;
	} rows[] = {{"kind", "kind"}, {"if-version", "if_version"}, {"limit", "limit"},
		{"cursor", "cursor"}, {"path", "path"}, {"type", "type"}, {"since", "since"},
		{"documents", "quota_documents"}, {"bytes", "quota_bytes"}};
	static const struct {
		const char *option, *param;
	} flags[] = {{"if-absent", "if_absent"}, {"if-present", "if_present"}, {"keys", "keys"},
		{"unique", "unique"}, {"multi", "multi"}, {"secret", "secret"},
		{"values", "values"}, {"yes", "all"}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ctl_param(b, rows[i].param, ctl_opt(c->args, rows[i].option));
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		ctl_param(b, flags[i].param, ctl_has(c->args, flags[i].option) ? "1" : NULL);
}

/* Asks for the path of the first @n arguments, then @rest; prints the answer with -j. 1: done. */
static int ask(struct ctl *c, const char *method, size_t n, const char *rest, const void *body,
	size_t len, struct ctl_answer *a)
{
	_cleanup_buf_ struct mno_buf target = {0};
	int r;

	add_path(c, &target, n);
	mno_buf_adds(&target, rest);
	add_flags(c, &target);
	r = ctl_send(c, method, mno_buf_cstr(&target), body, len, a);
	if (r == 0 && c->json)
		ctl_put_json(c, &a->body);
	return r;
}

static int read_file(struct ctl *c, const char *path, size_t max, struct mno_buf *ret)
{
	bool std = strcmp(path, "-") == 0;
	_cleanup_close_ int own = std ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	int fd = std ? STDIN_FILENO : own;
	char chunk[65536];
	ssize_t n;

	if (fd < 0)
		return ctl_fail(
			c, CTL_INVALID, NULL, "%s: %s", ctl_esc(c, path), mno_strerror(errno));
	while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
		mno_buf_add(ret, chunk, (size_t)n);
		if (ret->len > max)
			return ctl_fail(c, CTL_INVALID, NULL, "%s has more than %zu bytes",
				std ? "standard input" : ctl_esc(c, path), max);
	}
	if (n < 0 || ret->err)
		return ctl_fail(c, CTL_INVALID, NULL, "%s: %s", ctl_esc(c, path),
			mno_strerror(n < 0 ? errno : ret->err));
	return 0;
}

/* --- one document ----------------------------------------------------------------------------------- */

static int put(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf body = {0};
	const char *value = ctl_opt(c->args, "value"), *file = ctl_opt(c->args, "file");
	bool text = false;
	int r = 0;

	if (value && file)
		return ctl_fail(c, CTL_USAGE, NULL, "--value and --file exclude each other");
	if (value)
		mno_buf_adds(&body, value);
	else
		r = read_file(c, file ? file : "-", VALUE_MAX, &body);
	if (r)
		return r;
	/* the line end that echo adds is no part of a number */
	text = ctl_has(c->args, "kind") &&
	       (strcmp(ctl_opt(c->args, "kind"), "integer") == 0 ||
		       strcmp(ctl_opt(c->args, "kind"), "decimal") == 0);
	while (text && body.len && body.data[body.len - 1] == '\n')
		body.len--;
	r = ask(c, "PUT", 3, ctl_has(c->args, "kind") ? "" : "?kind=json", body.data, body.len, &a);
	if (r || c->json)
		return r;
	ctl_printf(c, CTL_PLAIN, "%s, version %llu\n",
		jtrue(a.root, "created") ? "created" : "replaced",
		(unsigned long long)ju64(a.root, "version"));
	ctl_footer(c, "on disk \u00b7 took %s", ctl_ns(c, (double)a.took_ns));
	return 0;
}

/* Bytes as they are into a pipe; on a terminal what could act on it is shown as \xNN. */
static void put_raw(struct ctl *c, const struct mno_buf *b)
{
	const char *s = b->data, *end = s + b->len;

	if (!c->tty) {
		mno_buf_add(&c->out, b->data, b->len);
		return;
	}
	while (s < end) {
		const char *nl = memchr(s, '\n', (size_t)(end - s));
		size_t n = nl ? (size_t)(nl - s) : (size_t)(end - s);

		for (size_t i = 0, k; i < n; i += k) {
			char safe[4 * 200 + 1];

			k = MNO_MIN(n - i, (size_t)200);
			while (k > 1 && i + k < n && (s[i + k] & 0xc0) == 0x80)
				k--;
			mno_buf_adds(&c->out, mno_escape_terminal(safe, sizeof(safe), s + i, k));
		}
		mno_buf_addc(&c->out, '\n');
		s += n + (nl != NULL);
	}
}

static int get(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf target = {0}, body = {0};
	struct ctl_error e;
	int status = 0, r;

	if (c->json)
		return ask(c, "GET", 3, "?meta=1", NULL, 0, &a);
	add_path(c, &target, 3);
	r = mno_client_request(c->client, "GET", mno_buf_cstr(&target), NULL, 0, &status, &body);
	if (r < 0)
		ctl_explain_errno(c, r, &e);
	else if (status != 200)
		ctl_explain_status(status, body.data, body.len, &e);
	if (r < 0 || status != 200)
		return ctl_error_print(c, &e);
	put_raw(c, &body);
	return 0;
}

static int delete (struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	int r = ask(c, "DELETE", 3, "", NULL, 0, &a);

	if (r || c->json)
		return r;
	ctl_printf(c, CTL_PLAIN, "deleted\n");
	ctl_footer(c, "on disk \u00b7 took %s", ctl_ns(c, (double)a.took_ns));
	return 0;
}

/* --- many ------------------------------------------------------------------------------------------- */

static const struct ctl_col find_columns[] = {
	{.head = "id"},
	{.head = "version", .right = true, .drop = 2},
	{.head = "changed", .drop = 1},
	{.head = "kind", .drop = 3},
	{.head = "value", .flex = true},
};

static const char *id_of(struct json_object *d)
{
	return *jstr(d, "id_base64") ? jstr(d, "id_base64") : jstr(d, "id");
}

static const char *value_of(struct json_object *d)
{
	struct json_object *v = jget(d, "value");

	if (!v)
		return jstr(d, "value_base64");
	return json_object_to_json_string_ext(
		v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

static int show_found(struct ctl *c, struct ctl_answer *a)
{
	_cleanup_table_ struct ctl_table t;
	struct json_object *docs = jget(a->root, "documents");
	const char *cursor = jstr(a->root, "cursor"), *index = jstr(a->root, "index");
	bool building = !jnull(a->root, "index_building");

	ctl_table_init(&t, find_columns, ARRAY_SIZE(find_columns));
	for (size_t i = 0; i < jlen(docs); i++) {
		struct json_object *d = jidx(docs, i);

		ctl_cell(&t, CTL_BOLD, "%s", ctl_esc(c, id_of(d)));
		ctl_cell(&t, CTL_PLAIN, "%llu", (unsigned long long)ju64(d, "version"));
		ctl_cell(&t, CTL_PLAIN, "%s", ctl_ago(c, ju64(d, "updated_ms") * NS_PER_MS));
		ctl_cell(&t, CTL_PLAIN, "%s", ctl_esc(c, jstr(d, "kind")));
		ctl_cell(&t, CTL_PLAIN, "%s", ctl_esc(c, value_of(d)));
	}
	if (jlen(docs))
		ctl_table_print(c, &t);
	else
		ctl_printf(c, CTL_PLAIN, "no document fits\n");
	if (building)
		ctl_printf(c, CTL_WARN, "an index for this is being built: %s done\n",
			ctl_percent(c, jf64(a->root, "index_building") * 100));
	if (ju64(a->root, "damaged"))
		ctl_printf(c, CTL_BAD, "%s could not be read: they are damaged\n",
			ctl_things(c, ju64(a->root, "damaged"), "document", "documents"));
	if (*cursor)
		ctl_printf(c, CTL_PLAIN, "there are more: --cursor %s\n", ctl_esc(c, cursor));
	ctl_footer(c, "%s of %s looked at \u00b7 %s%s \u00b7 %s",
		ctl_things(c, jlen(docs), "document", "documents"),
		ctl_exact(c, ju64(a->root, "scanned")), *index ? "index " : "no index",
		*index ? ctl_esc(c, index) : "", ctl_ns(c, (double)a->took_ns));
	return jlen(docs) ? 0 : CTL_NO;
}

static int find(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf where = {0};
	int r;

	mno_buf_addc(&where, '?');
	for (size_t i = 3; i < c->args->n_pos; i++) {
		mno_buf_adds(&where, i > 3 ? "&where=" : "where=");
		mno_url_escape(&where, c->args->pos[i]);
	}
	if (where.len == 1)
		mno_buf_reset(&where);
	r = ask(c, "GET", 2, mno_buf_cstr(&where), NULL, 0, &a);
	if (r)
		return r;
	if (c->json)
		return jlen(jget(a.root, "documents")) ? 0 : CTL_NO;
	return show_found(c, &a);
}

static int txn(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf body = {0};
	int r = read_file(c, c->args->pos[1], VALUE_MAX, &body);

	if (r == 0)
		r = ask(c, "POST", 0, "/txn", body.data, body.len, &a);
	if (r || c->json)
		return r;
	ctl_printf(c, CTL_PLAIN, "%s done\n",
		ctl_things(c, jlen(jget(a.root, "results")), "operation", "operations"));
	ctl_footer(c, "on disk \u00b7 took %s", ctl_ns(c, (double)a.took_ns));
	return 0;
}

/* --- indexes, namespaces ------------------------------------------------------------------------------ */

static const struct ctl_col index_columns[] = {{.head = "index"}, {.head = "path"},
	{.head = "type"}, {.head = "state"}, {.head = "built", .right = true},
	{.head = "note", .flex = true}};

static void index_row(struct ctl *c, struct ctl_table *t, struct json_object *x)
{
	bool ready = strcmp(jstr(x, "state"), "ready") == 0;

	ctl_cell(t, CTL_BOLD, "%s", ctl_esc(c, jstr(x, "name")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_esc(c, jstr(x, "path")));
	ctl_cell(t, CTL_PLAIN, "%s%s%s%s", ctl_esc(c, jstr(x, "type")),
		jtrue(x, "unique") ? " unique" : "", jtrue(x, "multi") ? " multi" : "",
		jtrue(x, "secret") ? " secret" : "");
	ctl_cell(t, ready ? CTL_GOOD : CTL_WARN, "%s", ctl_esc(c, jstr(x, "state")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_percent(c, jf64(x, "progress") * 100));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_esc(c, jstr(x, "error")));
}

static int index_change(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf rest = {0};
	const struct ctl_args *g = c->args;
	bool add = strcmp(g->pos[3], "add") == 0;
	int r;

	if ((!add && strcmp(g->pos[3], "drop")) || g->n_pos < 5)
		return ctl_fail(c, CTL_USAGE, NULL,
			"usage: mnoctl doc index NS COLL add INDEX --path PATH, or drop INDEX");
	if (add && !ctl_has(g, "path"))
		return ctl_fail(c, CTL_USAGE, "--path $ indexes the whole value",
			"which path? Usage: mnoctl doc index NS COLL add INDEX --path PATH");
	mno_buf_adds(&rest, "/_index/");
	mno_url_escape(&rest, g->pos[4]);
	r = ask(c, add ? "PUT" : "DELETE", 2, mno_buf_cstr(&rest), NULL, 0, &a);
	if (r || c->json)
		return r;
	if (add)
		ctl_printf(c, CTL_PLAIN, "index %s is %s\n", ctl_esc(c, g->pos[4]),
			ctl_esc(c, jstr(a.root, "state")));
	else
		ctl_printf(c, CTL_PLAIN,
			"index %s is dropped; its room is freed in the background\n",
			ctl_esc(c, g->pos[4]));
	return 0;
}

static int index_list(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_table_ struct ctl_table t;
	struct json_object *v;
	int r;

	ctl_table_init(&t, index_columns, ARRAY_SIZE(index_columns));
	if (c->args->n_pos > 3)
		return index_change(c);
	r = ask(c, "GET", 2, "/_index", NULL, 0, &a);
	if (r || c->json)
		return r;
	v = jget(a.root, "indexes");
	for (size_t i = 0; i < jlen(v); i++)
		index_row(c, &t, jidx(v, i));
	if (jlen(v))
		ctl_table_print(c, &t);
	else
		ctl_printf(c, CTL_PLAIN, "no indexes: every find looks at all documents\n");
	return 0;
}

static const struct ctl_col list_columns[] = {{.head = "namespace"}, {.head = "collection"},
	{.head = "documents", .right = true}, {.head = "bytes", .right = true},
	{.head = "indexes", .right = true}, {.head = "quota", .flex = true}};

static void list_ns(struct ctl *c, struct ctl_table *t, struct json_object *n)
{
	uint64_t docs = ju64(n, "quota_documents"), bytes = ju64(n, "quota_bytes");
	struct json_object *v = jget(n, "collections");

	ctl_cell(t, CTL_BOLD, "%s", ctl_esc(c, jstr(n, "name")));
	ctl_cell(t, CTL_PLAIN, "%s", "");
	ctl_cell(t, CTL_PLAIN, "%s", ctl_exact(c, ju64(n, "documents")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, (double)ju64(n, "bytes")));
	ctl_cell(t, CTL_PLAIN, "%s", "");
	ctl_cell(t, CTL_PLAIN, "%s%s%s", docs ? ctl_things(c, docs, "document", "documents") : "",
		docs && bytes ? ", " : "", bytes ? ctl_bytes(c, (double)bytes) : "");
	for (size_t i = 0; i < jlen(v); i++) {
		struct json_object *k = jidx(v, i);

		ctl_cell(t, CTL_PLAIN, "%s", "");
		ctl_cell(t, CTL_PLAIN, "%s", ctl_esc(c, jstr(k, "name")));
		ctl_cell(t, CTL_PLAIN, "%s", ctl_exact(c, ju64(k, "documents")));
		ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, (double)ju64(k, "bytes")));
		ctl_cell(t, CTL_PLAIN, "%s", ctl_exact(c, ju64(k, "indexes")));
		ctl_cell(t, CTL_PLAIN, "%s", "");
	}
}

static int show_list(struct ctl *c, const char *method)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_table_ struct ctl_table t;
	struct json_object *v;
	int r = ask(c, method, 1, "", NULL, 0, &a);

	ctl_table_init(&t, list_columns, ARRAY_SIZE(list_columns));
	if (r || c->json)
		return r;
	v = jget(a.root, "namespaces");
	for (size_t i = 0; i < jlen(v); i++)
		list_ns(c, &t, jidx(v, i));
	if (jlen(v))
		ctl_table_print(c, &t);
	else
		ctl_printf(c, CTL_PLAIN, "no documents yet%s%s\n",
			c->args->n_pos > 1 ? " in namespace " : "",
			c->args->n_pos > 1 ? ctl_esc(c, c->args->pos[1]) : "");
	return 0;
}

static int list(struct ctl *c)
{
	return show_list(c, "GET");
}

static int quota(struct ctl *c)
{
	bool set = ctl_has(c->args, "documents") || ctl_has(c->args, "bytes");

	return show_list(c, set ? "PUT" : "GET");
}

static int drop(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	int r;

	if (!ctl_has(c->args, "yes"))
		return ctl_fail(c, CTL_USAGE, "say so: --yes",
			"this deletes all documents and indexes of %s/%s",
			ctl_esc(c, c->args->pos[1]), ctl_esc(c, c->args->pos[2]));
	r = ask(c, "DELETE", 2, "", NULL, 0, &a);
	if (r == 0 && !c->json)
		ctl_printf(c, CTL_PLAIN, "deleted; room is freed in the background\n");
	return r;
}

/* --- watch ------------------------------------------------------------------------------------------- */

static int on_change(void *arg, const char *event, const char *data, size_t len)
{
	struct ctl *c = arg;
	struct json_object *o = ctl_parse_json(data, len);
	bool change = strcmp(event, "change") == 0;
	int r;

	if (c->json) {
		struct mno_buf body = {.data = (char *)data, .len = len};

		ctl_put_json(c, &body);
	} else if (change) {
		ctl_printf(c, CTL_PLAIN, "%llu  %s  %-6s  %s/%s  %s  %s\n",
			(unsigned long long)ju64(o, "seq"),
			ctl_clock(c, ju64(o, "time_ms") * NS_PER_MS), ctl_esc(c, jstr(o, "op")),
			ctl_esc(c, jstr(o, "ns")), ctl_esc(c, jstr(o, "coll")),
			ctl_esc(c, id_of(o)), jget(o, "value") ? ctl_esc(c, value_of(o)) : "");
	} else {
		ctl_printf(c, CTL_WARN, "%llu changes are no longer kept: they are missing here\n",
			(unsigned long long)ju64(o, "lost"));
	}
	json_object_put(o);
	r = ctl_flush(c);
	return r ? -EPIPE : 0;
}

static int watch(struct ctl *c)
{
	_cleanup_buf_ struct mno_buf target = {0};

	mno_buf_adds(&target, BASE "/_watch");
	ctl_param(&target, "ns", c->args->n_pos > 1 ? c->args->pos[1] : NULL);
	ctl_param(&target, "coll", c->args->n_pos > 2 ? c->args->pos[2] : NULL);
	add_flags(c, &target);
	return ctl_follow(c, mno_buf_cstr(&target), on_change, c);
}

int verb_doc(struct ctl *c)
{
	static const struct {
		const char *name, *args;
		size_t min, max; /* arguments after the name */
		int (*fn)(struct ctl *c);
	} actions[] = {
		{"list", "[NS]", 0, 1, list},
		{"put", "NS COLL ID", 3, 3, put},
		{"get", "NS COLL ID", 3, 3, get},
		{"find", "NS COLL [COND...]", 2, 7, find},
		{"delete", "NS COLL ID", 3, 3, delete},
		{"txn", "FILE", 1, 1, txn},
		{"index", "NS COLL [add|drop INDEX]", 2, 4, index_list},
		{"watch", "[NS [COLL]]", 0, 2, watch},
		{"quota", "NS [--documents N] [--bytes N]", 1, 1, quota},
		{"drop", "NS COLL --yes", 2, 2, drop},
	};
	size_t n = c->args->n_pos - 1, i = 0;

	while (i + 1 < ARRAY_SIZE(actions) && strcmp(actions[i].name, c->args->pos[0]))
		i++;
	if (n < actions[i].min || n > actions[i].max)
		return ctl_fail(c, CTL_USAGE, "mnoctl help doc", "usage: mnoctl doc %s %s",
			actions[i].name, actions[i].args);
	return actions[i].fn(c);
}
