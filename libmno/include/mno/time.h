/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and durations. Thread-safe throughout. */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <stddef.h>
#include <time.h>

/* Now in nanoseconds of @clock (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, ...). */
uint64_t mno_now_ns(clockid_t clock);

/* Wall-clock milliseconds since 1970, the time base of every stored sample. */
int64_t mno_now_ms(void);

/*
 * CLOCK_REALTIME - CLOCK_BOOTTIME in ns, the best of several readings; added to a kernel
 * boottime stamp it gives Unix time.
 */
int64_t mno_boot_offset_ns(void);

/*
 * Waits until @c is signalled (0) or @ns are over (-ETIMEDOUT), however the wall clock is set
 * meanwhile: a wait until a time of that would last as long as it is put back. @m is held.
 */
int mno_cond_wait_ns(pthread_cond_t *c, pthread_mutex_t *m, uint64_t ns);

/*
 * Reads a duration: "250ms", "60s", "10m", "1h30m", "7d", "2w"; a plain number is seconds.
 * 0 and *@ret_ns, or -EINVAL (empty, unknown unit, negative), -ERANGE (over 100 years).
 */
int mno_duration_parse(const char *s, uint64_t *ret_ns);

/* Writes "420 ms", "3.2 s", "4 h 12 min", "3 d 2 h" into @buf (32 bytes suffice). Returns @buf. */
const char *mno_duration_format(uint64_t ns, char *buf, size_t size);
