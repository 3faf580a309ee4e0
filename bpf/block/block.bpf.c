/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Latency and size of block requests, by device and operation, and by issuing cgroup. */
#include "mno_bpf.h"
#include "mno_vmlinux_io.h"
#include "mno_cgroup.bpf.h"
#include "mno_hist_add.bpf.h"
#include "block/block_wire.h"

#define REQ_OP_MASK 0xff

/* what is remembered of a request between issue and completion */
struct flight {
	__u64 issued; /* CLOCK_MONOTONIC, as the kernel's own stamps in the request */
	__u32 bytes;
	__u16 cgroup; /* slot */
	__u8 row, op;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BLOCK_INFLIGHT);
	__type(key, __u64); /* address of the request: one of a fixed set per queue */
	__type(value, struct flight);
} inflight SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BLOCK_ROWS);
	__type(key, __u32);
	__type(value, struct block_device_row);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BLOCK_SLOTS);
	__type(key, __u32);
	__type(value, struct block_cgroup);
} cgroups SEC(".maps");

/* READ 0, WRITE 1, FLUSH 2, DISCARD 3, SECURE_ERASE 5, WRITE_ZEROES 9; of all others bit 0 is
 * the direction, set for out */
static __always_inline __u8 op_of(__u32 cmd_flags)
{
	__u32 op = cmd_flags & REQ_OP_MASK;

	if (op == 2)
		return BLOCK_FLUSH;
	if (op == 3 || op == 5 || op == 9)
		return BLOCK_DISCARD;
	return op & 1 ? BLOCK_WRITE : BLOCK_READ;
}

/* The device's row, taken on first sight; open addressing, rows are never given back. */
static __always_inline __u32 row_of(struct request *rq)
{
	struct gendisk *disk = rq->q->disk;
	__u32 key, i, n;

	if (!disk)
		return BLOCK_OTHER;
	key = BLOCK_KEY(disk->major, disk->first_minor);
	i = (key * 0x9e3779b1u) >> 27;
	for (n = 0; n < BLOCK_DEVICES; n++, i++) {
		__u32 at = i & (BLOCK_DEVICES - 1);
		struct block_device_row *r = bpf_map_lookup_elem(&devices, &at);
		__u32 was;

		if (!r)
			break;
		was = r->key;
		if (!was)
			was = __sync_val_compare_and_swap(&r->key, 0, key);
		if (!was || was == key)
			return at;
	}
	return BLOCK_OTHER;
}

/*
 * Whose request it is: the task that issues it. Kernel threads issue for others (write-back):
 * there the bio knows, if the io controller is in the v2 tree.
 */
static __always_inline __u64 cgroup_of(struct request *rq)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct cgroup *cg;

	if (t->flags & PF_KTHREAD && bpf_core_field_exists(rq->bio->bi_blkg)) {
		struct bio *bio = rq->bio;

		if (bio && bio->bi_blkg) {
			cg = bio->bi_blkg->blkcg->css.cgroup;
			if (cg && ((struct cgroup___root *)cg)->root->hierarchy_id == 0)
				return cg->kn->id;
		}
	}
	return mno_task_cgroup_id(t);
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_issue, struct request *rq)
{
	__u64 key = (__u64)rq, start;
	struct flight f = {.issued = bpf_ktime_get_ns()};
	struct mno_pstats *st = mno_stats();
	struct block_device_row *r;
	struct block_stat *s;
	__u32 row = row_of(rq);

	f.op = op_of(rq->cmd_flags);
	f.row = row;
	f.bytes = rq->__data_len;
	f.cgroup = mno_cgroup_slot(cgroup_of(rq));
	/* a request that was put back and issued again starts anew */
	if (bpf_map_update_elem(&inflight, &key, &f, BPF_ANY)) {
		if (st)
			mno_inc(st->errors);
		return 0;
	}
	r = bpf_map_lookup_elem(&devices, &row);
	if (!r)
		return 0;
	s = &r->op[f.op & (BLOCK_OPS - 1)];
	start = rq->start_time_ns;
	if (start && start <= f.issued) {
		mno_inc(s->queue_count);
		mno_add(s->queue_ns, f.issued - start);
	}
	return 0;
}

static __always_inline void account_device(const struct flight *f, __u64 ns)
{
	__u32 row = f->row;
	struct block_device_row *r = bpf_map_lookup_elem(&devices, &row);
	struct block_stat *s;

	if (!r)
		return;
	s = &r->op[f->op & (BLOCK_OPS - 1)];
	mno_inc(s->count);
	mno_add(s->bytes, f->bytes);
	mno_add(s->latency_ns, ns);
	mno_hist_add(s->latency, ns);
	mno_hist_add(s->size, f->bytes ? f->bytes - 1 : 0);
}

static __always_inline void account_cgroup(const struct flight *f, __u64 ns)
{
	__u32 slot = f->cgroup;
	struct block_cgroup *c = bpf_map_lookup_elem(&cgroups, &slot);

	if (!c)
		return;
	mno_inc(c->count);
	mno_add(c->bytes, f->bytes);
	mno_add(c->latency_ns, ns);
	mno_hist_add(c->latency, ns);
}

/* @error: the block layer's own number; 0 is success */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_complete, struct request *rq, __u8 error, unsigned int nr_bytes)
{
	__u64 key = (__u64)rq;
	struct flight *p = bpf_map_lookup_elem(&inflight, &key), f;
	struct mno_pstats *st;
	__u64 now;

	if (!p) /* never issued (a flush without data has its own request), or before our time */
		return 0;
	if (error) {
		__u32 row = p->row;
		struct block_device_row *r = bpf_map_lookup_elem(&devices, &row);

		if (r)
			mno_inc(r->op[p->op & (BLOCK_OPS - 1)].errors);
	}
	if (nr_bytes < rq->__data_len) /* a part; the rest follows */
		return 0;
	now = bpf_ktime_get_ns();
	f = *p;
	bpf_map_delete_elem(&inflight, &key);
	now = now > f.issued ? now - f.issued : 0;
	account_device(&f, now);
	account_cgroup(&f, now);
	st = mno_stats();
	if (st)
		mno_inc(st->runs);
	return 0;
}
