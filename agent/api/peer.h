/* SPDX-License-Identifier: Apache-2.0 */
/* Who is on the other end of the socket, and whether that one may ask. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define MNO_API_GROUP "mno"

struct api_peer {
	pid_t pid; /* at connect; 0 = unknown */
	uid_t uid;
	gid_t gid;
	bool allowed;
};

/* Group memberships, remembered for 30 s (64 users). Thread-safe. */
struct api_peers;
int api_peers_new(struct api_peers **ret);
struct api_peers *api_peers_free(struct api_peers *p);

/* Reads the credentials of the connected socket @fd. Allowed are root, the agent's own user, and
 * members of the group. */
void api_peer_read(struct api_peers *p, int fd, struct api_peer *ret);
/* Gid of MNO_API_GROUP, or -1. */
gid_t api_group(void);
