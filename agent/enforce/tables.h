/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A compiled policy as plain arrays: what is handed to the kernel side. All arrays stay the
 * caller's and need to live during the call only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "enforce/enforce_wire.h"

/* Which row holds for a class in a domain. A rule for every task is in a place of every domain. */
struct mno_e_place {
	uint32_t domain, cls, row;
};

/* The automaton of a domain: mno_pathset_table() as it is. Its mask and root go into the domain. */
struct mno_e_path_table {
	uint32_t domain;
	const void *bytes;
	size_t size;
};

/* A network; IPv4 as ::ffff:a.b.c.d/(96 + bits). Wider networks' ports are folded in: only the
 * longest match is seen, and of its ports the first that fits. */
struct mno_e_net_row {
	struct mno_e_net_key key;
	struct mno_e_net net;
};

/* An object that exists, by path (followed) or, where @path is NULL, by an open fd. */
struct mno_e_label_row {
	const char *path;
	int fd;
	uint32_t self, below; /* classes; 0: none */
};

struct mno_e_tables {
	uint32_t generation;
	const struct mno_e_rule *rules; /* [0] is unused */
	size_t n_rules;
	const struct mno_e_row *rows; /* [0] is the empty row */
	size_t n_rows;
	const struct mno_e_domain *domains;
	size_t n_domains;
	const struct mno_e_place *places;
	size_t n_places;
	const uint16_t *cap_class, *peer_class,
		*socket_class; /* whole arrays of mno_e_gen, or NULL */
	const struct mno_e_path_table *paths;
	size_t n_paths;
	const struct mno_e_net_row *nets;
	size_t n_nets;
	const struct mno_e_label_row *labels;
	size_t n_labels;
};
