/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of the directory of keys: text, so that an operator can read which key a store wants.
 *   mno-keys 1
 *   source file
 *   id 0123456789abcdef
 *   sum (BLAKE2b-128 of the lines above)
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "crypt_internal.h"
#include "mno/buf.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/util.h"

#define RECORD_VERSION 1
#define SUM_LINE       (4 + 2 * CHECKSUM + 1) /* "sum ", digits, line end: the same in all versions */

static const char head[] = "mno-keys ";

static int hex_to(const char *v, uint8_t *out, size_t n)
{
	size_t len = 0;
	const char *end = v;

	if (strlen(v) != 2 * n || strspn(v, "0123456789abcdef") != 2 * n ||
		sodium_hex2bin(out, n, v, 2 * n, NULL, &len, &end) || len != n)
		return -MNO_ECORRUPT;
	return 0;
}

static void hex_add(struct mno_buf *b, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mno_buf_addf(b, "%02x", p[i]);
}

static int take_source(struct record *r, const char *v)
{
	for (int i = 0; key_source(i); i++)
		if (!strcmp(v, key_source_name(i))) {
			r->source = i;
			return 0;
		}
	return -MNO_ECORRUPT;
}
static int take_name(struct record *r, const char *v)
{
	if (strlen(v) >= sizeof(r->name))
		return -MNO_ECORRUPT;
	strcpy(r->name, v);
	return 0;
}
static int take_id(struct record *r, const char *v)
{
	return hex_to(v, r->id, sizeof(r->id));
}
static int take_salt(struct record *r, const char *v)
{
	return hex_to(v, r->salt, sizeof(r->salt));
}
static int take_ops(struct record *r, const char *v)
{
	return mno_parse_u64(v, &r->ops) < 0 ? -MNO_ECORRUPT : 0;
}
static int take_mem(struct record *r, const char *v)
{
	return mno_parse_u64(v, &r->mem) < 0 ? -MNO_ECORRUPT : 0;
}

static const struct {
	const char *name;
	bool needed;
	int (*take)(struct record *r, const char *v);
} fields[] = {
	{"source", true, take_source},
	{"id", true, take_id},
	{"name", false, take_name},
	{"salt", false, take_salt},
	{"ops", false, take_ops},
	{"mem", false, take_mem},
};

static void checksum(const void *p, size_t n, uint8_t sum[CHECKSUM])
{
	crypto_generichash_blake2b(sum, CHECKSUM, p, n, NULL, 0);
}

/* The last line holds in all versions: damage is told from a newer version by it. */
static int check_sum(const uint8_t *p, size_t n)
{
	uint8_t sum[CHECKSUM], want[CHECKSUM];
	char text[2 * CHECKSUM + 1];

	if (n < SUM_LINE || n > RECORD_MAX || memchr(p, '\0', n) || p[n - 1] != '\n' ||
		memcmp(p + n - SUM_LINE, "sum ", 4))
		return -MNO_ECORRUPT;
	memcpy(text, p + n - SUM_LINE + 4, 2 * CHECKSUM);
	text[2 * CHECKSUM] = '\0';
	checksum(p, n - SUM_LINE, sum);
	if (hex_to(text, want, sizeof(want)) < 0 || memcmp(sum, want, sizeof(sum)))
		return -MNO_ECORRUPT;
	return 0;
}

static int take_line(struct record *r, char *line, unsigned *seen)
{
	char *v = strchr(line, ' ');

	if (!v)
		return -MNO_ECORRUPT;
	*v++ = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (strcmp(line, fields[i].name))
			continue;
		if (*seen & 1u << i)
			return -MNO_ECORRUPT;
		*seen |= 1u << i;
		return fields[i].take(r, v);
	}
	return -MNO_ECORRUPT;
}

static int check_head(const char *line)
{
	uint64_t version;

	if (!line || strncmp(line, head, sizeof(head) - 1) ||
		mno_parse_u64(line + sizeof(head) - 1, &version) < 0 || version == 0)
		return -MNO_ECORRUPT;
	return version > RECORD_VERSION ? -MNO_EVERSION : 0;
}

int record_parse(const uint8_t *p, size_t n, struct record *ret)
{
	char text[RECORD_MAX + 1], *save = NULL, *line;
	struct record rec = {0};
	unsigned seen = 0;
	int r = check_sum(p, n);

	if (r < 0)
		return r;
	memcpy(text, p, n - SUM_LINE);
	text[n - SUM_LINE] = '\0';
	r = check_head(strtok_r(text, "\n", &save));
	while (r == 0 && (line = strtok_r(NULL, "\n", &save)))
		r = take_line(&rec, line, &seen);
	for (size_t i = 0; i < ARRAY_SIZE(fields) && r == 0; i++)
		if (fields[i].needed && !(seen & 1u << i))
			r = -MNO_ECORRUPT;
	if (r == 0)
		*ret = rec;
	return r;
}

int record_read(int keys_fd, const char *path, struct record *ret)
{
	uint8_t data[RECORD_MAX];
	size_t n;
	int r = small_read(keys_fd, path, FILE_OPEN, data, sizeof(data), &n);

	if (r == 0)
		r = record_parse(data, n, ret);
	if (r == -MNO_ECORRUPT || r == -EFBIG) {
		mno_err("keys/%s is damaged: restore it from a backup of the state directory",
			path);
		return -MNO_ECORRUPT;
	}
	if (r == -MNO_EVERSION)
		mno_err("keys/%s was written by a newer version of mno", path);
	return r;
}

int record_write(int keys_fd, const char *path, const struct record *rec)
{
	_cleanup_buf_ struct mno_buf b = {.max = RECORD_MAX};
	uint8_t sum[CHECKSUM];

	mno_buf_addf(&b, "%s%d\nsource %s\n", head, RECORD_VERSION, key_source_name(rec->source));
	if (*rec->name)
		mno_buf_addf(&b, "name %s\n", rec->name);
	mno_buf_adds(&b, "id ");
	hex_add(&b, rec->id, sizeof(rec->id));
	if (rec->ops) {
		mno_buf_adds(&b, "\nsalt ");
		hex_add(&b, rec->salt, sizeof(rec->salt));
		mno_buf_addf(&b, "\nops %llu\nmem %llu", (unsigned long long)rec->ops,
			(unsigned long long)rec->mem);
	}
	mno_buf_addc(&b, '\n');
	if (b.err)
		return b.err;
	checksum(b.data, b.len, sum);
	mno_buf_adds(&b, "sum ");
	hex_add(&b, sum, sizeof(sum));
	mno_buf_addc(&b, '\n');
	return b.err ? b.err : small_write(keys_fd, path, b.data, b.len, NULL);
}
