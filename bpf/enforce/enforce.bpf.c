/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fixed set of enforcing programs: policy is data (enforce_wire.h). Typed loads only, none
 * sleepable: what waits for a generation's end waits for these. Each returns what an earlier
 * program decided when that was not "allow".
 */
#include "object.bpf.h"
#include "subject.bpf.h"
#include "file.bpf.h"
#include "inode.bpf.h"
#include "net.bpf.h"
#include "power.bpf.h"
