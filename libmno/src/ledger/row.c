/* SPDX-License-Identifier: Apache-2.0 */
/* One process as a row, and a row as JSON. */
#include <errno.h>
#include <string.h>
#include "ledger_internal.h"

void mno_proc_done(struct mno_proc *p)
{
	if (!p)
		return;
	free(p->mem);
	*p = (struct mno_proc){0};
}

static void view_end(const struct entry *e, int64_t offset, struct mno_proc *p)
{
	const struct sender *s;

	p->end_ns = e->end_ktime + (uint64_t)offset;
	p->duration_ns = e->end_ktime > e->start ? e->end_ktime - e->start : 0;
	p->exit_code = e->code >> 8 & 0xff;
	p->exit_signal = e->code & 0x7f;
	if (e->code & 0x80)
		p->flags |= MNO_PROC_CORE;
	s = &e->sent[p->exit_signal == 9 ? 0 : 1];
	if (!p->exit_signal || s->signo != p->exit_signal)
		return;
	p->killer_pid = s->pid;
	memcpy(p->killer_comm, s->comm, sizeof(p->killer_comm));
	if (s->oom)
		p->flags |= MNO_PROC_OOM;
}

static void view_image(const struct entry *e, struct mno_proc *p)
{
	const struct image *im = e->image;

	p->exe = p->argv = "";
	if (!im)
		return;
	p->exe = im->data;
	p->argv = im->data + im->exe_len + 1;
	p->argv_len = im->argv_len;
	if (im->cut)
		p->flags |= MNO_PROC_ARGV_CUT;
}

void row_view(struct mno_ledger *l, struct entry *e, uint64_t now, struct mno_proc *ret)
{
	int64_t offset = l->opts.boot_offset_ns;

	if (!e->cgroup && e->cgroup_id)
		cgroup_note(l, e, e->cgroup_id, e->cgroup_ktime);
	*ret = (struct mno_proc){
		.pid = e->pid,
		.ppid = e->ppid,
		.uid = e->uid,
		.flags = e->flags,
		.start_ns = e->start + (uint64_t)offset,
		.start_boottime_ns = e->start,
		.parent_start_boottime_ns = e->parent_start,
		.cgroup_id = e->cgroup_id,
		.execs = e->execs,
		.cpu_ns = e->cpu_ns,
		.rss_peak_bytes = e->rss_peak_bytes,
		.io_read_bytes = e->io_read_bytes,
		.io_write_bytes = e->io_write_bytes,
		.cgroup = e->cgroup ? e->cgroup->path : "",
	};
	memcpy(ret->comm, e->comm, sizeof(ret->comm));
	view_image(e, ret);
	if (e->flags & MNO_PROC_ENDED)
		view_end(e, offset, ret);
	else
		ret->duration_ns = now > e->start ? now - e->start : 0;
}

int row_own(struct mno_proc *p)
{
	size_t exe = strlen(p->exe) + 1, cgroup = strlen(p->cgroup) + 1,
	       argv = (size_t)p->argv_len + 1;
	char *m = malloc(exe + cgroup + argv);

	if (!m)
		return -ENOMEM;
	p->exe = memcpy(m, p->exe, exe);
	p->cgroup = memcpy(m + exe, p->cgroup, cgroup);
	p->argv = memcpy(m + exe + cgroup, p->argv, argv);
	p->mem = m;
	return 0;
}

/* --- JSON -------------------------------------------------------------------------------------- */

static void json_comm(struct mno_json *j, const char comm[16])
{
	mno_json_key(j, "comm");
	mno_json_strn(j, comm, strnlen(comm, 16));
}

static void json_argv(const struct mno_proc *p, struct mno_json *j)
{
	const char *s = p->argv, *end = s + p->argv_len;

	mno_json_key(j, "argv");
	mno_json_arr(j);
	while (s < end) {
		size_t n = strnlen(s, (size_t)(end - s));

		mno_json_strn(j, s, n);
		s += n + 1;
	}
	mno_json_end_arr(j);
}

static void json_opt(struct mno_json *j, const char *key, bool known, uint64_t v)
{
	mno_json_key(j, key);
	if (known)
		mno_json_u64(j, v);
	else
		mno_json_null(j);
}

static void json_killer(const struct mno_proc *p, struct mno_json *j)
{
	mno_json_key(j, "killer");
	if (!p->killer_pid && !p->killer_comm[0]) {
		mno_json_null(j);
		return;
	}
	mno_json_obj(j);
	mno_json_ku64(j, "pid", p->killer_pid);
	json_comm(j, p->killer_comm);
	mno_json_end(j);
}

static const struct {
	const char *name;
	uint32_t flag;
} flag_keys[] = {
	{"seeded", MNO_PROC_SEEDED},
	{"argv_cut", MNO_PROC_ARGV_CUT},
	{"oom", MNO_PROC_OOM},
	{"core", MNO_PROC_CORE},
	{"lost_start", MNO_PROC_LOST_START},
	{"lost_exit", MNO_PROC_LOST_EXIT},
};

void mno_proc_json(const struct mno_proc *p, struct mno_json *j)
{
	bool ended = p->flags & MNO_PROC_ENDED, told = ended && !(p->flags & MNO_PROC_LOST_EXIT);

	mno_json_obj(j);
	mno_json_ku64(j, "pid", p->pid);
	mno_json_ku64(j, "start_ns", p->start_ns);
	mno_json_ku64(j, "ppid", p->ppid);
	json_comm(j, p->comm);
	mno_json_kstr(j, "exe", p->exe ? p->exe : "");
	json_argv(p, j);
	mno_json_kstr(j, "cgroup", p->cgroup ? p->cgroup : "");
	mno_json_ku64(j, "uid", p->uid);
	json_opt(j, "exit_code", told, p->exit_code);
	json_opt(j, "exit_signal", told, p->exit_signal);
	mno_json_ku64(j, "duration_ns", p->duration_ns);
	/* known at the end only */
	json_opt(j, "cpu_ns", told, p->cpu_ns);
	json_opt(j, "rss_peak_bytes", told, p->rss_peak_bytes);
	json_opt(j, "io_read_bytes", told, p->io_read_bytes);
	json_opt(j, "io_write_bytes", told, p->io_write_bytes);
	json_opt(j, "end_ns", ended, p->end_ns);
	mno_json_kbool(j, "running", !ended);
	mno_json_ku64(j, "execs", p->execs);
	json_opt(j, "parent_start_ns", p->parent_start_boottime_ns != 0,
		p->start_ns - p->start_boottime_ns + p->parent_start_boottime_ns);
	for (size_t i = 0; i < ARRAY_SIZE(flag_keys); i++)
		mno_json_kbool(j, flag_keys[i].name, p->flags & flag_keys[i].flag);
	json_killer(p, j);
	mno_json_end(j);
}
