/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mno/macro.h"
#include "mno/time.h"

#define REMEMBERED  64
#define REMEMBER_NS (30 * NS_PER_SEC)
#define GROUPS_MAX  1024

struct api_peers {
	pthread_mutex_t lock;
	struct {
		uid_t uid;
		bool member;
		uint64_t until_ns; /* 0: free */
	} v[REMEMBERED];
	size_t next; /* replaced next */
};

int api_peers_new(struct api_peers **ret)
{
	struct api_peers *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	*ret = p;
	return 0;
}

struct api_peers *api_peers_free(struct api_peers *p)
{
	if (p)
		pthread_mutex_destroy(&p->lock);
	free(p);
	return NULL;
}

gid_t api_group(void)
{
	struct group g, *found = NULL;
	char buf[8192];

	return getgrnam_r(MNO_API_GROUP, &g, buf, sizeof(buf), &found) == 0 && found ? g.gr_gid
										     : (gid_t)-1;
}

/* asks the user database */
static bool user_is_member(uid_t uid, gid_t gid)
{
	struct passwd pw, *found = NULL;
	gid_t groups[GROUPS_MAX];
	int n = GROUPS_MAX;
	char buf[8192];

	if (getpwuid_r(uid, &pw, buf, sizeof(buf), &found) || !found)
		return false;
	if (getgrouplist(pw.pw_name, pw.pw_gid, groups, &n) < 0)
		n = GROUPS_MAX;
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

static bool remembered_member(struct api_peers *p, uid_t uid, gid_t gid)
{
	uint64_t now = mno_now_ns(CLOCK_MONOTONIC);
	bool member = false, known = false;

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < REMEMBERED && !known; i++)
		if (p->v[i].uid == uid && p->v[i].until_ns > now) {
			member = p->v[i].member;
			known = true;
		}
	pthread_mutex_unlock(&p->lock);
	if (known)
		return member;
	member = user_is_member(uid, gid);
	pthread_mutex_lock(&p->lock);
	p->v[p->next].uid = uid;
	p->v[p->next].member = member;
	p->v[p->next].until_ns = now + REMEMBER_NS;
	p->next = (p->next + 1) % REMEMBERED;
	pthread_mutex_unlock(&p->lock);
	return member;
}

/* the groups that the peer's process had when it connected */
static bool process_is_member(int fd, gid_t gid)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(*groups); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

void api_peer_read(struct api_peers *p, int fd, struct api_peer *ret)
{
	socklen_t len = sizeof(struct ucred);
	struct ucred cred;
	gid_t gid;

	*ret = (struct api_peer){.uid = (uid_t)-1, .gid = (gid_t)-1};
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return;
	*ret = (struct api_peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
	ret->allowed = cred.uid == 0 || cred.uid == geteuid();
	if (ret->allowed)
		return;
	gid = api_group();
	if (gid != (gid_t)-1)
		ret->allowed = cred.gid == gid || process_is_member(fd, gid) ||
			       remembered_member(p, cred.uid, gid);
}
