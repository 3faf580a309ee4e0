/* SPDX-License-Identifier: Apache-2.0 */
/* Slots, generations and ticks. The key text and the text format are in key.c and render.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

static void series_done(struct mno_metrics *m, struct metric_series *s)
{
	if (!s->key)
		return;
	m->key_bytes -= s->key_len + 1;
	free(s->key);
	s->key = NULL;
}

static void family_free(struct metric_family *fam)
{
	free((char *)fam->f.name);
	free((char *)fam->f.help);
	free(fam->shown);
	free(fam);
}

struct mno_metrics *mno_metrics_free(struct mno_metrics *m)
{
	if (!m)
		return NULL;
	for (size_t i = 0; m->series && i < m->n_slots; i++)
		series_done(m, &m->series[i]);
	for (size_t i = 0; i < m->n_families; i++) {
		family_free(m->families[i]);
	}
	free(m->families);
	free(m->series);
	free(m->value);
	free(m->stamp);
	free(m->shown);
	free(m->present);
	mno_map_free(m->by_key, NULL);
	mno_buf_done(&m->scratch);
	pthread_mutex_destroy(&m->lock);
	free(m);
	return NULL;
}

int mno_metrics_new(size_t max_series, struct mno_metrics **ret)
{
	_cleanup_(mno_metrics_free_p)
	struct mno_metrics *m = NULL;
	int r;

	if (max_series == 0 || max_series > METRIC_SERIES_MAX)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	pthread_mutex_init(&m->lock, NULL);
	m->max = max_series;
	m->tick = 1;
	m->free_head = METRIC_NONE;
	/* Zero pages until a slot is given: the arrays never move, so set() needs no lock. */
	m->series = calloc(max_series, sizeof(*m->series));
	m->value = calloc(max_series, sizeof(*m->value));
	m->stamp = calloc(max_series, sizeof(*m->stamp));
	m->shown = calloc(max_series, sizeof(*m->shown));
	m->present = calloc(max_series, 1);
	if (!m->series || !m->value || !m->stamp || !m->shown || !m->present)
		return -ENOMEM;
	r = mno_map_new(max_series, &m->by_key);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

/* Index of the family called @name, or where it belongs (*@ret_found = false). */
static size_t family_index(const struct mno_metrics *m, const char *name, bool *ret_found)
{
	size_t lo = 0, hi = m->n_families;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(m->families[mid]->f.name, name);

		if (c == 0) {
			*ret_found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_found = false;
	return lo;
}

static int family_new(const struct mno_family *f, struct metric_family **ret)
{
	struct metric_family *fam = calloc(1, sizeof(*fam));

	if (!fam)
		return -ENOMEM;
	fam->f.name = strdup(f->name);
	fam->f.help = strdup(f->help ? f->help : "");
	fam->f.type = f->type;
	fam->name_len = strlen(f->name);
	fam->head = fam->tail = METRIC_NONE;
	if (!fam->f.name || !fam->f.help || mno_metric_shown_name(f->name, &fam->shown) < 0) {
		family_free(fam);
		return -ENOMEM;
	}
	*ret = fam;
	return 0;
}

static int family_insert(
	struct mno_metrics *m, const struct mno_family *f, size_t at, struct metric_family **ret)
{
	struct metric_family *fam;
	int r;

	if (m->n_families == m->cap_families) {
		size_t cap = m->cap_families ? 2 * m->cap_families : 64;
		void *p = realloc(m->families, cap * sizeof(*m->families));

		if (!p)
			return -ENOMEM;
		m->families = p;
		m->cap_families = cap;
	}
	r = family_new(f, &fam);
	if (r < 0)
		return r;
	memmove(m->families + at + 1, m->families + at,
		(m->n_families - at) * sizeof(*m->families));
	m->families[at] = fam;
	m->n_families++;
	*ret = fam;
	return 0;
}

static int family_get(struct mno_metrics *m, const struct mno_family *f, struct metric_family **ret)
{
	bool found;
	size_t at = family_index(m, f->name, &found);

	if (!found)
		return family_insert(m, f, at, ret);
	if (m->families[at]->f.type != f->type)
		return -EINVAL;
	*ret = m->families[at];
	return 0;
}

static void family_link(struct mno_metrics *m, struct metric_family *fam, uint32_t slot)
{
	struct metric_series *s = &m->series[slot];

	s->family = fam;
	s->next = METRIC_NONE;
	s->prev = fam->tail;
	if (fam->tail == METRIC_NONE)
		fam->head = slot;
	else
		m->series[fam->tail].next = slot;
	fam->tail = slot;
}

static void family_unlink(struct mno_metrics *m, uint32_t slot)
{
	struct metric_series *s = &m->series[slot];

	if (s->prev == METRIC_NONE)
		s->family->head = s->next;
	else
		m->series[s->prev].next = s->next;
	if (s->next == METRIC_NONE)
		s->family->tail = s->prev;
	else
		m->series[s->next].prev = s->prev;
	s->family = NULL;
}

static int slot_take(struct mno_metrics *m, uint32_t *ret)
{
	if (m->free_head != METRIC_NONE) {
		*ret = m->free_head;
		return 0;
	}
	if (m->n_slots == m->max) {
		m->refused++;
		return -ENOSPC;
	}
	*ret = m->n_slots;
	return 0;
}

/* The key is in m->scratch. */
static int add_new(struct mno_metrics *m, const struct mno_family *f, uint32_t *ret)
{
	_cleanup_free_ char *key = NULL;
	struct metric_family *fam;
	struct metric_series *s;
	uint32_t slot;
	int r;

	r = family_get(m, f, &fam);
	if (r < 0)
		return r;
	r = slot_take(m, &slot);
	if (r < 0)
		return r;
	key = malloc(m->scratch.len + 1);
	if (!key)
		return -ENOMEM;
	memcpy(key, m->scratch.data, m->scratch.len);
	key[m->scratch.len] = '\0';
	/* + 1: NULL means "not there". */
	r = mno_map_put(m->by_key, key, m->scratch.len, (void *)(uintptr_t)(slot + 1), NULL);
	if (r < 0)
		return r;
	s = &m->series[slot];
	if (slot == m->free_head)
		m->free_head = s->next;
	else
		m->n_slots++;
	s->key = TAKE_PTR(key);
	s->key_len = m->scratch.len;
	m->key_bytes += s->key_len + 1;
	family_link(m, fam, slot);
	m->value[slot] = 0;
	m->stamp[slot] = 0;
	m->present[slot] = 0;
	m->count++;
	*ret = slot;
	return 0;
}

static uint32_t lookup(const struct mno_metrics *m, const char *key, size_t len)
{
	uintptr_t v = (uintptr_t)mno_map_get(m->by_key, key, len);

	return v ? (uint32_t)(v - 1) : METRIC_NONE;
}

static int add_locked(struct mno_metrics *m, const struct mno_family *f, const char *suffix,
	const struct mno_label *labels, size_t n, uint32_t *ret)
{
	uint32_t slot;
	int r;

	mno_buf_reset(&m->scratch);
	r = mno_metric_key(f, suffix, labels, n, &m->scratch);
	if (r < 0)
		return r;
	slot = lookup(m, m->scratch.data, m->scratch.len);
	if (slot == METRIC_NONE)
		return add_new(m, f, ret);
	/* "x_count" of histogram "x" beside a counter "x_count" would be one key of two meanings. */
	if (strcmp(m->series[slot].family->f.name, f->name) != 0 ||
		m->series[slot].family->f.type != f->type)
		return -EINVAL;
	*ret = slot;
	return 0;
}

int mno_metrics_add(struct mno_metrics *m, const struct mno_family *f, const char *suffix,
	const struct mno_label *labels, size_t n, uint32_t *ret_slot)
{
	int r;

	pthread_mutex_lock(&m->lock);
	r = add_locked(m, f, suffix, labels, n, ret_slot);
	pthread_mutex_unlock(&m->lock);
	return r;
}

void mno_metrics_remove(struct mno_metrics *m, uint32_t slot)
{
	struct metric_series *s;

	pthread_mutex_lock(&m->lock);
	if (slot < m->n_slots && m->series[slot].key) {
		s = &m->series[slot];
		mno_map_remove(m->by_key, s->key, s->key_len);
		family_unlink(m, slot);
		series_done(m, s);
		s->gen++;
		s->next = m->free_head;
		m->free_head = slot;
		m->stamp[slot] = 0;
		m->present[slot] = 0;
		m->count--;
	}
	pthread_mutex_unlock(&m->lock);
}

void mno_metrics_set(struct mno_metrics *m, uint32_t slot, double value)
{
	if (slot >= m->max)
		return;
	m->value[slot] = value;
	m->stamp[slot] = m->tick;
}

double mno_metrics_value(const struct mno_metrics *m, uint32_t slot)
{
	return slot < m->max ? m->value[slot] : 0;
}

int mno_metrics_find(struct mno_metrics *m, const char *key, size_t len, uint32_t *ret_slot)
{
	uint32_t slot;

	pthread_mutex_lock(&m->lock);
	slot = lookup(m, key, len);
	pthread_mutex_unlock(&m->lock);
	if (slot == METRIC_NONE)
		return -ENOENT;
	*ret_slot = slot;
	return 0;
}

void mno_metrics_tick(struct mno_metrics *m, mno_metrics_fn fn, void *arg)
{
	pthread_mutex_lock(&m->lock);
	for (uint32_t i = 0; i < m->n_slots; i++) {
		const struct metric_series *s = &m->series[i];

		/* A slot that was set after its removal has no key. */
		m->present[i] = m->stamp[i] == m->tick && s->key;
		if (!m->present[i])
			continue;
		m->shown[i] = m->value[i];
		if (fn)
			fn(arg, i, s->gen, s->key, s->key_len, m->value[i]);
	}
	m->tick++;
	pthread_mutex_unlock(&m->lock);
}

static size_t locked_size(const struct mno_metrics *cm, const size_t *field)
{
	struct mno_metrics *m = (struct mno_metrics *)cm;
	size_t v;

	pthread_mutex_lock(&m->lock);
	v = *field;
	pthread_mutex_unlock(&m->lock);
	return v;
}

size_t mno_metrics_count(const struct mno_metrics *m)
{
	return locked_size(m, &m->count);
}

size_t mno_metrics_slots(const struct mno_metrics *m)
{
	return locked_size(m, &m->n_slots);
}

uint64_t mno_metrics_refused(const struct mno_metrics *m)
{
	return locked_size(m, &m->refused);
}

size_t mno_metrics_bytes(const struct mno_metrics *cm)
{
	struct mno_metrics *m = (struct mno_metrics *)cm;
	size_t v;

	pthread_mutex_lock(&m->lock);
	v = sizeof(*m) + m->key_bytes + m->scratch.cap + mno_map_bytes(m->by_key) +
	    m->n_families * sizeof(struct metric_family) + m->cap_families * sizeof(void *) +
	    m->n_slots * (sizeof(*m->series) + sizeof(*m->value) + sizeof(*m->stamp) +
				 sizeof(*m->shown) + sizeof(*m->present));
	pthread_mutex_unlock(&m->lock);
	return v;
}
