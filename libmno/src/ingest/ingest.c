/* SPDX-License-Identifier: Apache-2.0 */
/* The ingester: formats, portions into lines, series, batches, accounts. */
#include <errno.h>
#include <strings.h>
#include <sys/random.h>

#include "ingest_internal.h"
#include "mno/util.h"

#define EXAMPLES_EACH 3 /* of one reason */

static const struct mno_ingest_format formats[] = {
#define FORMAT(name, symbol, extensions, summary) {#name, extensions, summary, &symbol},
#include "formats.def"
#undef FORMAT
};

const struct mno_ingest_format *mno_ingest_format_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}

const struct mno_ingest_format *mno_ingest_format_at(size_t i)
{
	return i < ARRAY_SIZE(formats) ? &formats[i] : NULL;
}

const char *mno_ingest_format_name(const struct mno_ingest_format *f)
{
	return f->name;
}

const char *mno_ingest_format_summary(const struct mno_ingest_format *f)
{
	return f->summary;
}

/* Whether @word is one of the words of @list. */
static bool is_listed(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; *p; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");

		if (len == n && strncasecmp(p, word, n) == 0)
			return true;
		p += len;
	}
	return false;
}

static const struct mno_ingest_format *guess_by_text(const char *first, size_t n, unsigned bonus[])
{
	const struct mno_ingest_format *best = NULL;
	unsigned most = 20; /* fewer is chance */

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		unsigned score = formats[i].ops->looks(first, n);

		score += score ? bonus[i] : 0;
		if (score > most) {
			most = score;
			best = &formats[i];
		}
	}
	return best;
}

const struct mno_ingest_format *mno_ingest_format_guess(
	const char *file, const char *first, size_t n)
{
	const char *slash = file ? strrchr(file, '/') : NULL;
	const char *dot = file ? strrchr(slash ? slash : file, '.') : NULL;
	const struct mno_ingest_format *by_name = NULL, *by_text;
	unsigned bonus[ARRAY_SIZE(formats)] = {0};

	for (size_t i = 0; dot && i < ARRAY_SIZE(formats); i++)
		if (is_listed(formats[i].extensions, dot + 1)) {
			by_name = &formats[i];
			bonus[i] = 60;
		}
	by_text = n ? guess_by_text(first, n, bonus) : NULL;
	return by_text ? by_text : by_name;
}

static const struct {
	const char *name, *text;
} reasons[MNO_INGEST_REASON_N] = {
#define X(id, name, text) [MNO_INGEST_##id] = {#name, text},
	MNO_INGEST_REASONS(X)
#undef X
};

const char *mno_ingest_reason_name(enum mno_ingest_reason r)
{
	return r < ARRAY_SIZE(reasons) ? reasons[r].name : NULL;
}

const char *mno_ingest_reason_text(enum mno_ingest_reason r)
{
	return r < ARRAY_SIZE(reasons) ? reasons[r].text : NULL;
}

uint64_t mno_ingest_refused(const struct mno_ingest_stat *st)
{
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(st->refused); i++)
		n += st->refused[i];
	return n;
}

/* --- accounts ------------------------------------------------------------------------------------- */

void ingest_refuse(struct mno_ingest *p, enum mno_ingest_reason why, uint64_t n, const char *s,
	const char *end)
{
	struct mno_ingest_stat *st = &p->st;
	struct mno_ingest_example *e = &st->examples[st->n_examples];
	size_t have = 0, len = MNO_MIN((size_t)(end - s), sizeof(e->text) - 1);

	st->refused[why] += n;
	for (size_t i = 0; i < st->n_examples; i++)
		have += st->examples[i].reason == why;
	if (!n || have == EXAMPLES_EACH || st->n_examples == MNO_INGEST_EXAMPLES)
		return;
	e->line = st->lines;
	e->reason = why;
	for (size_t i = 0; i < len; i++)
		e->text[i] = s[i] ? s[i] : '.';
	/* not in the middle of a character */
	while (len && len < (size_t)(end - s) && (s[len] & 0xc0) == 0x80 &&
		(e->text[len - 1] & 0x80))
		len--;
	e->text[len] = '\0';
	st->n_examples++;
}

void ingest_flush(struct mno_ingest *p)
{
	int64_t first = INT64_MAX, last = INT64_MIN;
	int r;

	if (!p->n)
		return;
	for (size_t i = 0; i < p->n; i++) {
		first = MNO_MIN(first, p->batch[i].t_ms);
		last = MNO_MAX(last, p->batch[i].t_ms);
	}
	if (!p->st.samples || first < p->st.first_ms)
		p->st.first_ms = first;
	if (!p->st.samples || last > p->st.last_ms)
		p->st.last_ms = last;
	p->st.samples += p->n;
	r = p->err ? 0 : p->sink.samples(p->arg, p->batch, p->n);
	p->n = 0;
	if (r < 0)
		p->err = r;
}

/* --- series ------------------------------------------------------------------------------------- */

static void forget(struct mno_ingest *p)
{
	int r;

	ingest_flush(p);
	ingest_cache_clear(&p->cache);
	r = p->sink.forget(p->arg);
	if (r < 0 && !p->err)
		p->err = r;
}

/* Number of the series with the key in p->key. */
static uint32_t series_of_key(struct mno_ingest *p, bool *ret_new)
{
	struct ingest_cache *c = &p->cache;
	uint64_t hash = ingest_hash(c, p->key.data, p->key.len);
	uint32_t e = ingest_cache_find(c, p->key.data, p->key.len, hash);
	int r;

	*ret_new = e == INGEST_NONE;
	if (e != INGEST_NONE)
		return c->v[e].series;
	r = ingest_cache_add(c, p->key.data, p->key.len, hash, c->n_series, &e);
	if (r == 0 && !p->err)
		r = p->sink.series(p->arg, c->n_series, p->key.data, p->key.len);
	if (r < 0) {
		p->err = p->err ? p->err : r;
		return INGEST_NONE;
	}
	p->st.series++;
	return c->n_series++;
}

/* The key in p->key is what @s stands for from now on. */
static uint32_t add_series(struct mno_ingest *p, const char *s, size_t n)
{
	struct ingest_cache *c = &p->cache;
	uint32_t series, e;
	bool made;

	if (ingest_cache_full(c, n + p->key.len))
		forget(p);
	series = series_of_key(p, &made);
	if (series == INGEST_NONE)
		return series;
	if (n == p->key.len && memcmp(s, p->key.data, n) == 0) {
		e = ingest_cache_find(c, s, n, ingest_hash(c, s, n));
	} else if (ingest_cache_add(c, s, n, ingest_hash(c, s, n), series, &e) < 0) {
		p->err = p->err ? p->err : -ENOMEM;
		return INGEST_NONE;
	}
	ingest_cache_follow(c, e);
	return series;
}

static uint32_t find_series(struct mno_ingest *p, const char *s, size_t n)
{
	struct ingest_cache *c = &p->cache;
	uint32_t e = ingest_cache_find(c, s, n, ingest_hash(c, s, n));

	if (e == INGEST_NONE)
		return e;
	ingest_cache_follow(c, e);
	return c->v[e].series;
}

static enum mno_ingest_reason key_error(struct mno_ingest *p)
{
	if (p->key.err == -ENOMEM || p->labels.text.err == -ENOMEM)
		p->err = p->err ? p->err : -ENOMEM;
	return MNO_INGEST_LONG_LABELS;
}

enum mno_ingest_reason ingest_series_why(struct mno_ingest *p, const char *s, const char *end)
{
	enum mno_ingest_reason why = ingest_labels_parse(&p->labels, s, end, &p->key);

	return p->key.err || p->labels.text.err ? key_error(p) : why;
}

uint32_t ingest_series(
	struct mno_ingest *p, const char *s, const char *end, enum mno_ingest_reason *ret_why)
{
	size_t n = (size_t)(end - s);
	uint32_t series = find_series(p, s, n);

	if (series != INGEST_NONE)
		return series;
	*ret_why = ingest_series_why(p, s, end);
	if (*ret_why)
		return INGEST_NONE;
	return add_series(p, s, n);
}

uint32_t ingest_series_labels(
	struct mno_ingest *p, const char *raw, size_t n, enum mno_ingest_reason *ret_why)
{
	*ret_why = ingest_labels_key(&p->labels, &p->key);
	if (p->key.err)
		*ret_why = key_error(p);
	return *ret_why ? INGEST_NONE : add_series(p, raw, n);
}

/* --- lines ---------------------------------------------------------------------------------------- */

static void one_line(struct mno_ingest *p, const char *s, const char *end, ingest_line_fn fn)
{
	p->st.lines++;
	if (end > s && end[-1] == '\r')
		end--;
	fn(p, s, end);
}

/* The first part of a line, or one more. */
static void carry(struct mno_ingest *p, const char *s, size_t n)
{
	size_t room = INGEST_LINE_MAX - p->carry.len;

	if (p->skipping)
		return;
	mno_buf_add(&p->carry, s, MNO_MIN(n, room));
	if (p->carry.err) {
		p->err = p->err ? p->err : -ENOMEM;
		p->skipping = true;
	} else if (n > room) {
		p->st.lines++;
		ingest_refuse(
			p, MNO_INGEST_TOO_LONG, 1, p->carry.data, p->carry.data + p->carry.len);
		p->skipping = true;
	}
}

static void carry_end(struct mno_ingest *p, ingest_line_fn fn)
{
	if (!p->skipping)
		one_line(p, p->carry.data, p->carry.data + p->carry.len, fn);
	p->skipping = false;
	mno_buf_reset(&p->carry);
}

void ingest_lines(struct mno_ingest *p, const char *s, size_t n, ingest_line_fn fn)
{
	const char *end = s + n, *nl;

	while (!p->err && (nl = memchr(s, '\n', (size_t)(end - s)))) {
		if (p->carry.len || p->skipping || (size_t)(nl - s) > INGEST_LINE_MAX) {
			carry(p, s, (size_t)(nl - s));
			carry_end(p, fn);
		} else {
			one_line(p, s, nl, fn);
		}
		s = nl + 1;
	}
	if (!p->err && s < end)
		carry(p, s, (size_t)(end - s));
}

void ingest_lines_end(struct mno_ingest *p, ingest_line_fn fn)
{
	if (p->carry.len || p->skipping)
		carry_end(p, fn);
}

/* --- life ----------------------------------------------------------------------------------------- */

int mno_ingest_new(const struct mno_ingest_format *f, const struct mno_ingest_opts *o,
	const struct mno_ingest_sink *sink, void *arg, struct mno_ingest **ret)
{
	_cleanup_(mno_ingest_free_p)
	struct mno_ingest *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->format = f;
	if (o)
		p->o = *o;
	if (!p->o.min_ms && !p->o.max_ms) {
		p->o.min_ms = -INGEST_T_MAX;
		p->o.max_ms = INGEST_T_MAX;
	}
	p->sink = *sink;
	p->arg = arg;
	if (getrandom(&p->cache.seed, sizeof(p->cache.seed), GRND_NONBLOCK) < 0)
		p->cache.seed = (uint64_t)(uintptr_t)p;
	p->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	p->state = calloc(1, f->ops->state_size ? f->ops->state_size : 1);
	if (!p->c_locale || !p->state)
		return -ENOMEM;
	*ret = TAKE_PTR(p);
	return 0;
}

struct mno_ingest *mno_ingest_free(struct mno_ingest *p)
{
	if (!p)
		return NULL;
	if (p->state && p->format->ops->done)
		p->format->ops->done(p);
	free(p->state);
	if (p->c_locale)
		freelocale(p->c_locale);
	ingest_cache_done(&p->cache);
	mno_buf_done(&p->labels.text);
	mno_buf_done(&p->key);
	mno_buf_done(&p->carry);
	free(p);
	return NULL;
}

int mno_ingest_feed(struct mno_ingest *p, const void *bytes, size_t n)
{
	if (!p->err && n) {
		p->st.bytes += n;
		p->format->ops->feed(p, bytes, n);
	}
	return p->err;
}

int mno_ingest_end(struct mno_ingest *p, struct mno_ingest_stat *ret)
{
	if (!p->err)
		p->format->ops->end(p);
	ingest_flush(p);
	if (ret)
		*ret = p->st;
	return p->err;
}

const struct mno_ingest_stat *mno_ingest_stat(const struct mno_ingest *p)
{
	return &p->st;
}
