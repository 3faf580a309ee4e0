/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over the agent's unix socket: the only way in. Routes are rows of api/routes.def. */
#pragma once

#include "agent.h"

struct mno_api;

/*
 * Listens on a->opts.socket_path (mode 0660, group "mno" if it exists; the folder must exist) and
 * serves on two threads plus one for time-outs. @a must outlive it and its parts be set. Memory:
 * about 12 KiB per connection, at most 1,024 of them; 64 MiB per answer.
 * -EADDRINUSE (somebody answers on the socket), -ENAMETOOLONG, -errno.
 */
int mno_api_start(struct mno_agent *a, struct mno_api **ret);
/*
 * The same in two steps, so that the socket is made with the rights of the start and served
 * without them: clients that come between the two wait. After a failed serve: mno_api_stop().
 */
int mno_api_listen(struct mno_agent *a, struct mno_api **ret);
int mno_api_serve(struct mno_api *api);
/* Ends streams and connections, joins the threads, removes the socket. NULL-safe, returns NULL. */
struct mno_api *mno_api_stop(struct mno_api *api);
MNO_DEFINE_CLEANUP(struct mno_api *, mno_api_stop)
