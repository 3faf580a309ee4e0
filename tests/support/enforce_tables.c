/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>
#include "enforce_tables.h"

void mkt_init(struct mkt *m)
{
	uint32_t generation = m->t.generation;

	memset(m, 0, sizeof(*m));
	m->t.generation = generation;
	m->t.n_rules = m->t.n_rows = 1;
	m->next_class = MNO_E_CLASS_FREE;
}

uint32_t mkt_class(struct mkt *m)
{
	return m->next_class++;
}

uint32_t mkt_label(struct mkt *m, const char *path, bool alone)
{
	uint32_t cls = mkt_class(m);

	assert(m->t.n_labels < MKT_MAX);
	m->labels[m->t.n_labels++] = (struct mno_e_label_row){
		.path = path, .fd = -1, .self = alone ? cls : 0, .below = alone ? 0 : cls};
	return cls;
}

static struct mno_e_row *row(struct mkt *m, uint32_t domain, uint32_t cls)
{
	for (size_t i = 0; i < m->t.n_places; i++)
		if (m->places[i].domain == domain && m->places[i].cls == cls)
			return &m->rows[m->places[i].row];
	assert(m->t.n_places < MKT_MAX && m->t.n_rows < MKT_MAX);
	m->places[m->t.n_places++] =
		(struct mno_e_place){.domain = domain, .cls = cls, .row = (uint32_t)m->t.n_rows};
	return &m->rows[m->t.n_rows++];
}

static uint32_t add_rule(struct mkt *m, enum mno_e_verdict verdict, uint32_t id)
{
	uint32_t n = (uint32_t)m->t.n_rules++;

	assert(n < MKT_MAX);
	m->rules[n] = (struct mno_e_rule){.id = id, .rank = n, .verdict = (uint8_t)verdict};
	return n;
}

uint32_t mkt_rule(struct mkt *m, uint32_t domain, uint32_t cls, enum mno_e_op op,
	enum mno_e_verdict verdict, uint32_t id)
{
	uint32_t n = add_rule(m, verdict, id);

	row(m, domain, cls)->rule[op] = (uint16_t)n;
	m->domains[domain].ops |= 1u << op;
	m->domains[domain].ops_label |= 1u << op;
	return n;
}

void mkt_enter(struct mkt *m, uint32_t domain, uint32_t cls, uint32_t to)
{
	row(m, domain, cls)->enter = (uint16_t)to;
	m->domains[domain].ops |= 1u << MNO_E_EXEC;
	m->domains[domain].ops_label |= 1u << MNO_E_EXEC;
}

void mkt_unresolved(struct mkt *m, uint32_t domain, enum mno_e_verdict verdict, uint32_t id)
{
	m->domains[domain].unresolved_rule = (uint16_t)add_rule(m, verdict, id);
}

void mkt_path(struct mkt *m, uint32_t domain, const void *table, size_t size, uint32_t mask,
	uint32_t root)
{
	m->paths[m->t.n_paths++] =
		(struct mno_e_path_table){.domain = domain, .bytes = table, .size = size};
	m->domains[domain].path_mask = mask;
	m->domains[domain].path_root = root;
	m->domains[domain].ops_path = m->domains[domain].ops;
}

/* Rows of 64 cells: class 0 is the end, 1 to 62 are the bytes that patterns have, 63 all others. */
void mkt_comb_init(struct mkt_comb *c)
{
	memset(c, 0, sizeof(*c));
	memset(c->bytes, 63, 256);
	c->next = 2 * MKT_COMB_ROOT;
}

static uint8_t class_of(struct mkt_comb *c, uint8_t byte)
{
	uint8_t most = 0;

	if (c->bytes[byte] != 63)
		return c->bytes[byte];
	for (size_t i = 0; i < 256; i++)
		if (c->bytes[i] != 63 && c->bytes[i] > most)
			most = c->bytes[i];
	assert(most < 62);
	return c->bytes[byte] = (uint8_t)(most + 1);
}

static uint64_t *cell(struct mkt_comb *c, uint32_t state, uint32_t cls)
{
	return (uint64_t *)(c->bytes + 256) + ((state + cls) & MKT_COMB_MASK);
}

void mkt_comb_add(struct mkt_comb *c, const char *pattern, uint32_t cls)
{
	size_t n = strlen(pattern);
	bool below = n > 3 && !strcmp(pattern + n - 3, "/**");
	uint32_t state = MKT_COMB_ROOT;

	if (below)
		n -= 2;
	for (size_t i = 0; i < n; i++) {
		uint64_t *e = cell(c, state, class_of(c, (uint8_t)pattern[i]));

		if (!*e) {
			uint32_t to = c->next;

			c->next += 64;
			assert(c->next <= MKT_COMB_MASK);
			if (below && i + 1 == n)
				to |= 0x80000000;
			*e = (uint64_t)state << 32 | to;
		}
		state = (uint32_t)*e;
	}
	*cell(c, state, 0) = (uint64_t)state << 32 | cls;
}

const struct mno_e_tables *mkt_done(struct mkt *m)
{
	m->t.rules = m->rules;
	m->t.rows = m->rows;
	m->t.domains = m->domains;
	m->t.n_domains = MNO_E_DOMAINS;
	m->t.places = m->places;
	m->t.paths = m->paths;
	m->t.nets = m->nets;
	m->t.labels = m->labels;
	m->t.cap_class = m->cap_class;
	m->t.peer_class = m->peer_class;
	m->t.socket_class = m->socket_class;
	return &m->t;
}
