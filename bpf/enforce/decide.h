/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision, once, for BPF programs and for plain C: pure, no loop without a bound, every index
 * masked (the verifier wants it, and in C a wrong table stays a wrong verdict).
 */
#pragma once

#include "enforce_wire.h"

#define MNO_E_ASK_CLASSES 3

struct mno_e_ask {
	__u32 domain, op;
	__u32 cls[MNO_E_ASK_CLASSES]; /* of the object; 0 is MNO_E_CLASS_ANY, asked in any case */
	__u32 unresolved;             /* an attribute that a rule needs could not be had */
};

struct mno_e_answer {
	__u32 rule; /* index; 0: nothing applies */
	__u32 cls;  /* the class that it was found by */
};

static inline __attribute__((always_inline)) const struct mno_e_row *mno_e_row_of(
	const struct mno_e_gen *g, __u32 domain, __u32 cls)
{
	__u32 row = g->row_of[domain & (MNO_E_DOMAINS - 1)][cls & (MNO_E_CLASSES - 1)];

	return &g->row[row & (MNO_E_ROWS - 1)];
}

static inline __attribute__((always_inline)) void mno_e_better(
	const struct mno_e_gen *g, struct mno_e_answer *a, __u32 *rank, __u32 rule, __u32 cls)
{
	const struct mno_e_rule *r;

	if (!rule)
		return;
	r = &g->rule[rule & (MNO_E_RULES - 1)];
	if (a->rule && r->rank <= *rank)
		return;
	a->rule = rule & (MNO_E_RULES - 1);
	a->cls = cls;
	*rank = r->rank;
}

/*
 * The rule of @g that decides: the highest rank of those that the classes, the class of all
 * objects and, if something is unresolved, the domain's rule for that give; the domain's default
 * when there is none. Rows are the compiler's, which folds "deny over allow" into ranks.
 */
static inline __attribute__((always_inline)) struct mno_e_answer mno_e_decide(
	const struct mno_e_gen *g, const struct mno_e_ask *q)
{
	const struct mno_e_domain *d = &g->domain[q->domain & (MNO_E_DOMAINS - 1)];
	__u32 op = q->op < MNO_E_OPS ? q->op : 0, rank = 0;
	struct mno_e_answer a = {0};

	mno_e_better(g, &a, &rank, mno_e_row_of(g, q->domain, MNO_E_CLASS_ANY)->rule[op], 0);
	for (int i = 0; i < MNO_E_ASK_CLASSES; i++)
		if (q->cls[i])
			mno_e_better(g, &a, &rank, mno_e_row_of(g, q->domain, q->cls[i])->rule[op],
				q->cls[i]);
	if (q->unresolved)
		mno_e_better(g, &a, &rank, d->unresolved_rule, 0);
	if (!a.rule)
		a.rule = d->default_rule & (MNO_E_RULES - 1);
	return a;
}

/* The domain that executing an object of these classes enters; 0: none. */
static inline __attribute__((always_inline)) __u32 mno_e_enters(
	const struct mno_e_gen *g, const struct mno_e_ask *q)
{
	for (int i = 0; i < MNO_E_ASK_CLASSES; i++) {
		__u32 to = q->cls[i] ? mno_e_row_of(g, q->domain, q->cls[i])->enter : 0;

		if (to)
			return to & (MNO_E_DOMAINS - 1);
	}
	return 0;
}

/* The slot that decides at @now_ns (CLOCK_BOOTTIME) by the word that the agent wrote. */
static inline __attribute__((always_inline)) __u32 mno_e_slot(__u64 state, __u64 now_ns)
{
	__u64 deadline = state >> 16;

	return deadline && now_ns >= deadline * 1000000 ? (__u32)(state >> 8) & 0xff
							: (__u32)state & 0xff;
}

/*
 * One step of the comb automaton: @cells[i] is {check:32, next:32}, a state is its base index.
 * The state 0 is dead. A path table is u8 class[256], then the cells.
 */
static inline __attribute__((always_inline)) __u32 mno_e_comb_step(__u64 cell, __u32 state)
{
	return (__u32)(cell >> 32) == state ? (__u32)cell : 0;
}
