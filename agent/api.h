/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over the agent's unix socket: the only way in. Routes are rows of api/routes.def. */
#pragma once

#include "agent.h"

struct mno_api;

/*
 * Binds a->opts.socket_path (mode 0660, group "mno" if it exists; the folder must exist): to be
 * called while the process may still change owners. Clients that connect wait for
 * mno_api_start(). -EADDRINUSE (somebody answers on the socket), -ENAMETOOLONG, -errno.
 */
int mno_api_listen(struct mno_agent *a, struct mno_api **ret);
/*
 * Serves on two threads plus one for time-outs, on the socket of mno_api_listen() if *@ret has it,
 * else binds it first. @a must outlive it and its parts be set. Memory: about 12 KiB per
 * connection, at most 1,024 of them; 64 MiB per answer. On failure *@ret is as before.
 */
int mno_api_start(struct mno_agent *a, struct mno_api **ret);
/* Ends streams and connections, joins the threads, removes the socket. NULL-safe, returns NULL. */
struct mno_api *mno_api_stop(struct mno_api *api);
MNO_DEFINE_CLEANUP(struct mno_api *, mno_api_stop)
