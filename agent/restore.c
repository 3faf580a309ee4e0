/* SPDX-License-Identifier: Apache-2.0 */
#include "restore.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "backup.h"
#include "mno/backup.h"
#include "mno/err.h"
#include "mno/json.h"
#include "mno/log.h"
#include "mno/util.h"

#define FINDINGS_MAX 1000 /* told in JSON */

struct said {
	bool json;
	struct mno_buf findings; /* a JSON list, not closed */
	struct mno_json j;
	size_t n;
};

static const struct {
	int err, exit;
	const char *code, *todo;
} rows[] = {
	{-MNO_ECORRUPT, 1, "no",
		"take another backup; --partial leaves out what is damaged, but for main"},
	{-MNO_EGONE, 1, "no", "name another moment, or another backup (mnoctl backup list)"},
	{-ENODATA, 1, "no", "restore without --docs-until"},
	{-ERANGE, 1, "no", "name an older backup, whose documents are from before that moment"},
	{-EEXIST, 1, "no", "there is a store already: --replace keeps it as .old-..."},
	{-ENOKEY, 5, "invalid", "name the file with the key that it is sealed under: --key FILE"},
	{-EKEYREJECTED, 5, "invalid", "the key has 32 bytes and is closed to others (chmod 0600)"},
	{-MNO_EBUSY_STATE, 7, "busy", "stop the agent that works on it first"},
	{-ENOSPC, 6, "internal", "free some space, or choose --state on another file system"},
	{-ENOENT, 6, "internal",
		"name a directory below that of the backups, and a key file that is there"},
};

static void finding(void *arg, const char *file, const char *what)
{
	struct said *s = arg;
	char text[1024];

	snprintf(text, sizeof(text), "%s: %s", file, what);
	if (!s->json)
		puts(text);
	else if (s->n++ < FINDINGS_MAX)
		mno_json_str(&s->j, text);
}

static void put_line(struct mno_buf *b)
{
	mno_buf_addc(b, '\n');
	if (!b->err)
		fwrite(b->data, 1, b->len, stdout);
	fflush(stdout);
}

static void put_findings(struct mno_json *j, struct said *s)
{
	mno_json_end_arr(&s->j);
	mno_json_key(j, "findings");
	mno_json_raw(j, mno_buf_cstr(&s->findings), s->findings.len);
}

static int fail(const struct mno_options *o, struct said *s, int r)
{
	_cleanup_buf_ struct mno_buf b = {0}, text = {0};
	const char *code = "internal", *todo = NULL;
	struct mno_json j;
	int status = 6;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].err == r) {
			code = rows[i].code;
			todo = rows[i].todo;
			status = rows[i].exit;
		}
	mno_buf_addf(&text, "nothing was restored from %s: %s", o->restore,
		r == -MNO_ECORRUPT ? "it is damaged" : mno_strerror(r));
	if (!s->json) {
		fflush(stdout);
		mno_err("%s%s%s", mno_buf_cstr(&text), todo ? ". What to do: " : "", todo ?: "");
		return status;
	}
	mno_json_init(&j, &b);
	mno_json_obj(&j);
	mno_json_key(&j, "error");
	mno_json_obj(&j);
	mno_json_kstr(&j, "code", code);
	mno_json_kstr(&j, "message", mno_buf_cstr(&text));
	if (todo)
		mno_json_kstr(&j, "hint", todo);
	put_findings(&j, s);
	mno_json_end(&j);
	mno_json_end(&j);
	put_line(&b);
	return status;
}

static void put_json(
	const struct mno_options *o, struct said *s, const struct mno_backup_verdict *v)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_json j;

	mno_json_init(&j, &b);
	mno_json_obj(&j);
	mno_json_kstr(&j, "restored", o->config.state);
	mno_json_kstr(&j, "backup", o->restore);
	mno_json_ku64(&j, "files", v->files);
	mno_json_ku64(&j, "bytes", v->bytes);
	mno_json_ku64(&j, "damaged", v->damaged);
	mno_json_kbool(&j, "signature", v->signature);
	mno_json_kbool(&j, "walked", v->walked);
	if (o->docs_until.seq || o->docs_until.ms) {
		mno_json_ku64(&j, "docs_seq", v->docs.seq);
		mno_json_ki64(&j, "docs_ms", v->docs.ms);
		mno_json_ku64(&j, "docs_changes", v->docs.changes);
	}
	put_findings(&j, s);
	mno_json_end(&j);
	put_line(&b);
}

static void put_text(const struct mno_options *o, const struct mno_backup_verdict *v)
{
	char bytes[16];

	printf("restored %s from %s: %llu files, %s; %s, every value was opened, %llu damaged\n",
		o->config.state, o->restore, (unsigned long long)v->files,
		mno_human_bytes((double)v->bytes, bytes, sizeof(bytes)),
		v->signature ? "the signature is right" : "not signed: the store has no key",
		(unsigned long long)v->damaged);
	if (o->docs_until.seq || o->docs_until.ms)
		printf("documents are as change %llu left them (Unix time %lld.%03d s); %llu "
		       "changes "
		       "after the backup were made again\n",
			(unsigned long long)v->docs.seq, (long long)(v->docs.ms / 1000),
			(int)(v->docs.ms % 1000), (unsigned long long)v->docs.changes);
}

int mno_restore(const struct mno_options *o)
{
	struct said s = {.json = o->json};
	struct mno_restore_opts ro = {.sz = sizeof(ro),
		.key = o->restore_key,
		.replace = o->replace,
		.partial = o->partial,
		.docs_until = o->docs_until.seq || o->docs_until.ms ? &o->docs_until : NULL,
		.o = {.sz = sizeof(ro.o), .finding = finding, .arg = &s}};
	struct mno_backup_verdict v = {0};
	int r;

	mno_json_init(&s.j, &s.findings);
	mno_json_arr(&s.j);
	r = mno_backup_restore(o->restore, o->config.state, &ro, &v);
	if (r < 0)
		r = fail(o, &s, r);
	else if (o->json)
		put_json(o, &s, &v);
	else
		put_text(o, &v);
	mno_buf_done(&s.findings);
	return r ?: v.damaged > 0;
}

int mno_list_backups(const struct mno_options *o)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_backup_info *v = NULL;
	struct mno_json j;
	size_t n = 0;
	int r = mno_backup_list(o->list_backups, &v, &n);

	mno_json_init(&j, &b);
	mno_json_obj(&j);
	if (r < 0) {
		mno_json_key(&j, "error");
		mno_json_obj(&j);
		mno_json_kstr(&j, "code", r == -ENOENT ? "no" : "internal");
		mno_json_kstr(&j, "message", mno_strerror(r));
		mno_json_end(&j);
	} else {
		mno_json_kstr(&j, "directory", o->list_backups);
		mno_backups_put_list(&j, v, n);
	}
	mno_json_end(&j);
	free(v);
	put_line(&b);
	return r == -ENOENT ? 1 : r < 0 ? 6 : 0;
}
