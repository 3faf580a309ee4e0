/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "privilege.h"
#include "mno/crypt.h"
#include "mno/err.h"
#include "mno/log.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#endif
#ifndef CAP_BPF
#define CAP_BPF 39
#endif

/* What is used after start. All else (mounts, pins, other users' /proc/PID/exe) is for loading. */
static const struct {
	cap_value_t cap;
	const char *why;
} kept[] = {
	{CAP_BPF, "map look-ups under unprivileged_bpf_disabled, probes loaded on demand"},
	{CAP_PERFMON, "tracing programs and perf events of probes loaded on demand"},
};

void mno_privilege_memlock(void)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	struct rlimit l;

	if (!setrlimit(RLIMIT_MEMLOCK, &all))
		return;
	if (!getrlimit(RLIMIT_MEMLOCK, &l) && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &l);
	}
	mno_debug("RLIMIT_MEMLOCK stays as it is; kernels since 5.11 do not ask for it");
}

/* Only what is permitted now can be kept: an unprivileged agent keeps nothing. */
static int keep_only(const cap_value_t *caps, size_t n)
{
	cap_t now = cap_get_proc(), want = cap_init();
	int r = 0;

	if (!now || !want)
		r = -ENOMEM;
	for (size_t i = 0; !r && i < n; i++) {
		cap_flag_value_t has = CAP_CLEAR;

		if (cap_get_flag(now, caps[i], CAP_PERMITTED, &has) || has != CAP_SET)
			continue;
		if (cap_set_flag(want, CAP_PERMITTED, 1, &caps[i], CAP_SET) ||
			cap_set_flag(want, CAP_EFFECTIVE, 1, &caps[i], CAP_SET))
			r = -errno;
	}
	if (!r && cap_set_proc(want))
		r = -errno;
	cap_free(now);
	cap_free(want);
	return r;
}

/* The bounding set matters at exec only, and no_new_privs guards that, too: both, if we may. */
static int empty_bounding(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++)
		if (cap_get_bound(c) == 1 && cap_drop_bound(c) && errno != EPERM)
			return -errno;
	return 0;
}

/* nftw() has no argument for its callback. */
static _Thread_local struct {
	uid_t uid;
	gid_t gid;
} new_owner;

static int give_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
	if (w->level > 4)
		return 0;
	return lchown(path, new_owner.uid, new_owner.gid) ? -errno : 0;
}

static int become(const struct mno_privilege_opts *o)
{
	char buf[4096];
	struct passwd pw, *found = NULL;
	int r = -getpwnam_r(o->user, &pw, buf, sizeof(buf), &found);

	if (r || !found)
		return r ? r : -ESRCH;
	new_owner.uid = pw.pw_uid;
	new_owner.gid = pw.pw_gid;
	for (size_t i = 0; i < ARRAY_SIZE(o->dirs); i++) {
		/* what other programs made there meanwhile may go while we look */
		r = o->dirs[i] ? nftw(o->dirs[i], give_one, 16, FTW_PHYS | FTW_MOUNT) : 0;
		if (r && errno != ENOENT)
			mno_warn("%s cannot be given to user %s: %s", o->dirs[i], o->user,
				mno_strerror(errno));
	}
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(1, &pw.pw_gid) ||
		setresgid(pw.pw_gid, pw.pw_gid, pw.pw_gid) ||
		setresuid(pw.pw_uid, pw.pw_uid, pw.pw_uid))
		return -errno;
	return 0;
}

int mno_privilege_drop(const struct mno_privilege_opts *o)
{
	cap_value_t caps[ARRAY_SIZE(kept)];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		caps[i] = kept[i].cap;
	r = empty_bounding(); /* needs CAP_SETPCAP: before anything is dropped */
	if (!r && o->user)
		r = become(o);
	if (!r)
		r = keep_only(caps, o->no_bpf ? 0 : ARRAY_SIZE(caps));
	if (r) {
		mno_err("privileges cannot be dropped: %s", mno_strerror(r));
		return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept) && !o->no_bpf; i++)
		mno_debug("kept capability %d: %s", kept[i].cap, kept[i].why);
	/* setuid() made it what fs.suid_dumpable says; our own /proc/self stays readable to us */
	mno_crypt_no_core();
	return 0;
}
