/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of slots with the real shared maps; the kernel's side of taking a slot is done here
 * by hand, so the tree may be one of plain directories.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "probe_rig.h"

static char root[64];
static struct mno_cgroups *cg;

static int setup(void **state)
{
	snprintf(root, sizeof(root), "/tmp/mno-test-XXXXXX");
	if (!mkdtemp(root) || mno_cgroups_new(root, &cg) < 0)
		return -1;
	return mno_cgroups_maps_new(cg);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	return remove(path);
}

static int teardown(void **state)
{
	cg = mno_cgroups_free(cg);
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static uint64_t make(const char *name)
{
	char full[512];
	struct stat st;

	snprintf(full, sizeof(full), "%s/%s", root, name);
	assert_int_equal(mkdir(full, 0755), 0);
	assert_int_equal(stat(full, &st), 0);
	return st.st_ino;
}

static void take(const char *name)
{
	char full[512];

	snprintf(full, sizeof(full), "%s/%s", root, name);
	assert_int_equal(rmdir(full), 0);
}

/* What a probe does when it meets a cgroup (mno_cgroup.bpf.h). */
static uint32_t meet(uint64_t id)
{
	uint32_t slot;

	if (bpf_map_lookup_elem(mno_cgroups_slots_fd(cg), &id, &slot) == 0)
		return slot;
	if (bpf_map_lookup_and_delete_elem(mno_cgroups_free_fd(cg), NULL, &slot) < 0)
		slot = 0;
	assert_int_equal(bpf_map_update_elem(mno_cgroups_slots_fd(cg), &id, &slot, BPF_NOEXIST), 0);
	return slot;
}

static const struct mno_cgroup *find(const char *path)
{
	const struct mno_cgroup *v;
	size_t n = mno_cgroups_slots(cg, &v);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i].path, path))
			return &v[i];
	return NULL;
}

static bool retired(uint32_t slot)
{
	const uint32_t *v;
	size_t n = mno_cgroups_retired(cg, &v);

	for (size_t i = 0; i < n; i++)
		if (v[i] == slot)
			return true;
	return false;
}

static void test_queue_gives_each_slot_once(void **state)
{
	bool seen[MNO_CGROUP_SLOTS_U] = {};

	for (uint64_t i = 1; i < MNO_CGROUP_SLOTS_U; i++) {
		uint32_t slot = meet(1000000 + i);

		assert_true(slot > 0 && slot < MNO_CGROUP_SLOTS_U && !seen[slot]);
		seen[slot] = true;
	}
	assert_int_equal(meet(2000000), 0); /* none left: ~other */
}

static void test_life_of_a_slot(void **state)
{
	uint64_t a = make("a"), b;
	uint32_t slot = meet(a), gen, again;

	mno_cgroups_refresh(cg);
	assert_non_null(find("/a"));
	assert_int_equal(find("/a")->slot, slot);
	assert_int_equal(find("/a")->id, a);
	gen = find("/a")->gen;
	mno_cgroups_refresh(cg);
	assert_int_equal(find("/a")->gen, gen);
	assert_false(retired(slot));

	take("a");
	mno_cgroups_refresh(cg); /* last figures; the kernel does not know it any more */
	assert_non_null(find("/a"));
	assert_true(bpf_map_lookup_elem(mno_cgroups_slots_fd(cg), &a, &again) < 0);
	mno_cgroups_refresh(cg);
	assert_null(find("/a"));
	assert_true(retired(slot));
	mno_cgroups_refresh(cg);
	assert_false(retired(slot));

	/* the queue is first in, first out: take all up to the one that came back */
	for (uint64_t i = 1; (again = meet(3000000 + i)) != slot; i++)
		assert_int_not_equal(again, 0);
	b = make("b");
	bpf_map_update_elem(mno_cgroups_slots_fd(cg), &b, &slot, BPF_ANY);
	b = 3000000 + MNO_CGROUP_SLOTS_U - 1;
	bpf_map_delete_elem(mno_cgroups_slots_fd(cg), &b);
	mno_cgroups_refresh(cg);
	assert_non_null(find("/b"));
	assert_int_equal(find("/b")->slot, slot);
	assert_int_not_equal(find("/b")->gen, gen);
}

/* Ids that the tree does not have: gone before they were seen, or of another namespace. */
static void test_unknown_ids(void **state)
{
	uint64_t id = 4000000;
	uint32_t slot = meet(id), now = 1;
	struct mno_cgroups_stat st;

	mno_cgroups_refresh(cg); /* it may be newer than the walk: wait */
	assert_int_equal(bpf_map_lookup_elem(mno_cgroups_slots_fd(cg), &id, &now), 0);
	assert_int_equal(now, slot);
	mno_cgroups_refresh(cg);
	assert_int_equal(bpf_map_lookup_elem(mno_cgroups_slots_fd(cg), &id, &now), 0);
	assert_int_equal(now, 0); /* counts under ~other from now on, takes no second slot */
	mno_cgroups_refresh(cg);
	assert_true(retired(slot));
	mno_cgroups_stat(cg, &st);
	assert_int_equal(st.folded, 1);
	for (int i = 0; i < 60; i++) /* and is forgotten after a while */
		mno_cgroups_refresh(cg);
	assert_true(bpf_map_lookup_elem(mno_cgroups_slots_fd(cg), &id, &now) < 0);
}

/* Many that came and went fill the hash: they go at once, for new ones must find room in it. */
static void test_churn_leaves_room(void **state)
{
	uint32_t slot = 0;

	for (uint64_t id = 5000000; id < 5000000 + 1024; id++)
		meet(id);
	for (int i = 0; i < 6; i++)
		mno_cgroups_refresh(cg);
	slot = meet(make("new"));
	assert_int_not_equal(slot, 0);
	mno_cgroups_refresh(cg);
	assert_non_null(find("/new"));
	assert_int_equal(find("/new")->slot, slot);
}

static void test_late_tree(void **state)
{
	uint64_t a = make("a");
	uint32_t slot = meet(a), now;

	mno_cgroups_refresh(cg);
	assert_non_null(find("/a"));
	mno_cgroups_refresh(cg);
	mno_cgroups_refresh(cg);
	assert_int_equal(bpf_map_lookup_elem(mno_cgroups_slots_fd(cg), &a, &now), 0);
	assert_int_equal(now, slot);
}

/* More cgroups than slots: those of slot 0 get one when there are free ones again. */
static void test_folded_gets_a_slot_later(void **state)
{
	struct mno_cgroups_stat st;
	uint64_t last = 0, id;
	char name[16];
	uint32_t now;

	for (int i = 1; i <= MNO_CGROUP_SLOTS_U; i++) {
		snprintf(name, sizeof(name), "%d", i);
		last = make(name);
		now = meet(last);
	}
	assert_int_equal(now, 0);
	mno_cgroups_refresh(cg);
	mno_cgroups_stat(cg, &st);
	assert_int_equal(st.cgroups, MNO_CGROUP_SLOTS_U + 1);
	assert_int_equal(st.slots_used, MNO_CGROUP_SLOTS_U - 1);
	assert_int_equal(st.folded, 1);
	mno_cgroups_refresh(cg);
	assert_int_equal(bpf_map_lookup_elem(mno_cgroups_slots_fd(cg), &last, &now), 0);
	take("1");
	for (int i = 0; i < 4; i++)
		mno_cgroups_refresh(cg);
	assert_int_not_equal(meet(last), 0);
	mno_cgroups_refresh(cg);
	snprintf(name, sizeof(name), "/%d", MNO_CGROUP_SLOTS_U);
	assert_non_null(find(name));
	id = find(name)->id;
	assert_int_equal(id, last);
	mno_cgroups_stat(cg, &st);
	assert_int_equal(st.folded, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_queue_gives_each_slot_once),
		T(test_life_of_a_slot),
		T(test_unknown_ids),
		T(test_churn_leaves_room),
		T(test_late_tree),
		T(test_folded_gets_a_slot_later),
	};

	mno_rig_need_bpf();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
