/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents of a restored copy brought on to a moment after its backup, by the change feeds that
 * later backups carry. A feed is used only if its history is that of the copy: the last change the
 * copy has must be the same there, byte for byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "../crypt/hash.h"
#include "../store/codec.h"
#include "../store/store_internal.h"
#include "backup_internal.h"
#include "mno/arena.h"
#include "mno/docs.h"
#include "mno/err.h"
#include "mno/time.h"

#define BATCH       1024u        /* changes of a transaction, more only of one moment */
#define BATCH_BYTES (1u << 20)   /* the same */
#define ARENA_MAX   (256u << 20) /* of one moment: 16 of the longest values */
#define LINK        16u

struct until {
	struct mno_docs *d; /* of the copy */
	const char *staging;
	const struct mno_docs_until *want;
	const struct mno_backup_opts *o;
	struct mno_arena *arena; /* of what .c borrows */
	struct mno_doc_change *c;
	size_t n, cap, bytes;
	uint64_t next;      /* the first change that is not there */
	uint64_t missing;   /* first change that a feed still has, when that is later than .next */
	uint8_t link[LINK]; /* of the change before it */
	bool linked, reached;  /* reached: all that is wanted is there */
	bool no_key, no_value; /* why a feed could not be used */
	struct mno_docs_reached v;
};

/* --- one change ------------------------------------------------------------------------------- */

static void add_bytes(struct mno_buf *b, const void *p, size_t n)
{
	mno_varint_add(b, n);
	mno_buf_add(b, n ? p : "", n);
}

static int link_of(const struct mno_doc_change *c, uint8_t ret[LINK])
{
	_cleanup_buf_ struct mno_buf b = {0};

	mno_varint_add(&b, c->seq);
	mno_varint_add(&b, mno_zigzag(c->time_ms));
	mno_buf_addc(&b, (char)c->op);
	mno_buf_addc(&b, (char)c->doc.kind);
	add_bytes(&b, c->ns, strlen(c->ns));
	add_bytes(&b, c->coll, strlen(c->coll));
	add_bytes(&b, c->doc.id, c->doc.id_len);
	add_bytes(&b, c->doc.value, c->doc.value ? c->doc.len : 0);
	if (b.err)
		return b.err;
	mno_hash16(NULL, b.data, b.len, ret);
	return 0;
}

struct look {
	uint64_t seq;
	uint8_t link[LINK];
	int64_t ms;
	bool found;
};

static int look_at(void *arg, const struct mno_doc_change *c)
{
	struct look *l = arg;

	if (c->seq != l->seq)
		return 1;
	l->found = true;
	l->ms = c->time_ms;
	return link_of(c, l->link) ?: 1;
}

/* The change @seq as the feed of @d has it; not .found when it is not kept. */
static int look_up(struct mno_docs *d, uint64_t seq, struct look *ret)
{
	uint64_t next;
	int r;

	*ret = (struct look){.seq = seq};
	r = seq ? mno_docs_feed_read(d, seq, look_at, ret, &next) : 0;
	return r == -MNO_EGONE || r > 0 ? 0 : r;
}

static bool beyond(const struct until *x, const struct mno_doc_change *c)
{
	return x->want->seq ? c->seq > x->want->seq : c->time_ms > x->want->ms;
}

/* --- batches ------------------------------------------------------------------------------------ */

static int apply(struct until *x)
{
	struct mno_docs_error err = {0};
	const struct mno_doc_change *end;
	char text[640];
	int r;

	if (!x->n)
		return 0;
	end = &x->c[x->n - 1];
	r = mno_docs_replay(x->d, x->c, x->n, &err);
	if (r == 0)
		r = link_of(end, x->link);
	if (r < 0) {
		snprintf(text, sizeof(text), "change %llu cannot be made again: %s",
			(unsigned long long)x->c[MNO_MIN(err.op, x->n - 1)].seq, err.msg);
		backup_finding(x->o, "docs", text);
		return r;
	}
	x->v.changes += x->n;
	x->v.seq = end->seq;
	x->v.ms = end->time_ms;
	x->next = end->seq + 1;
	x->linked = true;
	x->n = x->bytes = 0;
	mno_arena_reset(x->arena);
	return x->o->cancel && atomic_load(x->o->cancel) ? -ECANCELED : 0;
}

static void *copy(struct until *x, const void *p, size_t n, bool *bad)
{
	void *q = mno_arena_alloc(x->arena, n + 1);

	*bad |= !q;
	if (q && n)
		memcpy(q, p, n);
	return q;
}

static int keep(struct until *x, const struct mno_doc_change *c)
{
	struct mno_doc_change *v = x->c;
	bool bad = false;

	if (x->n == x->cap) {
		v = reallocarray(v, x->cap * 2 + 64, sizeof(*v));
		if (!v)
			return -ENOMEM;
		x->c = v;
		x->cap = x->cap * 2 + 64;
	}
	v = &x->c[x->n];
	*v = *c;
	v->ns = mno_arena_strndup(x->arena, c->ns, strlen(c->ns));
	v->coll = mno_arena_strndup(x->arena, c->coll, strlen(c->coll));
	v->doc.id = copy(x, c->doc.id, c->doc.id_len, &bad);
	if (c->doc.value)
		v->doc.value = copy(x, c->doc.value, c->doc.len, &bad);
	if (bad || !v->ns || !v->coll)
		return -ENOMEM;
	x->bytes += c->doc.len + c->doc.id_len;
	x->n++;
	return 0;
}

/* What is neither put nor delete has a transaction of its own; the others are not split within a
 * moment, which a transaction of theirs may have been. */
static int take_change(void *arg, const struct mno_doc_change *c)
{
	struct until *x = arg;
	bool alone = c->op >= MNO_DOC_CHANGE_DROP, full;
	int r = 0;

	x->reached = beyond(x, c);
	if (x->reached)
		return 1;
	if (c->op == MNO_DOC_CHANGE_PUT && !c->doc.value) {
		x->no_value = true;
		return -ENODATA;
	}
	full = x->n && (x->n >= BATCH || x->bytes > BATCH_BYTES) &&
	       x->c[x->n - 1].time_ms != c->time_ms;
	if (full || alone)
		r = apply(x);
	if (r == 0)
		r = keep(x, c);
	return r == 0 && alone ? apply(x) : r;
}

/* --- one feed ----------------------------------------------------------------------------------- */

/* @complete_ms: it has every change up to then. */
static int take_feed(struct until *x, struct mno_docs *src, const char *name, int64_t complete_ms)
{
	uint64_t oldest, next;
	struct look at;
	int r = mno_docs_feed_bounds(src, &oldest, &next);

	if (r == 0 && next <= x->next)
		return next == x->next && !x->want->seq && complete_ms >= x->want->ms
			       ? (x->reached = true, 0)
			       : 0;
	if (r == 0)
		r = look_up(src, x->next - 1, &at);
	if (r < 0)
		return r;
	if (at.found && x->linked && memcmp(at.link, x->link, LINK) != 0) {
		backup_finding(x->o, name,
			"its documents are of another history: they were restored in between");
		return 0;
	}
	if (oldest > x->next) {
		x->missing = x->missing ? MNO_MIN(x->missing, oldest) : oldest;
		return 0;
	}
	r = mno_docs_feed_read(src, x->next, take_change, x, &next);
	if (r >= 0)
		r = apply(x);
	if (r == 0 && x->want->seq)
		x->reached = x->next > x->want->seq;
	else if (r == 0)
		x->reached |= complete_ms >= x->want->ms;
	return r;
}

static int open_feed(struct until *x, const char *dir, const char *name, int64_t complete_ms)
{
	const struct mno_docs_opts dopts = {.sz = sizeof(dopts), .no_worker = true};
	struct mno_store_opts so = {.sz = sizeof(so), .read_only = true, .key_state = x->staging};
	_cleanup_(mno_store_close_p)
	struct mno_store *s = NULL;
	_cleanup_(mno_docs_close_p)
	struct mno_docs *d = NULL;
	int r = mno_store_open(dir, &so, &s);

	if (r == 0)
		r = mno_docs_open(s, &dopts, &d);
	return r ?: take_feed(x, d, name, complete_ms);
}

static bool wanted_file(const char *path)
{
	return !strncmp(path, "main/", 5) || !strncmp(path, "docs/", 5) ||
	       !strncmp(path, "keys/", 5);
}

/* Only those files, whole. 1: it cannot be used, and that was said. */
static int check_files(struct until *x, int fd, const struct manifest *m, const char *name)
{
	_cleanup_manifest_ struct manifest part = {0};
	struct mno_backup_verdict v = {0};
	struct pace p;
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n; i++)
		if (wanted_file(m->files[i].path))
			r = manifest_add(&part, &m->files[i]);
	pace_begin(&p, x->o, 0);
	if (r == 0)
		r = backup_compare(fd, &part, -1, NULL, &p, &v);
	if (r == 0 && v.damaged)
		backup_finding(x->o, name, "it is damaged: its feed is not used");
	return r < 0 ? r : v.damaged > 0;
}

/* Why a feed was not used, for people; errors that end it all stay errors. */
static int not_used(struct until *x, const char *name, int r)
{
	static const int fatal[] = {-ENOMEM, -ECANCELED, -ENOSPC, -ENODATA, -EMFILE};
	char text[256];

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
		if (r == fatal[i])
			return r;
	x->no_key |= r == -ENOKEY;
	snprintf(text, sizeof(text), "its feed cannot be used: %s%s", mno_strerror(r),
		r == -ENOKEY ? " (it is sealed under another key than the backup)" : "");
	backup_finding(x->o, name, text);
	return x->n ? r : 0;
}

static int one_backup(struct until *x, int dest, const char *name, const char *store)
{
	_cleanup_close_ int fd =
		openat(dest, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_manifest_ struct manifest m = {0};
	_cleanup_buf_ struct mno_buf proc = {0}, view = {0};
	_cleanup_free_ char *whole = NULL;
	int r = fd < 0 ? -errno : manifest_read(fd, &m, NULL, NULL);

	if (r == -ENOMEM)
		return r;
	if (r < 0 || strcmp(m.store, store) != 0)
		return r < 0 ? not_used(x, name, r) : 0;
	r = check_files(x, fd, &m, name);
	if (r != 0)
		return MNO_MIN(r, 0);
	mno_buf_addf(&proc, "/proc/self/fd/%d", fd);
	whole = realpath(mno_buf_cstr(&proc), NULL);
	mno_buf_addf(&view, "%s.feed", x->staging);
	r = whole ? backup_link(AT_FDCWD, mno_buf_cstr(&view), fd, whole, &m, wanted_file) : -errno;
	if (r == 0)
		r = open_feed(x, mno_buf_cstr(&view), name, m.time_ms);
	tree_remove(AT_FDCWD, mno_buf_cstr(&view));
	return r < 0 ? not_used(x, name, r) : 0;
}

/* --- all of them --------------------------------------------------------------------------------- */

static int check_start(struct until *x, int64_t complete_ms)
{
	uint64_t oldest;
	struct look at = {0};
	int r = mno_docs_feed_bounds(x->d, &oldest, &x->next);

	if (r == 0)
		r = look_up(x->d, x->next - 1, &at);
	if (r < 0)
		return r;
	x->linked = at.found;
	memcpy(x->link, at.link, LINK);
	x->v.seq = x->next - 1;
	x->v.ms = at.ms;
	if (x->want->seq ? x->v.seq > x->want->seq : at.ms > x->want->ms) {
		backup_finding(x->o, "docs",
			"the backup has later changes than that already: name an older one");
		return -ERANGE;
	}
	x->reached = x->want->seq ? x->v.seq == x->want->seq : complete_ms >= x->want->ms;
	return 0;
}

/* The feeds end before what is wanted, or do not begin where the backup ends. */
static int refuse(struct until *x)
{
	char text[320], when[64] = "";

	if (x->missing)
		snprintf(text, sizeof(text),
			"changes %llu to %llu are in no feed any more: name a later backup, or a "
			"moment before them",
			(unsigned long long)x->next, (unsigned long long)x->missing - 1);
	else {
		if (x->v.ms)
			snprintf(when, sizeof(when), " of %lld.%03d s (Unix time)",
				(long long)(x->v.ms / 1000), (int)(x->v.ms % 1000));
		snprintf(text, sizeof(text),
			"the last change that is known is %llu%s: later ones are in no backup that "
			"can be used%s",
			(unsigned long long)x->v.seq, when, x->no_key ? ", for want of a key" : "");
	}
	backup_finding(x->o, "docs", text);
	return x->no_key ? -ENOKEY : -MNO_EGONE;
}

static int each_backup(struct until *x, int dest, const char *name, const char *store)
{
	char(*v)[MNO_BACKUP_NAME] = NULL;
	size_t n = 0;
	int r = dest_names(dest, &v, &n);

	while (r == 0 && n-- && !x->reached) /* the oldest first */
		if (strcmp(v[n], name) > 0)
			r = one_backup(x, dest, v[n], store);
	free(v);
	return r;
}

static int open_copy(struct until *x, const char *staging, struct mno_store **ret)
{
	const struct mno_docs_opts dopts = {.sz = sizeof(dopts), .no_worker = true};
	struct mno_store_opts so = {.sz = sizeof(so)};
	int r = mno_store_open(staging, &so, ret);

	if (r == 0)
		r = mno_docs_open(*ret, &dopts, &x->d);
	return r ?: mno_arena_new(ARENA_MAX, &x->arena);
}

int backup_docs_until(const char *staging, int dest, const char *name, const struct manifest *m,
	const char *old, const struct mno_docs_until *until, const struct mno_backup_opts *o,
	struct mno_docs_reached *ret)
{
	struct until x = {.staging = staging, .want = until, .o = o};
	struct mno_store *s = NULL;
	int r = open_copy(&x, staging, &s);

	if (r == 0)
		r = check_start(&x, m->time_ms);
	if (r == 0 && dest >= 0 && !x.reached)
		r = each_backup(&x, dest, name, m->store);
	if (r == 0 && old && !x.reached) {
		r = open_feed(&x, old, "the store that is there", mno_now_ms());
		r = r < 0 ? not_used(&x, "the store that is there", r) : 0;
	}
	if (r == 0 && !x.reached)
		r = refuse(&x);
	if (r == -ENODATA)
		backup_finding(
			o, "docs", "the feed was kept without values: it cannot be replayed");
	*ret = x.v;
	mno_docs_close(x.d);
	mno_store_close(s);
	mno_arena_free(x.arena);
	free(x.c);
	return r;
}
