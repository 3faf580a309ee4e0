/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a backup is whole: hashes, signature, and every value in it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "../crypt/keys_old.h"
#include "../store/store_internal.h"
#include "backup_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/store_check.h"
#include "mno/time.h"

/* "ts-20261123/data.mdb" -> what people lose with it. */
static const char *what_of(const char *path)
{
	for (unsigned c = 0; c < MNO_CLASS_MAX; c++) {
		const struct mno_class_info *i = mno_class_info(c);
		size_t n = strlen(i->dir);

		if (!strncmp(path, i->dir, n) && (path[n] == '/' || path[n] == '-' || !path[n]))
			return i->what;
	}
	return !strncmp(path, "keys/", 5) ? "which key the store wants" : "";
}

void backup_finding(const struct mno_backup_opts *o, const char *path, const char *what)
{
	const char *holds = what_of(path), *slash = strchr(path, '/');
	const char *dash = strchr(path, '-');
	char text[256], when[16] = "";

	if (dash && (!slash || dash < slash))
		snprintf(when, sizeof(when), " of %.*s",
			(int)MNO_MIN(strcspn(dash + 1, "/"), (size_t)8), dash + 1);
	if (slash && !strcmp(slash, "/key"))
		snprintf(text, sizeof(text), "%s. It opens: %s%s", what, holds, when);
	else
		snprintf(text, sizeof(text), "%s%s%s%s", what, *holds ? ". It holds: " : "", holds,
			*holds ? when : "");
	if (o->finding)
		o->finding(o->arg, path, text);
	else
		mno_warn("backup: %s: %s", path, text);
}

/* 1: damaged, and said; 0: whole. */
static int compare_one(int dir_fd, const struct backup_file *f, int to_fd, struct mno_digest *d,
	struct pace *p, struct mno_backup_verdict *ret)
{
	_cleanup_close_ int from = file_open(dir_fd, f->path), to = -1;
	uint8_t hash[MNO_DIGEST_BYTES];
	uint64_t size = 0;
	int r;

	p->env = f->path;
	if (from == -ENOENT || from == -MNO_ECORRUPT || from == -ELOOP || from == -ENOTDIR) {
		backup_finding(
			p->o, f->path, from == -ENOENT ? "the file is missing" : "this is no file");
		return 1;
	}
	if (from < 0)
		return from;
	if (to_fd >= 0) {
		to = file_create(to_fd, f->path);
		if (to < 0)
			return to;
	}
	r = file_digest(from, to, d, p, hash, &size);
	ret->bytes += size;
	if (r == 0 && to >= 0)
		r = file_settle(to);
	if (r < 0 && r != -EIO)
		return r;
	if (r == 0 && size == f->size && !memcmp(hash, f->hash, sizeof(hash)))
		return 0;
	backup_finding(p->o, f->path,
		r == -EIO         ? "the disk cannot read it"
		: size != f->size ? "its length is not what it was"
				  : "its bytes are not what they were");
	return 1;
}

int backup_compare(int dir_fd, const struct manifest *m, int to_fd, bool *bad, struct pace *p,
	struct mno_backup_verdict *ret)
{
	_cleanup_(mno_digest_free_p)
	struct mno_digest *d = NULL;
	int r = mno_digest_new(&d);

	for (size_t i = 0; r >= 0 && i < m->n; i++) {
		r = compare_one(dir_fd, &m->files[i], to_fd, d, p, ret);
		if (r < 0)
			break;
		ret->files++;
		ret->damaged += (uint64_t)r;
		if (bad)
			bad[i] = r;
	}
	return r < 0 ? r : 0;
}

bool backup_signature(const struct manifest *m, const struct mno_buf *text, size_t body,
	const struct mno_keys *keys)
{
	uint8_t pub[MNO_PUBLIC_BYTES];

	return m->is_signed && mno_sign_public(keys, pub) == 0 &&
	       !memcmp(pub, m->pub, sizeof(pub)) && mno_sign_check(pub, text->data, body, m->sig);
}

int backup_no_key(const struct mno_backup_opts *o, const struct manifest *m, const char *where,
	const char *other)
{
	char text[640];

	if (other)
		snprintf(text, sizeof(text),
			"sealed under key %s, which is not here; %s is %s%s: name a copy of the "
			"right one "
			"(a store that changed its key keeps it as keys/kek.%s)",
			m->kek_id, where, *other ? "key " : "another passphrase", other, m->kek_id);
	else if (!where)
		snprintf(text, sizeof(text),
			"sealed under key %s, which is not here; name a copy of it: --key FILE",
			m->kek_id);
	else
		snprintf(text, sizeof(text),
			"sealed under key %s, which is not here; without it only hashes can be "
			"compared: put a copy of it into %s/keys as kek.%s, mode 0600",
			m->kek_id, where, m->kek_id);
	backup_finding(o, MANIFEST, text);
	return -ENOKEY;
}

/* --- every value --------------------------------------------------------------------------------- */

struct walk {
	const struct mno_backup_opts *o;
	uint64_t n;
};

static void walk_finding(void *arg, const struct mno_finding *f)
{
	struct walk *w = arg;
	char text[512];

	w->n++;
	snprintf(text, sizeof(text), "%s %s: %s%s%s", f->db, f->key, f->why,
		*f->lost ? ". Lost: " : "", f->lost);
	if (w->o->finding)
		w->o->finding(w->o->arg, f->env, text);
}

static void walk_progress(void *arg, const struct mno_verify_progress *p)
{
	struct walk *w = arg;
	struct mno_backup_progress b = {
		.env = p->env, .bytes = p->bytes, .of_bytes = p->file_bytes};

	if (w->o->progress)
		w->o->progress(w->o->arg, &b);
}

int backup_walk(const char *dir, const char *key_state, const struct mno_backup_opts *o,
	uint64_t *ret_damaged)
{
	struct mno_store_opts so = {.sz = sizeof(so), .read_only = true, .key_state = key_state};
	_cleanup_(mno_store_close_p)
	struct mno_store *s = NULL;
	struct walk w = {.o = o};
	struct mno_verify_opts vo = {.sz = sizeof(vo),
		.deep = true,
		.bytes_per_s = o->bytes_per_s,
		.cancel = o->cancel,
		.finding = walk_finding,
		.progress = walk_progress,
		.arg = &w};
	struct mno_verify_progress p;
	int r = mno_store_open(dir, &so, &s);

	if (r == -MNO_ECORRUPT) {
		backup_finding(o, "main", "it cannot be opened");
		*ret_damaged += 1;
		return 0;
	}
	if (r == 0)
		r = mno_store_verify(s, &vo, &p);
	if (r == 0)
		*ret_damaged += MNO_MAX(p.damaged, w.n);
	return r;
}

/* --- one backup ------------------------------------------------------------------------------------ */

/* LMDB makes a lock file where it reads: so not in the backup, but elsewhere, over links. */
int backup_link(int at_fd, const char *to, int dir_fd, const char *dir, const struct manifest *m,
	bool (*only)(const char *path))
{
	_cleanup_close_ int b = -1;
	int r = 0;

	tree_remove(at_fd, to);
	if (mkdirat(at_fd, to, 0700) < 0)
		return -errno;
	b = openat(at_fd, to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < m->n; i++) {
		const char *path = m->files[i].path;
		_cleanup_buf_ struct mno_buf target = {0};
		char folder[64];

		if (only && !only(path))
			continue;
		snprintf(folder, sizeof(folder), "%.*s", (int)strcspn(path, "/"), path);
		mno_buf_addf(&target, "%s/%s", dir, path);
		if (mkdirat(b, folder, 0700) < 0 && errno != EEXIST)
			r = -errno;
		else if (linkat(dir_fd, path, b, path, 0) < 0 &&
			 symlinkat(mno_buf_cstr(&target), b, path) < 0)
			r = -errno;
	}
	return r;
}

static int walk_backup(const char *path, const char *key_state, const struct manifest *m,
	const struct mno_backup_opts *o, struct mno_backup_verdict *v)
{
	_cleanup_free_ char *copy = strdup(path), *whole = NULL;
	_cleanup_buf_ struct mno_buf dir = {0};
	_cleanup_close_ int dest = -1, from = -1;
	char *slash, name[64];
	int r;

	if (!copy)
		return -ENOMEM;
	while ((slash = strrchr(copy, '/')) && slash > copy && !slash[1])
		*slash = '\0';
	slash = strrchr(copy, '/');
	dest = open(slash ? (slash == copy ? "/" : (*slash = '\0', copy)) : ".",
		O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dest < 0)
		return -errno;
	snprintf(name, sizeof(name), ".walk-%d", (int)getpid());
	mno_buf_addf(&dir, "%s/%s", slash ? (*copy ? copy : "/") : ".", name);
	whole = realpath(path, NULL);
	from = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = whole && from >= 0 ? backup_link(dest, name, from, whole, m, NULL) : -errno;
	if (r == 0)
		r = backup_walk(mno_buf_cstr(&dir), key_state, o, &v->damaged);
	tree_remove(dest, name);
	v->walked = r == 0;
	return r;
}

static int check_origin(const char *key_state, const struct manifest *m, const struct mno_buf *text,
	size_t body, const struct mno_backup_opts *o, struct mno_backup_verdict *v)
{
	_cleanup_close_ int fd = open(key_state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	int r = fd < 0 ? -errno : m->is_signed ? mno_keys_open_id(fd, m->kek_id, &k) : 0;

	if (r == -ENOKEY || r == -ENOENT)
		return backup_no_key(o, m, key_state, NULL);
	if (r < 0)
		return r;
	if (!k) { /* fine of a store that is not encrypted itself */
		r = mno_keys_open_recorded(fd, &k);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
	}
	v->signature = backup_signature(m, text, body, k);
	if (v->signature)
		return 0;
	backup_finding(o, MANIFEST,
		m->is_signed ? "its signature is not of the key that it names"
			     : "it is not signed");
	v->damaged++;
	return 0;
}

int mno_backup_verify(const char *path, const char *key_state, const struct mno_backup_opts *o,
	struct mno_backup_verdict *ret)
{
	struct mno_backup_opts opts = {.sz = sizeof(opts)};
	_cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_manifest_ struct manifest m = {0};
	_cleanup_buf_ struct mno_buf text = {0};
	struct mno_backup_verdict v = {0};
	struct pace p;
	size_t body = 0;
	int r;

	if (dir < 0)
		return -errno;
	if (o)
		memcpy(&opts, o, MNO_MIN(o->sz, sizeof(opts)));
	r = manifest_read(dir, &m, &text, &body);
	if (r < 0)
		return r;
	manifest_info(&m, strrchr(path, '/') ? strrchr(path, '/') + 1 : path, &v.info);
	v.info.complete = true;
	pace_begin(&p, &opts, v.info.bytes);
	r = backup_compare(dir, &m, -1, NULL, &p, &v);
	if (r == 0 && key_state)
		r = check_origin(key_state, &m, &text, body, &opts, &v);
	if (r == 0 && key_state && !v.damaged)
		r = walk_backup(path, key_state, &m, &opts, &v);
	if (r == 0 || r == -ENOKEY)
		*ret = v;
	return r;
}
