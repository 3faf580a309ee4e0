/* SPDX-License-Identifier: Apache-2.0 */
/* The library, guarded memory, no core dumps. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include "crypt_internal.h"
#include "mno/err.h"
#include "mno/log.h"

int mno_crypt_init(void)
{
	return sodium_init() < 0 ? -ENOSYS : 0;
}

void mno_crypt_no_core(void)
{
	const struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none))
		mno_warn("core dumps cannot be switched off: %s", mno_strerror(errno));
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		mno_warn("other processes of this user can read our memory: %s",
			mno_strerror(errno));
}

void *guarded_new(size_t size)
{
	void *p = sodium_malloc(size);

	if (!p)
		return NULL;
	/* sodium_malloc() does it, too, but keeps a failure to itself */
	if (mlock(p, size))
		mno_warn("keys may be written to swap: memory cannot be locked: %s (raise "
			 "LimitMEMLOCK=)",
			mno_strerror(errno));
	memset(p, 0, size);
	return p;
}
