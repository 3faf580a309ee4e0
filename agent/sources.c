/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>

#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "sources.h"

#define RETRY_NS (60 * NS_PER_SEC)

static const struct mno_source *const sources[] = {
#define SOURCE(name) &mno_source_##name,
#include "sources/sources.def"
#undef SOURCE
};

static const struct mno_family cost_family = {"mno_source_cpu_seconds_total",
	"CPU time the agent spent reading each source.", MNO_COUNTER};

struct runner {
	struct mno_source_ctx ctx;
	void *priv;
	bool open;
	uint64_t retry_ns, total_ns;
	char open_reason[256];
	uint32_t cost_slot;
	struct mno_source_status status; /* under the lock */
};

struct mno_sources {
	pthread_mutex_t lock;
	int proc_fd, cgroup_fd;
	struct mno_buf buf, owned;
	struct runner runner[ARRAY_SIZE(sources)];
};

static const char *const state_names[] = {
	[MNO_SOURCE_OFF] = "off",
	[MNO_SOURCE_RUNNING] = "running",
	[MNO_SOURCE_DEGRADED] = "degraded",
	[MNO_SOURCE_FAILED] = "failed",
};

const char *mno_source_state_name(enum mno_source_state s)
{
	return (size_t)s < ARRAY_SIZE(state_names) ? state_names[s] : "unknown";
}

struct mno_sources *mno_sources_free(struct mno_sources *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		if (s->runner[i].open)
			sources[i]->close(s->runner[i].priv);
	}
	mno_close_p(&s->proc_fd);
	mno_close_p(&s->cgroup_fd);
	mno_buf_done(&s->buf);
	mno_buf_done(&s->owned);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}

static void runner_init(
	struct mno_sources *s, const struct mno_sources_opts *o, struct runner *r, size_t i)
{
	r->cost_slot = MNO_SLOT_NONE;
	r->status.source = sources[i];
	r->ctx = (struct mno_source_ctx){
		.proc_fd = s->proc_fd,
		.cgroup_fd = s->cgroup_fd,
		.metrics = o->metrics,
		.cgroups = o->cgroups,
		.list = o->list ? o->list : mno_cgroups_all,
		.slow = o->slow,
		.self = o->self,
		.self_arg = o->self_arg,
		.buf = &s->buf,
		.owned = &s->owned,
	};
}

int mno_sources_new(const struct mno_sources_opts *o, struct mno_sources **ret)
{
	_cleanup_(mno_sources_free_p)
	struct mno_sources *s = calloc(1, sizeof(*s));
	const int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	s->cgroup_fd = -1;
	s->proc_fd = open(o->proc_root ? o->proc_root : "/proc", flags);
	if (s->proc_fd < 0)
		return -errno;
	if (o->cgroup_root && o->cgroups)
		s->cgroup_fd = open(o->cgroup_root, flags);
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		runner_init(s, o, &s->runner[i], i);
	*ret = TAKE_PTR(s);
	return 0;
}

static int runner_open(struct runner *r, const struct mno_source *src)
{
	int err;

	if (r->ctx.now_ns < r->retry_ns)
		return -EAGAIN;
	err = src->open(&r->ctx, &r->priv);
	if (err < 0) {
		if (r->retry_ns == 0)
			mno_info("source %s is not available: %s", src->name,
				r->ctx.reason[0] ? r->ctx.reason : mno_strerror(err));
		r->retry_ns = r->ctx.now_ns + RETRY_NS;
		return err;
	}
	r->open = true;
	memcpy(r->open_reason, r->ctx.reason, sizeof(r->open_reason));
	return 0;
}

/* What the source itself did not say. */
static void complete_reason(struct runner *r, int err)
{
	struct mno_source_ctx *c = &r->ctx;

	if (c->reason[0])
		return;
	if (err == -EBADMSG)
		mno_source_reason(c, "the kernel's file has unexpected content");
	else if (err < 0)
		mno_source_reason(c, "cannot be read: %s", mno_strerror(err));
	else if (r->open_reason[0])
		memcpy(c->reason, r->open_reason, sizeof(c->reason));
	else if (c->cut)
		mno_source_reason(c, "a file was longer than %u KiB: its end is not read",
			MNO_SOURCE_FILE_MAX >> 10);
	else if (c->shadowed)
		mno_source_reason(c, "%llu series refused: table full, or labels used twice",
			(unsigned long long)c->shadowed);
}

static void runner_tick(struct mno_sources *s, struct runner *r, const struct mno_source *src)
{
	const struct mno_label label = {"source", src->name};
	uint64_t start = mno_now_ns(CLOCK_THREAD_CPUTIME_ID), cost;
	bool fresh = r->open;
	int err = 0;

	if (!r->open)
		err = runner_open(r, src);
	if (err == -EAGAIN && !r->open)
		return; /* the status of the last try stands */
	fresh = fresh != r->open;
	if (r->open) {
		r->ctx.reason[0] = '\0';
		err = src->tick(r->priv, &r->ctx);
	}
	complete_reason(r, err);
	cost = mno_now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
	if (fresh)
		mno_debug("source %s: first tick took %llu us", src->name,
			(unsigned long long)cost / 1000);
	r->total_ns += cost;
	if (r->open)
		mno_source_put(
			&r->ctx, &r->cost_slot, &cost_family, &label, 1, (double)r->total_ns / 1e9);
	pthread_mutex_lock(&s->lock);
	r->status.state = err < 0            ? MNO_SOURCE_FAILED
			  : r->ctx.reason[0] ? MNO_SOURCE_DEGRADED
					     : MNO_SOURCE_RUNNING;
	memcpy(r->status.reason, r->ctx.reason, sizeof(r->status.reason));
	r->status.series = r->ctx.series;
	r->status.cost_ns = cost;
	r->status.total_cost_ns = r->total_ns;
	r->status.ticks++;
	r->status.errors += err < 0;
	pthread_mutex_unlock(&s->lock);
}

void mno_sources_tick(struct mno_sources *s, uint64_t now_ns)
{
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		s->runner[i].ctx.now_ns = now_ns;
		runner_tick(s, &s->runner[i], sources[i]);
	}
}

bool mno_sources_status(struct mno_sources *s, size_t i, struct mno_source_status *ret)
{
	if (i >= ARRAY_SIZE(sources))
		return false;
	pthread_mutex_lock(&s->lock);
	*ret = s->runner[i].status;
	pthread_mutex_unlock(&s->lock);
	return true;
}
