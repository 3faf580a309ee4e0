/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include "../store/codec.h"
#include "batch.h"
#include "mno/err.h"
#include "mno/map.h"

/*
 * varint rows, varint strings, strings (varint length, bytes, NUL), then column by column.
 * A row is first turned into numbers of which neighbours differ little.
 */
enum number {
	N_PID,
	N_PPID,
	N_UID,
	N_FLAGS,
	N_END,
	N_LIFE,
	N_BOOT,
	N_PARENT,
	N_CGROUP_ID,
	N_CODE,
	N_SIGNAL,
	N_EXECS,
	N_KILLER,
	N_DURATION,
	N_CPU,
	N_RSS,
	N_READ,
	N_WRITE,
	N_COMM,
	N_EXE,
	N_CGROUP,
	N_ARGV,
	N_KILLER_COMM,
	N_NUMBERS
};
enum mode { PLAIN, DELTA };
static const uint8_t modes[N_NUMBERS] = {[N_PID] = DELTA,
	[N_PPID] = DELTA,
	[N_UID] = DELTA,
	[N_END] = DELTA,
	[N_BOOT] = DELTA,
	[N_PARENT] = DELTA,
	[N_CGROUP_ID] = DELTA};

/* Peaks are whole pages: the low bits go to the top, where zeros cost nothing. */
static uint64_t ror12(uint64_t v)
{
	return v >> 12 | v << 52;
}
static uint64_t rol12(uint64_t v)
{
	return v << 12 | v >> 52;
}

static void to_numbers(const struct mno_proc *p, uint64_t *v)
{
	uint64_t life = p->end_ns - p->start_ns;

	v[N_PID] = p->pid;
	v[N_PPID] = p->ppid;
	v[N_UID] = p->uid;
	v[N_FLAGS] = p->flags;
	v[N_END] = p->end_ns;
	v[N_LIFE] = mno_zigzag((int64_t)life);
	v[N_BOOT] = p->start_ns - p->start_boottime_ns;
	v[N_PARENT] = p->parent_start_boottime_ns;
	v[N_CGROUP_ID] = p->cgroup_id;
	v[N_CODE] = p->exit_code;
	v[N_SIGNAL] = p->exit_signal;
	v[N_EXECS] = p->execs;
	v[N_KILLER] = p->killer_pid;
	v[N_DURATION] = mno_zigzag((int64_t)(p->duration_ns - life));
	v[N_CPU] = p->cpu_ns;
	v[N_RSS] = ror12(p->rss_peak_bytes);
	v[N_READ] = p->io_read_bytes;
	v[N_WRITE] = p->io_write_bytes;
}

static bool from_numbers(const uint64_t *v, struct mno_proc *p)
{
	uint64_t life = (uint64_t)mno_unzigzag(v[N_LIFE]);

	if ((v[N_PID] | v[N_PPID] | v[N_UID] | v[N_FLAGS] | v[N_CODE] | v[N_SIGNAL] | v[N_EXECS] |
		    v[N_KILLER]) > UINT32_MAX)
		return false;
	p->pid = (uint32_t)v[N_PID];
	p->ppid = (uint32_t)v[N_PPID];
	p->uid = (uint32_t)v[N_UID];
	p->flags = (uint32_t)v[N_FLAGS];
	p->end_ns = v[N_END];
	p->start_ns = p->end_ns - life;
	p->start_boottime_ns = p->start_ns - v[N_BOOT];
	p->parent_start_boottime_ns = v[N_PARENT];
	p->cgroup_id = v[N_CGROUP_ID];
	p->exit_code = (uint32_t)v[N_CODE];
	p->exit_signal = (uint32_t)v[N_SIGNAL];
	p->execs = (uint32_t)v[N_EXECS];
	p->killer_pid = (uint32_t)v[N_KILLER];
	p->duration_ns = life + (uint64_t)mno_unzigzag(v[N_DURATION]);
	p->cpu_ns = v[N_CPU];
	p->rss_peak_bytes = rol12(v[N_RSS]);
	p->io_read_bytes = v[N_READ];
	p->io_write_bytes = v[N_WRITE];
	return true;
}

/* --- strings -------------------------------------------------------------------------------- */

struct text {
	const char *s;
	size_t len;
	uint64_t hash;
};
struct strings {
	struct text *v;
	uint32_t *slot; /* index + 1; 0 = free */
	size_t n, mask;
	const uint8_t *key;
	uint32_t last[N_NUMBERS]; /* per column, what the row before had */
};

static bool same_text(const struct text *t, const char *s, size_t len)
{
	return t->len == len && memcmp(t->s, s, len) == 0;
}

static uint32_t string_index(struct strings *t, unsigned col, const char *s, size_t len)
{
	uint64_t h;

	if (t->n && same_text(&t->v[t->last[col]], s, len))
		return t->last[col];
	h = mno_siphash(t->key, s, len);
	for (size_t i = h & t->mask;; i = (i + 1) & t->mask) {
		uint32_t at = t->slot[i];

		if (at && (t->v[at - 1].hash != h || !same_text(&t->v[at - 1], s, len)))
			continue;
		if (!at) {
			t->v[t->n] = (struct text){s, len, h};
			t->slot[i] = at = (uint32_t)++t->n;
		}
		return t->last[col] = at - 1;
	}
}

static const char *text_or(const char *s)
{
	return s ? s : "";
}

static void text_numbers(struct strings *t, const struct mno_proc *p, uint64_t *v)
{
	v[N_COMM] = string_index(t, N_COMM, p->comm, strnlen(p->comm, sizeof(p->comm)));
	v[N_EXE] = string_index(t, N_EXE, text_or(p->exe), strlen(text_or(p->exe)));
	v[N_CGROUP] = string_index(t, N_CGROUP, text_or(p->cgroup), strlen(text_or(p->cgroup)));
	v[N_ARGV] = string_index(t, N_ARGV, text_or(p->argv), p->argv_len);
	v[N_KILLER_COMM] = string_index(
		t, N_KILLER_COMM, p->killer_comm, strnlen(p->killer_comm, sizeof(p->killer_comm)));
}

/* --- encode ------------------------------------------------------------------------------------ */

static void put_column(struct mno_buf *out, const uint64_t *v, size_t n, enum mode mode)
{
	uint8_t *start = (uint8_t *)mno_buf_reserve(out, n * MNO_VARINT_MAX), *p = start;
	uint64_t last = 0;

	if (!start)
		return;
	for (size_t i = 0; i < n; i++) {
		p = mno_varint_write(p, mode == DELTA ? mno_zigzag((int64_t)(v[i] - last)) : v[i]);
		last = v[i];
	}
	mno_buf_commit(out, (size_t)(p - start));
}

static void put_strings(struct mno_buf *out, const struct strings *t)
{
	mno_varint_add(out, t->n);
	for (size_t i = 0; i < t->n; i++) {
		mno_varint_add(out, t->v[i].len);
		mno_buf_add(out, t->v[i].s, t->v[i].len);
		mno_buf_addc(out, '\0');
	}
}

int batch_encode(const struct mno_proc *const *rows, size_t n, const uint8_t hash_key[16],
	struct mno_buf *out)
{
	size_t slots = 64;
	uint64_t row[N_NUMBERS];

	while (slots < n * 5 * 2)
		slots *= 2;
	_cleanup_free_ uint64_t *numbers = malloc(n * sizeof(row) + 1);
	_cleanup_free_ struct text *v = malloc(n * 5 * sizeof(*v) + 1);
	_cleanup_free_ uint32_t *slot = calloc(slots, sizeof(*slot));
	struct strings t = {.v = v, .slot = slot, .mask = slots - 1, .key = hash_key};

	if (!numbers || !v || !slot)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		to_numbers(rows[i], row);
		text_numbers(&t, rows[i], row);
		for (unsigned c = 0; c < N_NUMBERS; c++)
			numbers[c * n + i] = row[c];
	}
	mno_varint_add(out, n);
	put_strings(out, &t);
	for (unsigned c = 0; c < N_NUMBERS; c++)
		put_column(out, numbers + c * n, n, modes[c]);
	return out->err;
}

/* --- decode -------------------------------------------------------------------------------------- */

static int get_strings(struct mno_reader *r, struct text **ret, size_t *ret_n)
{
	uint64_t n = mno_read_varint(r);
	_cleanup_free_ struct text *v = NULL;

	if (r->bad || n > mno_reader_left(r) / 2 || n > BATCH_ROWS * 5)
		return -MNO_ECORRUPT;
	v = malloc(n * sizeof(*v) + 1);
	if (!v)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++) {
		v[i].len = mno_read_varint(r);
		if (r->bad || v[i].len >= mno_reader_left(r))
			return -MNO_ECORRUPT;
		v[i].s = (const char *)mno_read_bytes(r, v[i].len);
		if (mno_read_u8(r) != '\0')
			return -MNO_ECORRUPT;
	}
	*ret = TAKE_PTR(v);
	*ret_n = n;
	return 0;
}

static void get_column(struct mno_reader *r, uint64_t *v, size_t n, enum mode mode)
{
	uint64_t last = 0;

	for (size_t i = 0; i < n; i++) {
		v[i] = mno_read_varint(r);
		if (mode == DELTA)
			v[i] = last += (uint64_t)mno_unzigzag(v[i]);
	}
}

static bool set_texts(const uint64_t *v, const struct text *t, size_t n, struct mno_proc *p)
{
	for (unsigned c = N_COMM; c < N_NUMBERS; c++)
		if (v[c] >= n || (c != N_ARGV && memchr(t[v[c]].s, '\0', t[v[c]].len)))
			return false;
	if (t[v[N_COMM]].len > sizeof(p->comm) ||
		t[v[N_KILLER_COMM]].len > sizeof(p->killer_comm) || t[v[N_ARGV]].len > UINT32_MAX)
		return false;
	memcpy(p->comm, t[v[N_COMM]].s, t[v[N_COMM]].len);
	memcpy(p->killer_comm, t[v[N_KILLER_COMM]].s, t[v[N_KILLER_COMM]].len);
	p->exe = t[v[N_EXE]].s;
	p->cgroup = t[v[N_CGROUP]].s;
	p->argv = t[v[N_ARGV]].s;
	p->argv_len = (uint32_t)t[v[N_ARGV]].len;
	return true;
}

int batch_decode(const uint8_t *raw, size_t len, struct mno_proc **ret, size_t *ret_n)
{
	struct mno_reader r = {.p = raw, .end = raw + len};
	uint64_t n = mno_read_varint(&r), row[N_NUMBERS];
	_cleanup_free_ struct mno_proc *rows = NULL;
	_cleanup_free_ struct text *t = NULL;
	_cleanup_free_ uint64_t *numbers = NULL;
	size_t n_texts;
	int err;

	if (r.bad || n == 0 || n > BATCH_ROWS)
		return -MNO_ECORRUPT;
	err = get_strings(&r, &t, &n_texts);
	if (err < 0)
		return err;
	numbers = malloc(n * sizeof(row));
	rows = calloc(n, sizeof(*rows));
	if (!numbers || !rows)
		return -ENOMEM;
	for (unsigned c = 0; c < N_NUMBERS; c++)
		get_column(&r, numbers + c * n, n, modes[c]);
	if (r.bad || r.p != r.end)
		return -MNO_ECORRUPT;
	for (size_t i = 0; i < n; i++) {
		for (unsigned c = 0; c < N_NUMBERS; c++)
			row[c] = numbers[c * n + i];
		if (!from_numbers(row, &rows[i]) || !set_texts(row, t, n_texts, &rows[i]))
			return -MNO_ECORRUPT;
	}
	*ret = TAKE_PTR(rows);
	*ret_n = n;
	return 0;
}
