/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribers get their kinds in order, and are told exactly what they lost. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "hub.h"

struct record {
	struct mno_hdr h;
	uint64_t n;
	char fill[1000];
};

static void publish(struct mno_hub *h, uint16_t kind, uint64_t n, size_t len)
{
	struct record r = {.h = {.size = (uint32_t)len, .kind = kind, .version = 1}, .n = n};

	mno_hub_publish(h, &r, len);
}

static void count_wake(void *arg)
{
	++*(int *)arg;
}

/* number in the next record, UINT64_MAX when there is none */
static uint64_t next(struct mno_sub *s, struct mno_buf *b, uint64_t *lost)
{
	*lost = 0;
	return mno_hub_next(s, b, lost) == 0 ? ((struct record *)b->data)->n : UINT64_MAX;
}

static void test_kinds_and_wake(void **state)
{
	_cleanup_(mno_hub_free_p)
	struct mno_hub *h = NULL;
	_cleanup_buf_ struct mno_buf b = {};
	const uint16_t want[] = {7, 9};
	struct mno_sub *some, *all;
	int wakes = 0;
	uint64_t lost;

	assert_int_equal(mno_hub_new(&h), 0);
	assert_int_equal(mno_hub_subscribe(h, want, 2, count_wake, &wakes, &some), 0);
	assert_int_equal(mno_hub_subscribe(h, NULL, 0, NULL, NULL, &all), 0);
	for (uint64_t i = 0; i < 6; i++)
		publish(h, (uint16_t)(7 + i % 3), i, sizeof(struct mno_hdr) + 8 + i);
	assert_int_equal(wakes, 1); /* once: the queue was not empty after it */
	assert_int_equal(next(some, &b, &lost), 0);
	assert_int_equal(b.len, sizeof(struct mno_hdr) + 8);
	assert_int_equal(next(some, &b, &lost), 2);
	assert_int_equal(next(some, &b, &lost), 3);
	assert_int_equal(next(some, &b, &lost), 5);
	assert_true(next(some, &b, &lost) == UINT64_MAX);
	publish(h, 9, 6, 40);
	assert_int_equal(wakes, 2);
	for (uint64_t i = 0; i < 7; i++)
		assert_int_equal(next(all, &b, &lost), i);
	assert_int_equal(mno_hub_next(all, &b, &lost), -EAGAIN);
	mno_hub_unsubscribe(some);
	publish(h, 9, 7, 40);
	assert_int_equal(wakes, 2);
	assert_null(mno_hub_unsubscribe(all));
}

/* Reads all; returns records + told losses. */
static uint64_t drain(struct mno_sub *s, uint64_t *ret_read, uint64_t *ret_lost)
{
	_cleanup_buf_ struct mno_buf b = {};
	uint64_t lost, last = 0;
	int r;

	do {
		lost = 0;
		r = mno_hub_next(s, &b, &lost);
		*ret_lost += lost;
		if (r == 0) {
			assert_true(((struct record *)b.data)->n >= last);
			last = ((struct record *)b.data)->n;
			++*ret_read;
		}
	} while (r == 0);
	return *ret_read + *ret_lost;
}

static void test_losses_are_told(void **state)
{
	_cleanup_(mno_hub_free_p)
	struct mno_hub *h = NULL;
	struct mno_sub *s;
	uint64_t n = 0, read = 0, lost = 0;

	assert_int_equal(mno_hub_new(&h), 0);
	assert_int_equal(mno_hub_subscribe(h, NULL, 0, NULL, NULL, &s), 0);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 1500; i++)
			publish(h, 1, n++, 41 + (size_t)i % 900);
		assert_int_equal(drain(s, &read, &lost), n);
	}
	assert_true(lost > 0);
	assert_true(read > 500);
	/* larger than all of the queue: lost, not stuck */
	static uint64_t big[(MNO_SUB_BYTES + 64) / 8];
	memcpy(big, &(struct mno_hdr){.size = sizeof(big), .kind = 1}, sizeof(struct mno_hdr));
	mno_hub_publish(h, big, sizeof(big));
	assert_int_equal(drain(s, &read, &lost), n + 1);
	mno_hub_unsubscribe(s);
}

static void test_limit(void **state)
{
	_cleanup_(mno_hub_free_p)
	struct mno_hub *h = NULL;
	struct mno_sub *s[MNO_SUBS_MAX + 1] = {};

	assert_int_equal(mno_hub_new(&h), 0);
	for (size_t i = 0; i < MNO_SUBS_MAX; i++)
		assert_int_equal(mno_hub_subscribe(h, NULL, 0, NULL, NULL, &s[i]), 0);
	assert_int_equal(mno_hub_subscribe(h, NULL, 0, NULL, NULL, &s[MNO_SUBS_MAX]), -EMFILE);
	assert_null(s[MNO_SUBS_MAX]);
	mno_hub_unsubscribe(s[3]);
	assert_int_equal(mno_hub_subscribe(h, NULL, 0, NULL, NULL, &s[3]), 0);
	/* the rest is freed with the hub */
}

#define THREADS 2
#define EACH    50000

static void *publish_many(void *arg)
{
	for (uint64_t i = 0; i < EACH; i++)
		publish(arg, 1, 0, 48);
	return NULL;
}

static void test_threads(void **state)
{
	_cleanup_(mno_hub_free_p)
	struct mno_hub *h = NULL;
	uint64_t read = 0, lost = 0;
	pthread_t t[THREADS];
	struct mno_sub *s;

	assert_int_equal(mno_hub_new(&h), 0);
	assert_int_equal(mno_hub_subscribe(h, NULL, 0, NULL, NULL, &s), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, publish_many, h), 0);
	for (int i = 0; i < 1000; i++)
		drain(s, &read, &lost);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(drain(s, &read, &lost), THREADS * EACH);
	mno_hub_unsubscribe(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds_and_wake),
		cmocka_unit_test(test_losses_are_told),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
