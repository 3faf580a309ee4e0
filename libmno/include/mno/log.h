/* SPDX-License-Identifier: Apache-2.0 */
/* One log sink for the process; the library is silent until a program sets one. */
#pragma once

#include <stdarg.h>
#include "mno/macro.h"

enum mno_log_level { MNO_LOG_ERR = 3, MNO_LOG_WARN = 4, MNO_LOG_INFO = 6, MNO_LOG_DEBUG = 7 };

/* @msg is valid during the call only and has no newline. May be called from any thread. */
typedef void (*mno_log_fn)(void *arg, enum mno_log_level level, const char *msg);

/*
 * Sets the process's sink (NULL = silence) and the most verbose level passed to it.
 * Not thread-safe: call it before starting threads; @arg must outlive the last log call.
 */
void mno_log_set(mno_log_fn fn, void *arg, enum mno_log_level max);

/* Logs one message, cut at 1023 bytes; control characters are replaced. Thread-safe. */
void mno_log(enum mno_log_level level, const char *fmt, ...) _printf_(2, 3);

#define mno_err(...)   mno_log(MNO_LOG_ERR, __VA_ARGS__)
#define mno_warn(...)  mno_log(MNO_LOG_WARN, __VA_ARGS__)
#define mno_info(...)  mno_log(MNO_LOG_INFO, __VA_ARGS__)
#define mno_debug(...) mno_log(MNO_LOG_DEBUG, __VA_ARGS__)
