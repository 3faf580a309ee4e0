/* SPDX-License-Identifier: Apache-2.0 */
/* What the probes' life cycle needs from libbpf beyond its calls. Thread-safe but for capture. */
#pragma once

#include "mno_probe.h"

struct bpf_object;

/* Sets the 64-bit (or smaller) constant @name in .rodata of an object not loaded yet. -ENOENT. */
int mno_rodata_set(struct bpf_object *obj, const char *name, uint64_t value);

/*
 * Collects what libbpf says on this thread into @buf until called with NULL. Everything libbpf
 * says goes through here; without a capture it is logged at debug level.
 */
void mno_libbpf_capture(struct mno_buf *buf);

/* Why loading failed, in plain words, from the error and libbpf's output. Returns @out. */
const char *mno_bpf_reason(int err, const char *log, char *out, size_t size);

/* Bytes that the kernel accounts for a map or program fd ("memlock" in fdinfo); 0 unknown. */
uint64_t mno_bpf_fd_bytes(int fd);

/* mkdir -p for a pin directory; mounts bpffs at /sys/fs/bpf if nothing is there. 0 or -errno;
 * *@ret_mounted says whether this call mounted it. */
int mno_bpffs_prepare(const char *dir, bool *ret_mounted);
/* Removes all below @dir (pins and directories), @dir itself stays. Best effort. */
void mno_pins_remove(const char *dir);
