/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of environments, their periods, and which databases they have. */
#include <time.h>
#include "store_internal.h"

static const struct mno_class_info classes[MNO_CLASS_MAX] = {
#define CLASS(id, d, p, dur, fl, w)                                                                \
	[MNO_CLASS_##id] = {.dir = d,                                                              \
		.what = w,                                                                         \
		.period = MNO_PERIOD_##p,                                                          \
		.durability = MNO_DURABILITY_##dur,                                                \
		.flags = fl},
#include "classes.def"
#undef CLASS
};

static const struct {
	const char *name;
	enum mno_class class;
} dbs[MNO_DB_MAX] = {
#define DB(id, name, class) [MNO_DB_##id] = {name, MNO_CLASS_##class},
#include "dbs.def"
#undef DB
};

const struct mno_class_info *mno_class_info(enum mno_class c)
{
	return &classes[c];
}

const char *mno_db_name(enum mno_db db)
{
	return dbs[db].name;
}

bool mno_db_in(enum mno_db db, enum mno_class c)
{
	return db == MNO_DB_META || db == MNO_DB_QUARANTINE || dbs[db].class == c;
}

/* Times beyond what a calendar can name belong to its ends. */
#define TIME_MIN (-62135596800000LL) /* 0001-01-01 */
#define TIME_MAX 253402300799999LL   /* 9999-12-31 */

void mno_class_bounds(enum mno_class c, int64_t t_ms, int64_t *ret_t0, int64_t *ret_t1)
{
	enum mno_period p = classes[c].period;
	int64_t t = MNO_MIN(MNO_MAX(t_ms, TIME_MIN), TIME_MAX);
	time_t s = (time_t)(t / 1000 - (t % 1000 < 0));
	struct tm a, b;

	*ret_t0 = INT64_MIN;
	*ret_t1 = INT64_MAX;
	if (p == MNO_PERIOD_NONE || !gmtime_r(&s, &a))
		return;
	a.tm_sec = a.tm_min = a.tm_hour = 0;
	a.tm_mday = p == MNO_PERIOD_DAY ? a.tm_mday : 1;
	a.tm_mon = p == MNO_PERIOD_YEAR ? 0 : a.tm_mon;
	b = a;
	b.tm_mday += p == MNO_PERIOD_DAY;
	b.tm_mon += p == MNO_PERIOD_MONTH;
	b.tm_year += p == MNO_PERIOD_YEAR;
	*ret_t0 = (int64_t)timegm(&a) * 1000;
	*ret_t1 = (int64_t)timegm(&b) * 1000;
}
