/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include "check_store.h"
#include "mno/err.h"
#include "mno/store_check.h"
#include "mno/time.h"
#include "mno/util.h"

static void print_finding(void *arg, const struct mno_finding *f)
{
	if (*(bool *)arg)
		fputs("\r\033[K", stdout);
	printf("%s%s%s%s%s: %s%s%s\n", f->env, *f->db ? " " : "", f->db, *f->key ? " " : "", f->key,
		f->why, *f->lost ? ". Lost: " : "", f->lost);
}

static void print_progress(void *arg, const struct mno_verify_progress *p)
{
	char done[16], all[16];

	if (!*(bool *)arg)
		return;
	printf("\r\033[K%s of %s  %llu values  %s %s",
		mno_human_bytes((double)p->bytes, done, sizeof(done)),
		mno_human_bytes((double)p->file_bytes, all, sizeof(all)),
		(unsigned long long)p->values, p->env, p->db);
	fflush(stdout);
}

int mno_check_store(const struct mno_options *o)
{
	bool tty = isatty(STDOUT_FILENO);
	_cleanup_(mno_store_close_p)
	struct mno_store *s = NULL;
	struct mno_store_opts so = {.sz = sizeof(so)};
	struct mno_verify_opts vo = {.sz = sizeof(vo),
		.deep = true,
		.pages = true,
		.finding = print_finding,
		.progress = print_progress,
		.arg = &tty};
	struct mno_verify_progress p;
	char bytes[16];
	int r;

	if (access(o->config.state, F_OK) < 0)
		return -errno;
	so.key_source = mno_config_key(o->config.store_key, &so.key_name);
	r = mno_store_open(o->config.state, &so, &s);
	if (r == -MNO_ECORRUPT) {
		printf("main: %s: nothing of the store can be read\n", mno_strerror(r));
		return 1;
	}
	if (r == 0)
		r = mno_store_verify(s, &vo, &p);
	if (r < 0)
		return r;
	printf("%s%s: %llu environments, %llu values, %s in %.1f s: %llu damaged\n",
		tty ? "\r\033[K" : "", o->config.state, (unsigned long long)p.environments,
		(unsigned long long)p.values,
		mno_human_bytes((double)p.bytes, bytes, sizeof(bytes)),
		(double)p.took_ns / (double)NS_PER_SEC, (unsigned long long)p.damaged);
	return p.damaged > 0;
}
