/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of a policy put together by hand, for tests of the kernel side. */
#pragma once

#include <stdbool.h>
#include "enforce/tables.h"

#define MKT_MAX 64

struct mkt {
	struct mno_e_rule rules[MKT_MAX];
	struct mno_e_row rows[MKT_MAX];
	struct mno_e_domain domains[MNO_E_DOMAINS];
	struct mno_e_place places[MKT_MAX];
	struct mno_e_path_table paths[MNO_E_DOMAINS];
	struct mno_e_net_row nets[MKT_MAX];
	struct mno_e_label_row labels[MKT_MAX];
	uint16_t cap_class[64], peer_class[MNO_E_DOMAINS], socket_class[64];
	uint32_t next_class;
	struct mno_e_tables t;
};

/* Empties all but the generation. */
void mkt_init(struct mkt *m);
/* A new class for the object @path (kept by the caller): of it alone, or of all below it, too. */
uint32_t mkt_label(struct mkt *m, const char *path, bool alone);
uint32_t mkt_class(struct mkt *m);
/* Of two rules the later has the higher rank. Returns the rule's index. */
uint32_t mkt_rule(struct mkt *m, uint32_t domain, uint32_t cls, enum mno_e_op op,
	enum mno_e_verdict verdict, uint32_t id);
void mkt_enter(struct mkt *m, uint32_t domain, uint32_t cls, uint32_t to);
void mkt_unresolved(struct mkt *m, uint32_t domain, enum mno_e_verdict verdict, uint32_t id);
void mkt_path(struct mkt *m, uint32_t domain, const void *table, size_t size, uint32_t mask,
	uint32_t root);
/* An automaton of few patterns: exact, or all below when it ends with a slash-star-star. */
struct mkt_comb {
	uint32_t next; /* base of the next state */
	uint8_t bytes[256 + 8 * 16384];
};
#define MKT_COMB_MASK 16383
#define MKT_COMB_ROOT 64
void mkt_comb_init(struct mkt_comb *c);
void mkt_comb_add(struct mkt_comb *c, const char *pattern, uint32_t cls);

const struct mno_e_tables *mkt_done(struct mkt *m);
