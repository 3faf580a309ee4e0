/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single bits of the old form are flipped: a value that is hit is counted and left out, and the
 * rest is carried over; damage to the pages themselves is refused. Never a crash, and never
 * another content without saying so. MNO_FLIPS: how many (default 60).
 */
#include <sys/wait.h>
#include "rig.h"

#define META_PAGES 8192 /* the two pages that say which tree is the present one */

struct outcome {
	int r;
	uint64_t damaged;
	struct mno_migrate_digest d;
};

static struct mno_migrate_opts opts(void)
{
	return (struct mno_migrate_opts){
		.sz = sizeof(struct mno_migrate_opts), .store = store_opts()};
}

/* In a process of its own: a crash is told by the assertion. */
static struct outcome migrate(const char *dir)
{
	struct outcome o = {0};
	int p[2], status;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		struct mno_migrate_opts mo = opts();
		struct mno_migrate_report rep;

		o.r = mno_migrate_start(dir, &mo);
		if (o.r == 0 && mno_migrate_look(dir, &rep) == 0)
			o.damaged = rep.damaged;
		if (o.r == 0)
			o.r = mno_migrate_digest(dir, &o.d);
		_exit(write(p[1], &o, sizeof(o)) != sizeof(o));
	}
	close(p[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(read(p[0], &o, sizeof(o)), sizeof(o));
	close(p[0]);
	return o;
}

static void flip(const char *dir, size_t at, unsigned bit)
{
	char path[160];
	uint8_t b;
	int fd;

	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
	b ^= (uint8_t)(1u << bit);
	assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
	close(fd);
}

static void bits_of_the_old_form(void **state)
{
	const char *s = getenv("MNO_FLIPS");
	unsigned flips = s ? (unsigned)atoi(s) : 60, found = 0, refused = 0, unused = 0;
	struct outcome ref = migrate(((struct tmpstate *)*state)->dir);
	uint64_t seed = 424242;

	assert_int_equal(ref.r, 0);
	for (unsigned i = 0; i < flips; i++) {
		size_t at = META_PAGES + rnd(&seed) % (212992 - META_PAGES);
		struct tmpstate *t;
		struct outcome o;

		teardown(state);
		setup(state);
		t = *state;
		flip(t->dir, at, rnd(&seed) % 8);
		o = migrate(t->dir);
		if (o.r < 0) {
			refused++;
			assert_true(there(t->dir, "data.mdb"));
			assert_false(there(t->dir, "main"));
		} else if (o.damaged) {
			found++;
		} else {
			unused++;
			if (memcmp(&o.d, &ref.d, sizeof(o.d)))
				fail_msg("byte %zu: other content, and nothing was said", at);
		}
	}
	print_message("%u bits: %u found in values, %u refused, %u of no effect\n", flips, found,
		refused, unused);
	assert_true(found > 0);
}

static void cut_short(void **state)
{
	struct tmpstate *t = *state;
	char path[160];

	snprintf(path, sizeof(path), "%s/data.mdb", t->dir);
	assert_int_equal(truncate(path, 40960), 0);
	assert_true(migrate(t->dir).r < 0);
	assert_true(there(t->dir, "data.mdb"));
	put_file(t->dir, "data.mdb", "nothing of ours", 15);
	assert_true(migrate(t->dir).r < 0);
}

static void a_damaged_state_file(void **state)
{
	static const char *const texts[] = {"", "from=1\n", "stage=99\n", "from=\n=\n\n", "x"};
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts();
	struct mno_migrate_report rep;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		put_file(t->dir, ".migration", texts[i], strlen(texts[i]));
		assert_int_equal(mno_migrate_look(t->dir, &rep), -MNO_ECORRUPT);
		assert_int_equal(mno_migrate_start(t->dir, &o), -MNO_ECORRUPT);
		assert_true(there(t->dir, "data.mdb"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bits_of_the_old_form),
		T(cut_short),
		T(a_damaged_state_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
