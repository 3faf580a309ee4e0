/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "syscall_user.h"

static const char *const names[MNO_SYSCALL_NRS] = {
#define S(nr, name) [nr] = #name,
#ifdef __x86_64__
#include "syscall/syscalls_x86_64.def"
#else
#include "syscall/syscalls_generic.def"
#endif
#undef S
};

const char *mno_syscall_name(unsigned nr)
{
	return nr < ARRAY_SIZE(names) ? names[nr] : NULL;
}

const char *mno_syscall_label(unsigned nr, char *buf, size_t size)
{
	if (nr == MNO_SYSCALL_COMPAT)
		return "32-bit";
	if (nr == MNO_SYSCALL_UNKNOWN)
		return "~other";
	if (mno_syscall_name(nr))
		return mno_syscall_name(nr);
	snprintf(buf, size, "nr-%u", nr);
	return buf;
}
