/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proof that a decision taken in the kernel takes effect. Loading and attaching prove nothing: an
 * LSM program does both without ever being called when bpf is not among the active LSMs. Denied
 * are one inode that only we can reach, and a child in a cgroup of our own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "doctor_private.h"

/* Byte offset of @name in the struct with type id @id, members of unnamed members included. */
static int member_offset(const struct btf *btf, int id, const char *name)
{
	const struct btf_type *t = btf__type_by_id(btf, (__u32)id);

	for (int i = 0; t && btf_is_composite(t) && i < btf_vlen(t); i++) {
		const struct btf_member *m = btf_members(t) + i;
		const char *n = btf__name_by_offset(btf, m->name_off);
		int inner;

		if (n && !strcmp(n, name))
			return (int)btf_member_bit_offset(t, i) / 8;
		if (n && *n)
			continue;
		inner = member_offset(btf, (int)m->type, name);
		if (inner >= 0)
			return inner + (int)btf_member_bit_offset(t, i) / 8;
	}
	return -ENOENT;
}

static int offset_of(const struct btf *btf, const char *type, const char *member)
{
	int id = btf__find_by_name_kind(btf, type, BTF_KIND_STRUCT);

	return id < 0 ? id : member_offset(btf, id, member);
}

struct places {
	int f_inode, i_ino, i_sb, s_dev;
};
static bool find_places(const struct btf *btf, struct places *p)
{
	p->f_inode = offset_of(btf, "file", "f_inode");
	p->i_ino = offset_of(btf, "inode", "i_ino");
	p->i_sb = offset_of(btf, "inode", "i_sb");
	p->s_dev = offset_of(btf, "super_block", "s_dev");
	return p->f_inode >= 0 && p->i_ino >= 0 && p->i_sb >= 0 && p->s_dev >= 0;
}

/* (struct file *, int earlier verdict): -EPERM for the inode of @st, else the earlier verdict. */
static int load_deny(enum bpf_prog_type type, enum bpf_attach_type attach, int btf_id,
	const struct places *p, const struct stat *st)
{
	const int32_t dev =
		(int32_t)(major(st->st_dev) << 20 | minor(st->st_dev)); /* kernel's dev_t */
	const struct bpf_insn prog[] = {
		I_LOAD(BPF_DW, 6, 1, 8), /* an earlier refusal stays one */
		I_LOAD(BPF_DW, 2, 1, 0),
		I_LOAD(BPF_DW, 2, 2, (int16_t)p->f_inode),
		I_LOAD(BPF_DW, 3, 2, (int16_t)p->i_ino),
		I_IMM64_LO(4, st->st_ino),
		I_IMM64_HI(st->st_ino),
		I_JNE(3, 4, 5),
		I_LOAD(BPF_DW, 2, 2, (int16_t)p->i_sb),
		I_LOAD(BPF_W, 3, 2, (int16_t)p->s_dev),
		I_JNE_IMM(3, dev, 2),
		I_MOV_IMM(0, -EPERM),
		I_EXIT,
		I_MOV(0, 6),
		I_EXIT,
	};

	return mno_trial_load(type, attach, btf_id, prog, ARRAY_SIZE(prog));
}

/* Opens the inode behind @fd anew: 0 or -errno. */
static int reopen(int fd)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	if (again < 0)
		return -errno;
	close(again);
	return 0;
}

bool mno_deny_proven(const struct btf *btf, struct mno_trial *t, enum bpf_prog_type type,
	enum bpf_attach_type attach, const char *hook)
{
	_cleanup_close_ int prog = -1, file = memfd_create("mno-doctor", MFD_CLOEXEC);
	struct places p;
	struct stat st;
	int id, link, during;

	id = btf ? btf__find_by_name_kind(btf, hook, BTF_KIND_FUNC) : -ENOENT;
	if (id < 0 || !find_places(btf, &p))
		return mno_trial_refused(t, "not in the kernel's BTF", -ENOENT);
	if (file < 0 || fstat(file, &st) || reopen(file))
		return mno_trial_refused(t, "no private file to try it on", -errno);
	prog = load_deny(type, attach, id, &p, &st);
	if (prog < 0)
		return mno_trial_not_loaded(t, prog);
	link = bpf_raw_tracepoint_open(NULL, prog);
	if (link < 0)
		return mno_trial_refused(t, "it loads, attaching is refused", link);
	during = reopen(file);
	close(link);
	t->works = during == -EPERM;
	snprintf(t->reason, sizeof(t->reason), "%s",
		t->works ? "refused one open of a private file"
			 : "it loads and attaches, but is never called");
	return t->works;
}

/* In the child: nothing but plain system calls. Exit status 0 = the connect was refused. */
static void connect_in_cgroup(int cg)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons(9),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int procs = openat(cg, "cgroup.procs", O_WRONLY | O_CLOEXEC), s;

	if (procs < 0 || write(procs, "0", 1) != 1)
		_exit(2);
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		_exit(3);
	_exit(connect(s, (struct sockaddr *)&to, sizeof(to)) && errno == EPERM ? 0 : 1);
}

static void deny_connect(struct mno_trial *t, int cg)
{
	static const struct bpf_insn refuse[] = {I_MOV_IMM(0, 0), I_EXIT};
	_cleanup_close_ int link = -1,
			    prog = mno_trial_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
				    BPF_CGROUP_INET4_CONNECT, 0, refuse, ARRAY_SIZE(refuse));
	int status = 0;
	pid_t child;

	if (prog < 0) {
		mno_trial_not_loaded(t, prog);
		return;
	}
	link = bpf_link_create(prog, cg, BPF_CGROUP_INET4_CONNECT, NULL);
	if (link < 0) {
		mno_trial_refused(t, "it loads, attaching is refused", link);
		return;
	}
	child = fork();
	if (!child)
		connect_in_cgroup(cg);
	if (child < 0 || waitpid(child, &status, 0) < 0) {
		mno_trial_refused(t, "no child to try it on", -errno);
		return;
	}
	t->works = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	snprintf(t->reason, sizeof(t->reason), "%s",
		t->works                   ? "refused one connect in a test cgroup"
		: WEXITSTATUS(status) == 2 ? "it attaches; no process can be moved to a test cgroup"
					   : "it loads and attaches, but is never called");
}

void mno_try_cgroup(const struct btf *btf, struct mno_trial *t, const char *cgroup_root)
{
	_cleanup_close_ int cg = -1;
	char path[160];

	if (!cgroup_root || !*cgroup_root) {
		snprintf(t->reason, sizeof(t->reason), "no cgroup v2 tree is mounted");
		return;
	}
	snprintf(path, sizeof(path), "%s/mno-doctor.%d", cgroup_root, getpid());
	if (mkdir(path, 0700) && errno != EEXIST) {
		mno_trial_refused(t, "no test cgroup can be made", -errno);
		return;
	}
	cg = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cg >= 0)
		deny_connect(t, cg);
	else
		mno_trial_refused(t, "the test cgroup cannot be opened", -errno);
	rmdir(path);
}
