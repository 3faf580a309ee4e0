/* SPDX-License-Identifier: Apache-2.0 */
/* Format 1 to 2, on a store that the version which had format 1 wrote. */
#include "rig.h"

static struct mno_migrate_opts opts(uint64_t step)
{
	return (struct mno_migrate_opts){
		.sz = sizeof(struct mno_migrate_opts), .store = store_opts(), .step_records = step};
}

static void assert_all_answers(const char *dir)
{
	size_t n;
	char *want = read_zst(FIXTURE "answers.txt.zst", &n), *got = answers(dir);

	assert_answers(got, want);
	free(want);
	free(got);
}

static void old_answers_come_from_the_new_form(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);
	struct mno_store *e;

	assert_int_equal(mno_store_open(t->dir, store_opts(), &e), -MNO_EMIGRATE);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_all_answers(t->dir);
	assert_true(there(t->dir, ".old-1/data.mdb"));
	assert_false(there(t->dir, "data.mdb"));
	assert_false(there(t->dir, ".new-2"));
}

static void small_steps_make_the_same(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_digest a, b;
	struct mno_migrate_opts o = opts(1);

	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_all_answers(t->dir);
	assert_int_equal(mno_migrate_digest(t->dir, &a), 0);
	teardown(state);
	setup(state);
	t = *state;
	o = opts(0);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_int_equal(mno_migrate_digest(t->dir, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(old_answers_come_from_the_new_form),
		T(small_steps_make_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
