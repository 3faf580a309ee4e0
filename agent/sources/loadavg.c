/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/loadavg: "0.91 0.31 0.11 2/101 9727". */
#include <errno.h>

#include "source.h"

static const struct mno_family families[] = {
	{"node_load1", "1-minute load average.", MNO_GAUGE},
	{"node_load5", "5-minute load average.", MNO_GAUGE},
	{"node_load15", "15-minute load average.", MNO_GAUGE},
	{"node_processes_threads", "Tasks (processes and threads) of the host.", MNO_GAUGE},
};

struct loadavg {
	int fd;
	uint32_t slot[ARRAY_SIZE(families)];
};

static int loadavg_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct loadavg *l;
	int r = mno_source_file_new(c, "loadavg", sizeof(*l), (void **)&l);

	if (r < 0)
		return r;
	memset(l->slot, 0xff, sizeof(l->slot)); /* MNO_SLOT_NONE */
	*ret_priv = l;
	return 0;
}

static int loadavg_tick(void *priv, struct mno_source_ctx *c)
{
	struct loadavg *l = priv;
	struct mno_scan s;
	double v;
	int r = mno_source_read(c, l->fd, true, &s);

	if (r < 0)
		return r;
	for (size_t i = 0; i < 3; i++) {
		if (!mno_scan_f64(&s, &v))
			return -EBADMSG;
		mno_source_put(c, &l->slot[i], &families[i], NULL, 0, v);
	}
	if (mno_scan_f64(&s, &v) && mno_scan_char(&s, '/') && mno_scan_f64(&s, &v))
		mno_source_put(c, &l->slot[3], &families[3], NULL, 0, v);
	return 0;
}

const struct mno_source mno_source_loadavg = {
	.name = "loadavg",
	.summary = "load averages and the number of tasks (/proc/loadavg)",
	.open = loadavg_open,
	.tick = loadavg_tick,
	.close = mno_source_file_free,
};
