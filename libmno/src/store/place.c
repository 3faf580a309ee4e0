/* SPDX-License-Identifier: Apache-2.0 */
/* Where the search for damage is: in META, so that a new start goes on there. */
#include <errno.h>
#include "mno/err.h"
#include "mno/map.h"
#include "mno/store_check.h"
#include "store_internal.h"

#define PLACE_KEY "scrub"

struct stored {
	struct mno_verify_place p;
	uint64_t sum;
};

static uint64_t sum_of(const struct mno_verify_place *p)
{
	static const uint8_t key[16] = "mno scrub place ";

	return mno_siphash(key, p, sizeof(*p));
}

int mno_verify_place_load(struct mno_store *s, struct mno_verify_place *ret)
{
	_cleanup_buf_ struct mno_buf v = {0};
	struct stored st;
	int r = mno_store_fetch(
		s, MNO_DB_META, MNO_SEEK_EQ, PLACE_KEY, strlen(PLACE_KEY), NULL, &v);

	if (r < 0)
		return r;
	if (v.len != sizeof(st))
		return -ENOENT;
	memcpy(&st, v.data, sizeof(st));
	if (st.sum != sum_of(&st.p) || st.p.klen > MNO_VERIFY_KEY_MAX)
		return -ENOENT; /* damaged: from the start */
	*ret = st.p;
	return 0;
}

void mno_verify_place_keep(struct mno_store *s, const struct mno_verify_place *p)
{
	pthread_mutex_lock(&s->quarantine.lock);
	s->scrub.place = *p;
	s->scrub.keep = true;
	pthread_mutex_unlock(&s->quarantine.lock);
}

int mno_verify_place_save(struct mno_store *s, struct mno_txn *t)
{
	struct stored st;
	bool keep;

	memset(&st, 0, sizeof(st));
	pthread_mutex_lock(&s->quarantine.lock);
	keep = s->scrub.keep;
	s->scrub.keep = false;
	if (keep)
		st.p = s->scrub.place;
	pthread_mutex_unlock(&s->quarantine.lock);
	if (!keep)
		return 0;
	st.sum = sum_of(&st.p);
	return mno_txn_put(t, MNO_DB_META, PLACE_KEY, strlen(PLACE_KEY), &st, sizeof(st));
}
