/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rider: a program on sched_switch that another probe's program calls for the last switch of
 * a task (mno_switch.bpf.h). It is attached by itself while no probe carries it. For a moment
 * both ways are open, never none: the program reports a task once.
 */
#include <errno.h>
#include <string.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "mno/log.h"
#include "probes_internal.h"

int mno_ride_init(struct mno_ride *r)
{
	pthread_mutex_init(&r->lock, NULL);
	r->map_fd = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "switch_tail", 4, 4, 1, NULL);
	return r->map_fd < 0 ? -errno : 0;
}

void mno_ride_done(struct mno_ride *r)
{
	if (r->map_fd >= 0)
		close(r->map_fd);
	r->map_fd = -1;
	pthread_mutex_destroy(&r->lock);
}

/* Lock held. */
static int walk(struct mno_ride *r)
{
	if (r->own || !r->rider)
		return 0;
	r->own = bpf_program__attach(r->rider);
	return r->own ? 0 : -errno;
}

static void no_walk(struct mno_ride *r)
{
	bpf_link__destroy(r->own);
	r->own = NULL;
}

int mno_ride_board(struct mno_ride *r, struct bpf_program *rider)
{
	uint32_t key = 0;
	int fd = bpf_program__fd(rider), err = 0;

	pthread_mutex_lock(&r->lock);
	r->rider = rider;
	r->seated = r->map_fd >= 0 && bpf_map_update_elem(r->map_fd, &key, &fd, BPF_ANY) == 0;
	if (!r->carried || !r->seated)
		err = walk(r);
	pthread_mutex_unlock(&r->lock);
	return err;
}

void mno_ride_leave(struct mno_ride *r)
{
	uint32_t key = 0;

	pthread_mutex_lock(&r->lock);
	if (r->seated)
		bpf_map_delete_elem(r->map_fd, &key);
	r->seated = false;
	r->rider = NULL;
	no_walk(r);
	pthread_mutex_unlock(&r->lock);
}

void mno_ride_carry(struct mno_ride *r, bool on)
{
	pthread_mutex_lock(&r->lock);
	r->carried = on;
	if (on && r->seated)
		no_walk(r);
	else if (walk(r) < 0)
		mno_warn("program %s is not attached any more: %s", bpf_program__name(r->rider),
			strerror(errno));
	pthread_mutex_unlock(&r->lock);
}
