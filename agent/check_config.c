/* SPDX-License-Identifier: Apache-2.0 */
#include "check_config.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "mno/store.h"

#define KEY_BYTES      32
#define PASSPHRASE_MAX 4096
#define PATH_BYTES     512

struct check {
	const struct mno_config *c;
	struct mno_buf *errors, *notes;
};

static _printf_(5, 6) void wrong(
	struct check *k, const char *key, const char *path, const char *todo, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	mno_buf_addf(k->errors, "/%s: %s %s. What to do: %s\n", key, path, text, todo);
}

/* The directory that @path is in, "." without one. */
static void parent_of(const char *path, char dir[PATH_BYTES])
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	while (n && path[n - 1] != '/')
		n--;
	while (n > 1 && path[n - 1] == '/')
		n--;
	snprintf(dir, PATH_BYTES, "%.*s", n ? (int)n : 1, n ? path : ".");
}

static bool may(const char *path, int how)
{
	return faccessat(AT_FDCWD, path, how, AT_EACCESS) == 0;
}

/* There, or it can be made; @hint ends the advice of what else to name. */
static void check_dir(struct check *k, const char *key, const char *path, const char *hint)
{
	char parent[PATH_BYTES], todo[PATH_BYTES + 64];
	struct stat st;
	int r = stat(path, &st) < 0 ? errno : 0;

	if (r == 0 && !S_ISDIR(st.st_mode)) {
		wrong(k, key, path, hint, "is no directory");
		return;
	}
	if (r == 0 && !may(path, R_OK | W_OK | X_OK)) {
		wrong(k, key, path, hint, "cannot be written: %s", strerror(errno));
		return;
	}
	if (r == 0)
		return;
	parent_of(path, parent);
	if (r != ENOENT) {
		wrong(k, key, path, hint, "cannot be reached: %s", strerror(r));
	} else if (stat(parent, &st) < 0) {
		snprintf(todo, sizeof(todo), "mkdir -p %s, or %s", parent, hint);
		wrong(k, key, path, todo, "cannot be made, the directory above it is missing");
	} else if (!may(parent, W_OK | X_OK)) {
		wrong(k, key, path, hint, "cannot be made: %s", strerror(errno));
	}
}

static void check_socket(struct check *k)
{
	const char *path = k->c->socket, *hint = "choose another path, or run it as root";
	char dir[PATH_BYTES];
	struct stat st;

	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		wrong(k, "socket", path, "choose a path of at most 107 bytes", "is too long");
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		wrong(k, "socket", path, "remove that file, or choose another path",
			"is there and no socket");
	parent_of(path, dir);
	check_dir(k, "socket", dir, hint);
}

static void check_user(struct check *k)
{
	char buf[4096];
	struct passwd pw, *found = NULL;

	if (!*k->c->user)
		return;
	if (getpwnam_r(k->c->user, &pw, buf, sizeof(buf), &found) != 0 || !found)
		wrong(k, "user", k->c->user, "make that user (adduser --system), or leave it empty",
			"is no user of this host");
	else if (geteuid() != 0 && geteuid() != pw.pw_uid)
		wrong(k, "user", k->c->user, "run it as root", "can be become by root only");
}

/* A secret that is there: closed to others and as long as it must be. */
static void check_secret(
	struct check *k, const char *path, size_t least, size_t most, const struct stat *st)
{
	char todo[PATH_BYTES + 96];

	snprintf(todo, sizeof(todo),
		"chmod 0600 %s, and replace the secret if others may have read it", path);
	if (!S_ISREG(st->st_mode))
		wrong(k, "store_key", path, "name the file with the key", "is no regular file");
	else if (!may(path, R_OK))
		wrong(k, "store_key", path, "run it as the user whom the key belongs to",
			"cannot be read: %s", strerror(errno));
	else if (st->st_mode & 077)
		wrong(k, "store_key", path, todo, "can be read by others (mode %04o)",
			(unsigned)st->st_mode & 07777);
	else if ((size_t)st->st_size < least || (size_t)st->st_size > most)
		wrong(k, "store_key", path, "put it back from your copy",
			"has %lld bytes, not %zu to %zu", (long long)st->st_size, least, most);
}

/* The store's own file, made by the first start. */
static void check_own_key(struct check *k)
{
	char path[PATH_BYTES];
	struct stat st;

	snprintf(path, sizeof(path), "%s/keys/kek", k->c->state);
	if (stat(path, &st) == 0)
		check_secret(k, path, KEY_BYTES, KEY_BYTES, &st);
	else if (errno == EACCES)
		wrong(k, "store_key", path, "run it as root", "cannot be read: %s",
			strerror(errno));
}

static void check_named_key(struct check *k, const char *name)
{
	struct stat st;

	if (name[0] != '/')
		wrong(k, "store_key", name, "name it from / on", "is no absolute path");
	else if (stat(name, &st) == 0)
		check_secret(k, name, KEY_BYTES, KEY_BYTES, &st);
	else if (errno != ENOENT)
		wrong(k, "store_key", name, "name a file that can be reached",
			"cannot be reached: %s", strerror(errno));
	else {
		char dir[PATH_BYTES];

		parent_of(name, dir);
		if (!may(dir, W_OK | X_OK))
			wrong(k, "store_key", name, "name a file that is there, or can be made",
				"cannot be made: %s", strerror(errno));
	}
}

static void check_passphrase(struct check *k, const char *name)
{
	struct stat st;

	if (name[0] != '/')
		wrong(k, "store_key", name, "name it from / on", "is no absolute path");
	else if (stat(name, &st) < 0)
		wrong(k, "store_key", name, "write the passphrase into that file, mode 0600",
			"cannot be read: %s", strerror(errno));
	else
		check_secret(k, name, 1, PASSPHRASE_MAX, &st);
}

static void check_credential(struct check *k, const char *name)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char path[PATH_BYTES];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir ?: "", name);
	if (strchr(name, '/') || !strcmp(name, ".."))
		wrong(k, "store_key", name, "give the name alone", "is no name of a credential");
	else if (!dir)
		mno_buf_addf(k->notes,
			"/store_key: the credential %s is there only when systemd starts it\n",
			name);
	else if (stat(path, &st) < 0)
		wrong(k, "store_key", path, "LoadCredential= in the unit", "cannot be read: %s",
			strerror(errno));
}

static void check_keyring(struct check *k, const char *name)
{
	mno_buf_addf(k->notes, "/store_key: the key %s of the keyring is looked for at the start\n",
		name);
}

static void check_key(struct check *k)
{
	static void (*const checks[])(struct check *, const char *) = {
		[MNO_STORE_KEY_FILE] = check_named_key,
		[MNO_STORE_KEY_PASSPHRASE] = check_passphrase,
		[MNO_STORE_KEY_CREDENTIAL] = check_credential,
		[MNO_STORE_KEY_KEYRING] = check_keyring};
	const char *name;
	int source = mno_config_key(k->c->store_key, &name);

	if (source < 0)
		wrong(k, "store_key", k->c->store_key,
			"write file:PATH, passphrase:FILE, credential:NAME or keyring:NAME",
			"names no source of keys");
	else if (source == MNO_STORE_KEY_FILE && (!name || !strcmp(name, "keys/kek")))
		check_own_key(k);
	else if (!name)
		wrong(k, "store_key", k->c->store_key, "write what it is behind the colon",
			"does not say which");
	else
		checks[source](k, name);
}

int mno_config_check(const struct mno_config *c, struct mno_buf *errors, struct mno_buf *notes)
{
	struct check k = {c, errors, notes};
	size_t before = errors->len;

	check_dir(&k, "state", c->state, "choose another directory, or run it as root");
	check_socket(&k);
	check_user(&k);
	check_key(&k);
	if (*c->backup_dir)
		check_dir(&k, "backup_dir", c->backup_dir,
			"name a directory that this user can write");
	return errors->err ? errors->err : errors->len > before ? -EINVAL : 0;
}
