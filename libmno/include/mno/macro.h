/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership and small compile-time helpers used everywhere in user space. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a)  (sizeof(a) / sizeof((a)[0]))
#define MNO_MIN(a, b)  ((a) < (b) ? (a) : (b))
#define MNO_MAX(a, b)  ((a) > (b) ? (a) : (b))
#define _cleanup_(fn)  __attribute__((cleanup(fn)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _warn_unused_  __attribute__((warn_unused_result))
#define NS_PER_SEC     1000000000ULL
#define NS_PER_MS      1000000ULL

/* Hands the pointer on and leaves NULL behind, so that the cleanup of this scope keeps off. */
#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *_pp = &(p), _p = *_pp;                                              \
		*_pp = NULL;                                                                       \
		_p;                                                                                \
	})
#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *_fp = &(fd), _f = *_fp;                                                       \
		*_fp = -1;                                                                         \
		_f;                                                                                \
	})

/* Defines `void name_p(T **p)` for _cleanup_() from a destructor that takes NULL. */
#define MNO_DEFINE_CLEANUP(type, destroy)                                                          \
	static inline void destroy##_p(type *p)                                                    \
	{                                                                                          \
		if (*p)                                                                            \
			destroy(*p);                                                               \
	}

static inline void mno_free_p(void *p)
{
	free(*(void **)p);
}
static inline void mno_close_p(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_free_  _cleanup_(mno_free_p)
#define _cleanup_close_ _cleanup_(mno_close_p)
