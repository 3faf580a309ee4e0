/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/net/dev: counters of the network devices of the agent's network namespace. */
#include <errno.h>

#include "source.h"

#define RX(name, help)                                                                             \
	{                                                                                          \
		"node_network_receive_" name "_total", "Received: " help ".", MNO_COUNTER          \
	}
#define TX(name, help)                                                                             \
	{                                                                                          \
		"node_network_transmit_" name "_total", "Sent: " help ".", MNO_COUNTER             \
	}
static const struct mno_family columns[] = {
	RX("bytes", "bytes"),
	RX("packets", "packets"),
	RX("errs", "errors"),
	RX("drop", "packets dropped"),
	RX("fifo", "FIFO errors"),
	RX("frame", "framing errors"),
	RX("compressed", "compressed packets"),
	RX("multicast", "multicast packets"),
	TX("bytes", "bytes"),
	TX("packets", "packets"),
	TX("errs", "errors"),
	TX("drop", "packets dropped"),
	TX("fifo", "FIFO errors"),
	TX("colls", "collisions"),
	TX("carrier", "carrier losses"),
	TX("compressed", "compressed packets"),
};

struct netdev {
	int fd;
	struct mno_rows rows;
};

static void netdev_close(void *priv)
{
	struct netdev *d = priv;

	if (d)
		mno_rows_done(&d->rows);
	mno_source_file_free(d);
}

static int netdev_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct netdev *d;
	int r = mno_source_file_new(c, "net/dev", sizeof(*d), (void **)&d);

	if (r < 0)
		return r;
	d->rows.width = ARRAY_SIZE(columns);
	*ret_priv = d;
	return 0;
}

static void device_line(struct netdev *d, struct mno_source_ctx *c, struct mno_scan *s)
{
	char device[64];
	const struct mno_label label = {"device", device};
	const char *name;
	size_t len = mno_scan_word(s, ':', &name);
	uint32_t *slot;
	uint64_t v;

	/* The two header lines have no colon after their first word. */
	if (len == 0 || len >= sizeof(device) || !mno_scan_char(s, ':'))
		return;
	slot = mno_rows_next(&d->rows, name, len);
	if (!slot)
		return;
	memcpy(device, name, len);
	device[len] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(columns) && mno_scan_u64(s, &v); i++) {
		if (slot[i] == MNO_SLOT_NONE)
			slot[i] = mno_source_add(c, &columns[i], &label, 1);
		mno_source_set(c, slot[i], (double)v);
	}
}

static int netdev_tick(void *priv, struct mno_source_ctx *c)
{
	struct netdev *d = priv;
	struct mno_scan s;
	int r = mno_source_read(c, d->fd, false, &s);

	if (r < 0)
		return r;
	if (s.p == s.end)
		return -EBADMSG;
	do {
		device_line(d, c, &s);
	} while (mno_scan_line(&s));
	mno_rows_end(&d->rows, c);
	return 0;
}

const struct mno_source mno_source_netdev = {
	.name = "netdev",
	.summary = "bytes, packets, errors of network devices (/proc/net/dev)",
	.open = netdev_open,
	.tick = netdev_tick,
	.close = netdev_close,
};
