/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

/*
 * Listening unix socket at @path, mode 0660 and group @gid (-1 = leave). A socket file that nobody
 * answers on is replaced. *@ret_fd is non-blocking; *@ret_dev, *@ret_ino name the file.
 * -EADDRINUSE, -ENAMETOOLONG, -ENOTSOCK (something else is there), -errno.
 */
int api_listen(const char *path, gid_t gid, int *ret_fd, dev_t *ret_dev, ino_t *ret_ino);
/* Removes @path if it is still that file. */
void api_unlisten(const char *path, dev_t dev, ino_t ino);
