/* SPDX-License-Identifier: Apache-2.0 */
#include "restore.h"
#include <errno.h>
#include <stdio.h>
#include "mno/backup.h"
#include "mno/err.h"
#include "mno/util.h"

static void print_finding(void *arg, const char *file, const char *what)
{
	printf("%s: %s\n", file, what);
}

int mno_restore(const struct mno_options *o)
{
	struct mno_restore_opts ro = {.sz = sizeof(ro),
		.key = o->restore_key,
		.replace = o->replace,
		.partial = o->partial,
		.o = {.sz = sizeof(ro.o), .finding = print_finding}};
	struct mno_backup_verdict v = {0};
	char bytes[16];
	int r = mno_backup_restore(o->restore, o->config.state, &ro, &v);

	if (r == -MNO_ECORRUPT) {
		printf("nothing was restored: %s is damaged%s\n", o->restore,
			o->partial ? "" : "; --partial leaves out what is damaged, but for main");
		return 1;
	}
	if (r < 0)
		return r;
	printf("restored %s from %s: %llu files, %s; %s, every value was opened, %llu damaged\n",
		o->config.state, o->restore, (unsigned long long)v.files,
		mno_human_bytes((double)v.bytes, bytes, sizeof(bytes)),
		v.signature ? "the signature is right" : "not signed: the store has no key",
		(unsigned long long)v.damaged);
	return v.damaged > 0;
}
