/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/meminfo: every line becomes node_memory_<name>_bytes (without _bytes if it has no unit). */
#include <errno.h>
#include <stdio.h>

#include "source.h"

struct meminfo {
	int fd;
	struct mno_rows rows;
};

static void meminfo_close(void *priv)
{
	struct meminfo *m = priv;

	if (m)
		mno_rows_done(&m->rows);
	mno_source_file_free(m);
}

static int meminfo_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct meminfo *m;
	int r = mno_source_file_new(c, "meminfo", sizeof(*m), (void **)&m);

	if (r < 0)
		return r;
	m->rows.width = 1;
	*ret_priv = m;
	return 0;
}

/* "Active(anon)" -> node_memory_Active_anon_bytes. */
static uint32_t add(struct mno_source_ctx *c, const char *key, size_t len, bool bytes)
{
	char name[128] = "node_memory_", help[128];
	const struct mno_family f = {name, help, MNO_GAUGE};
	size_t o = strlen(name);

	if (len > 64)
		return MNO_SLOT_IGNORED;
	for (size_t i = 0; i < len; i++) {
		bool plain = (key[i] >= 'a' && key[i] <= 'z') || (key[i] >= 'A' && key[i] <= 'Z') ||
			     (key[i] >= '0' && key[i] <= '9');

		if (plain)
			name[o++] = key[i];
		else if (i + 1 < len && name[o - 1] != '_')
			name[o++] = '_';
	}
	snprintf(name + o, sizeof(name) - o, "%s", bytes ? "_bytes" : "");
	snprintf(help, sizeof(help), "Field %.*s of /proc/meminfo.", (int)(o - 12), name + 12);
	return mno_source_add(c, &f, NULL, 0);
}

static int meminfo_tick(void *priv, struct mno_source_ctx *c)
{
	struct meminfo *m = priv;
	struct mno_scan s;
	int r = mno_source_read(c, m->fd, true, &s);

	if (r < 0)
		return r;
	if (s.p == s.end)
		return -EBADMSG;
	do {
		const char *key;
		size_t len = mno_scan_word(&s, ':', &key);
		uint32_t *slot;
		uint64_t v;
		bool kib;

		if (!mno_scan_char(&s, ':') || !mno_scan_u64(&s, &v))
			continue;
		slot = mno_rows_next(&m->rows, key, len);
		if (!slot)
			continue;
		kib = mno_scan_text(&s, " kB", 3);
		if (*slot == MNO_SLOT_NONE)
			*slot = add(c, key, len, kib);
		mno_source_set(c, *slot, (double)v * (kib ? 1024 : 1));
	} while (mno_scan_line(&s));
	mno_rows_end(&m->rows, c);
	return 0;
}

const struct mno_source mno_source_meminfo = {
	.name = "meminfo",
	.summary = "memory of the host by kind (/proc/meminfo)",
	.open = meminfo_open,
	.tick = meminfo_tick,
	.close = meminfo_close,
};
