/* SPDX-License-Identifier: Apache-2.0 */
/* Query strings and form bodies. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define MNO_PARAMS_MAX 256

struct mno_param {
	char *name, *value; /* owned */
};
struct mno_params {
	struct mno_param *v;
	size_t n, cap;
	size_t bad; /* pairs left out: broken %-escape, NUL or ';' in them */
};
/* Frees what they own and zeroes them. */
void mno_params_done(struct mno_params *p);

/*
 * Adds the pairs of "a=b&c=%20d+e". Broken ones are left out and counted, as Go's net/url does.
 * -MNO_ELIMIT beyond MNO_PARAMS_MAX, -ENOMEM.
 */
int mno_params_add(struct mno_params *p, const char *s, size_t n);
/* First value of @name, NULL if there is none. Borrowed. */
const char *mno_params_get(const struct mno_params *p, const char *name);
/* The value of @name after index *@pos, which starts at 0; NULL at the end. */
const char *mno_params_next(const struct mno_params *p, const char *name, size_t *pos);
/* Decodes %-escapes (and '+' when @plus) of @n bytes. Owned copy, NULL when broken or no memory. */
char *mno_url_unescape(const char *s, size_t n, bool plus);
