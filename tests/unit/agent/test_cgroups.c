/* SPDX-License-Identifier: Apache-2.0 */
/* The tree part of the cgroups, on directories made for it: no cgroupfs and no BPF needed. */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "cgroups.h"
#include "cgroups_tree.h"

static char root[64];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	return remove(path);
}

static int setup(void **state)
{
	snprintf(root, sizeof(root), "/tmp/mno-test-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make(const char *path)
{
	char full[512];

	snprintf(full, sizeof(full), "%s%s", root, path);
	assert_int_equal(mkdir(full, 0755), 0);
}

static void take(const char *path)
{
	char full[512];

	snprintf(full, sizeof(full), "%s%s", root, path);
	assert_int_equal(rmdir(full), 0);
}

static uint64_t id_of(const char *path)
{
	char full[512];
	struct stat st;

	snprintf(full, sizeof(full), "%s%s", root, path);
	assert_int_equal(stat(full, &st), 0);
	return st.st_ino;
}

/* The paths of the tree, in order, joined by blanks. */
static const char *listed(struct mno_cgtree *t)
{
	static char text[4096];
	struct mno_cgnode *const *v;
	size_t n = mno_cgtree_nodes(t, &v), len = 0;

	text[0] = '\0';
	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(
			text + len, sizeof(text) - len, "%s%s", i ? " " : "", v[i]->path);
	return text;
}

static struct mno_cgtree *tree(size_t max)
{
	struct mno_cgtree *t = NULL;

	assert_int_equal(mno_cgtree_new(root, max, &t), 0);
	return t;
}

static void test_first_walk(void **state)
{
	struct mno_cgtree *t;

	make("/a");
	make("/a/b");
	make("/a/b/c");
	t = tree(100);
	assert_string_equal(listed(t), "/ /a /a/b /a/b/c");
	assert_string_equal(mno_cgtree_get(t, id_of("/a/b"))->path, "/a/b");
	assert_null(mno_cgtree_get(t, 1));
	mno_cgtree_free(t);
}

/* The same sequence with inotify and with whole walks. */
static void follow(bool watch)
{
	struct mno_cgtree *t;

	make("/a");
	t = tree(100);
	if (!watch)
		mno_cgtree_no_watch(t);
	assert_false(mno_cgtree_update(t, NULL, NULL));
	make("/b");
	make("/b/x");
	make("/b/x/y");
	assert_true(mno_cgtree_update(t, NULL, NULL));
	assert_string_equal(listed(t), "/ /a /b /b/x /b/x/y");
	make("/b/x/z"); /* in a directory that was itself new before */
	assert_true(mno_cgtree_update(t, NULL, NULL));
	assert_string_equal(listed(t), "/ /a /b /b/x /b/x/y /b/x/z");
	take("/b/x/y");
	take("/a");
	assert_true(mno_cgtree_update(t, NULL, NULL));
	assert_string_equal(listed(t), "/ /b /b/x /b/x/z");
	assert_false(mno_cgtree_update(t, NULL, NULL));
	if (watch)
		assert_int_equal(mno_cgtree_walks(t), 1);
	else
		assert_int_equal(mno_cgtree_walks(t), 6);
	mno_cgtree_free(t);
}

static void test_follow_by_inotify(void **state)
{
	follow(true);
}

static void test_follow_by_walks(void **state)
{
	follow(false);
}

struct seen {
	uint64_t ids[8];
	size_t n;
};

static void note(void *arg, const struct mno_cgnode *n)
{
	struct seen *s = arg;

	s->ids[s->n++ % 8] = n->id;
}

static void test_made_again_under_the_same_name(void **state)
{
	struct seen seen = {};
	struct mno_cgtree *t;
	uint64_t old;

	make("/a");
	make("/a/in");
	t = tree(100);
	old = id_of("/a");
	take("/a/in");
	take("/a");
	make("/keeps-the-inode-busy");
	make("/a");
	make("/a/new");
	assert_true(mno_cgtree_update(t, note, &seen));
	assert_int_equal(seen.n, 2);
	assert_true(seen.ids[0] == old || seen.ids[1] == old);
	assert_string_equal(mno_cgtree_get(t, id_of("/a"))->path, "/a");
	assert_string_equal(mno_cgtree_get(t, id_of("/a/new"))->path, "/a/new");
	assert_string_equal(listed(t), "/ /keeps-the-inode-busy /a /a/new");
	mno_cgtree_free(t);
}

static void test_came_and_went_unseen(void **state)
{
	struct mno_cgtree *t = tree(100);

	make("/a");
	take("/a");
	mno_cgtree_update(t, NULL, NULL);
	assert_string_equal(listed(t), "/");
	mno_cgtree_free(t);
}

static void test_bound(void **state)
{
	struct mno_cgtree *t;
	char name[16];

	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "/%d", i);
		make(name);
	}
	t = tree(4);
	assert_int_equal(mno_cgtree_skipped(t), 3);
	take("/0"); /* known or not, somebody gets room or the count shrinks */
	take("/1");
	take("/2");
	mno_cgtree_update(t, NULL, NULL);
	mno_cgtree_update(t, NULL, NULL);
	assert_int_equal(mno_cgtree_skipped(t), 0);
	assert_non_null(mno_cgtree_get(t, id_of("/3")));
	assert_non_null(mno_cgtree_get(t, id_of("/4")));
	assert_non_null(mno_cgtree_get(t, id_of("/5")));
	mno_cgtree_free(t);
}

static void test_only_directories(void **state)
{
	struct mno_cgtree *t;
	char from[128];
	FILE *f;

	make("/a");
	snprintf(from, sizeof(from), "%s/link", root);
	assert_int_equal(symlink("a", from), 0);
	snprintf(from, sizeof(from), "%s/file", root);
	f = fopen(from, "we");
	assert_non_null(f);
	fclose(f);
	make("/new\nline \xff");
	t = tree(100);
	assert_non_null(mno_cgtree_get(t, id_of("/new\nline \xff")));
	assert_null(strstr(listed(t), "link"));
	assert_null(strstr(listed(t), "file"));
	mno_cgtree_free(t);
}

static void test_paths_of_removed_ones(void **state)
{
	struct mno_cgroups *c = NULL;
	const struct mno_cgroup *v;
	char buf[256];
	uint64_t a, b;

	make("/a");
	make("/a/b");
	a = id_of("/a");
	b = id_of("/a/b");
	assert_int_equal(mno_cgroups_new(root, &c), 0);
	assert_int_equal(mno_cgroups_all(c, &v), 3);
	assert_string_equal(v[0].path, "/");
	assert_string_equal(mno_cgroups_path(c, b, buf, sizeof(buf)), "/a/b");
	assert_string_equal(mno_cgroups_path(c, b, buf, 3), "/a");
	take("/a/b");
	mno_cgroups_refresh(c);
	assert_int_equal(mno_cgroups_all(c, &v), 2);
	assert_string_equal(mno_cgroups_path(c, b, buf, sizeof(buf)), "/a/b");
	assert_string_equal(mno_cgroups_path(c, a, buf, sizeof(buf)), "/a");
	assert_null(mno_cgroups_path(c, 1, buf, sizeof(buf)));
	mno_cgroups_free(c);
}

static void test_without_bpf(void **state)
{
	struct mno_cgroups *c = NULL;
	struct mno_cgroups_stat st;
	const struct mno_cgroup *v;

	make("/a");
	assert_int_equal(mno_cgroups_new(root, &c), 0);
	mno_cgroups_refresh(c);
	assert_int_equal(mno_cgroups_slots(c, &v), 1);
	assert_string_equal(v[0].path, "~other");
	assert_int_equal(mno_cgroups_slots_fd(c), -1);
	mno_cgroups_stat(c, &st);
	assert_int_equal(st.cgroups, 2);
	assert_int_equal(st.slots_used, 0);
	assert_string_equal(mno_cgroups_root(c), root);
	mno_cgroups_free(c);
}

static void test_bad_root(void **state)
{
	struct mno_cgroups *c = NULL;

	assert_int_equal(mno_cgroups_new("/nonexistent-mno", &c), -ENOENT);
	assert_null(c);
	assert_null(mno_cgroups_free(NULL));
	assert_null(mno_cgtree_free(NULL));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_first_walk),
		T(test_follow_by_inotify),
		T(test_follow_by_walks),
		T(test_made_again_under_the_same_name),
		T(test_came_and_went_unseen),
		T(test_bound),
		T(test_only_directories),
		T(test_paths_of_removed_ones),
		T(test_without_bpf),
		cmocka_unit_test(test_bad_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
