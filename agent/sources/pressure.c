/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/pressure: how long tasks waited for CPU, memory and I/O. */
#include <errno.h>

#include "source.h"

static const struct resource {
	const char *path;
	struct mno_family waiting, stalled;
} resources[] = {
	{"pressure/cpu",
		{"node_pressure_cpu_waiting_seconds_total", "Time in which a task waited for CPU.",
			MNO_COUNTER},
		{"node_pressure_cpu_stalled_seconds_total",
			"Time in which all tasks waited for CPU.", MNO_COUNTER}},
	{"pressure/memory",
		{"node_pressure_memory_waiting_seconds_total",
			"Time in which a task waited for memory.", MNO_COUNTER},
		{"node_pressure_memory_stalled_seconds_total",
			"Time in which all tasks waited for memory.", MNO_COUNTER}},
	{"pressure/io",
		{"node_pressure_io_waiting_seconds_total", "Time in which a task waited for I/O.",
			MNO_COUNTER},
		{"node_pressure_io_stalled_seconds_total",
			"Time in which all tasks waited for I/O.", MNO_COUNTER}},
	{"pressure/irq",
		{"node_pressure_irq_waiting_seconds_total",
			"Time in which a task waited for an interrupt's end.", MNO_COUNTER},
		{"node_pressure_irq_stalled_seconds_total",
			"Time in which all tasks waited for an interrupt's end.", MNO_COUNTER}},
};

struct pressure {
	int fd[ARRAY_SIZE(resources)];
	uint32_t slot[ARRAY_SIZE(resources)][2];
};

static void pressure_close(void *priv)
{
	struct pressure *p = priv;

	for (size_t i = 0; p && i < ARRAY_SIZE(resources); i++)
		mno_close_p(&p->fd[i]);
	free(p);
}

static int pressure_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct pressure *p = malloc(sizeof(*p));
	size_t opened = 0;

	if (!p)
		return -ENOMEM;
	memset(p->slot, 0xff, sizeof(p->slot)); /* MNO_SLOT_NONE */
	for (size_t i = 0; i < ARRAY_SIZE(resources); i++) {
		p->fd[i] = mno_source_open(c, c->proc_fd, resources[i].path);
		opened += p->fd[i] >= 0;
	}
	if (!opened) {
		mno_source_reason(c, "/proc/pressure: not there; the kernel was built without "
				     "CONFIG_PSI or started without psi=1");
		free(p);
		return -ENOENT;
	}
	c->reason[0] = '\0'; /* irq exists on newer kernels only */
	*ret_priv = p;
	return 0;
}

static int pressure_tick(void *priv, struct mno_source_ctx *c)
{
	struct pressure *p = priv;
	size_t done = 0;

	for (size_t i = 0; i < ARRAY_SIZE(resources); i++) {
		const struct resource *res = &resources[i];
		struct mno_pressure v;

		if (p->fd[i] < 0)
			continue;
		if (mno_pressure_read(c, p->fd[i], &v) < 0) {
			mno_source_reason(c, "%s: cannot be read", res->path);
			continue;
		}
		if (v.has_some)
			mno_source_put(c, &p->slot[i][0], &res->waiting, NULL, 0, v.some);
		if (v.has_full)
			mno_source_put(c, &p->slot[i][1], &res->stalled, NULL, 0, v.full);
		done++;
	}
	return done ? 0 : -EIO;
}

const struct mno_source mno_source_pressure = {
	.name = "pressure",
	.summary = "time lost waiting for CPU, memory, I/O (/proc/pressure)",
	.open = pressure_open,
	.tick = pressure_tick,
	.close = pressure_close,
};
