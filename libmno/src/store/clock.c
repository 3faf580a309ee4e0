/* SPDX-License-Identifier: Apache-2.0 */
/* How far the wall clock is believed: in META, so that a new start does not believe a step. */
#include <errno.h>
#include "mno/log.h"
#include "mno/map.h"
#include "mno/store_clock.h"
#include "mno/time.h"
#include "store_internal.h"

#define CLOCK_KEY "clock"

struct stored {
	int64_t time_ms, waited_ms;
	uint64_t sum;
};

static uint64_t sum_of(const struct stored *st)
{
	static const uint8_t key[16] = "mno store clock ";

	return mno_siphash(key, st, offsetof(struct stored, sum));
}

void mno_store_clock_load(struct mno_store *s)
{
	_cleanup_buf_ struct mno_buf v = {0};
	struct stored st;

	atomic_store(&s->clock.time_ms, INT64_MAX);
	if (mno_store_fetch(s, MNO_DB_META, MNO_SEEK_EQ, CLOCK_KEY, strlen(CLOCK_KEY), NULL, &v) <
			0 ||
		v.len != sizeof(st))
		return;
	memcpy(&st, v.data, sizeof(st));
	if (st.sum != sum_of(&st)) /* damaged: as if there were none */
		return;
	atomic_store(&s->clock.time_ms, st.time_ms);
	s->clock.waited_ms = st.waited_ms;
}

/* Where the believed time is after @passed_ms, when the wall clock says @wall_ms. */
static int64_t follow(struct mno_store *s, int64_t wall_ms, int64_t passed_ms)
{
	int64_t was = atomic_load(&s->clock.time_ms), on = was, ahead;

	if (was == INT64_MAX || __builtin_add_overflow(was, passed_ms, &on) ||
		__builtin_sub_overflow(wall_ms, on, &ahead) || ahead <= MNO_CLOCK_STEP_MS) {
		if (s->clock.waited_ms)
			mno_info("the clock is back from its step: nothing was deleted for it");
		s->clock.waited_ms = 0;
		return wall_ms;
	}
	if (!s->clock.waited_ms)
		mno_warn("the clock is %lld h ahead of where it was: if it stays so for 24 h of "
			 "running, retention goes by it; until then it deletes nothing for that",
			(long long)(ahead / MNO_CLOCK_STEP_MS));
	s->clock.waited_ms += MNO_MAX(passed_ms, (int64_t)1);
	if (s->clock.waited_ms < MNO_CLOCK_SETTLE_MS)
		return on;
	s->clock.waited_ms = 0;
	return wall_ms;
}

int mno_store_clock(
	struct mno_store *s, struct mno_txn *t, int64_t wall_ms, uint64_t up_ns, int64_t *ret_ms)
{
	int64_t passed = s->clock.up_ns ? (int64_t)((up_ns - s->clock.up_ns) / NS_PER_MS) : 0;
	int64_t now = follow(s, wall_ms, passed);
	struct stored st = {.time_ms = now, .waited_ms = s->clock.waited_ms};
	int r;

	s->clock.up_ns = up_ns;
	atomic_store(&s->clock.time_ms, now);
	st.sum = sum_of(&st);
	r = mno_txn_put(t, MNO_DB_META, CLOCK_KEY, strlen(CLOCK_KEY), &st, sizeof(st));
	if (r == 0)
		*ret_ms = now;
	return r;
}

int64_t mno_store_now_ms(struct mno_store *s)
{
	return MNO_MIN(mno_now_ms(), (int64_t)atomic_load(&s->clock.time_ms));
}
