/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error codes of libmno. Every int result of the library is 0 (or a count >= 0), -errno, or
 * -(4000 + n) from the list below; pointers come back through ret_ arguments, which are
 * untouched on failure.
 */
#pragma once

/* Append only; a retired number stays a hole. */
#define MNO_ERRORS(X)                                                                              \
	X(CORRUPT, 4001, "stored data is damaged")                                                 \
	X(VERSION, 4002, "written by a newer version of mno")                                      \
	X(SYNTAX, 4003, "syntax error")                                                            \
	X(LIMIT, 4004, "a limit was reached")                                                      \
	X(TRUNCATED, 4005, "shorter than its own header says")                                     \
	X(UNKNOWN_KIND, 4006, "unknown record kind")                                               \
	X(CLOSED, 4007, "closed by the other side")                                                \
	X(REFUSED, 4008, "refused by the agent")                                                   \
	X(BUSY_STATE, 4009, "another agent uses this state directory")                             \
	X(MIGRATE, 4010, "written in an older format: it has to be migrated first")                \
	X(PRECONDITION, 4030, "a precondition does not hold")                                      \
	X(UNIQUE, 4031, "a unique index has this value already")                                   \
	X(GONE, 4032, "no longer kept")

enum mno_error {
#define X(name, code, text) MNO_E##name = code,
	MNO_ERRORS(X)
#undef X
};

/*
 * Text of an error. @err: negative or positive code, errno or mno.
 * Returns a static or thread-local string, never NULL. Thread-safe.
 */
const char *mno_strerror(int err);

/* Short stable name such as "ENOENT" or "MNO_ECORRUPT"; "E?" when unknown. Thread-safe. */
const char *mno_errname(int err);
