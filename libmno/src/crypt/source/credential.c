/* SPDX-License-Identifier: Apache-2.0 */
/* A KEK that systemd hands over: LoadCredential=, LoadCredentialEncrypted= (systemd.exec(5)). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "../crypt_internal.h"
#include "mno/log.h"

#define CREDENTIAL_MAX (2 * KEK_BYTES + 2) /* digits and a line end */

static int credential_load(const struct key_place *at, struct mno_keys *k)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char path[PATH_MAX];
	uint8_t *text;
	size_t n = 0;
	int r;

	if (!dir || *dir != '/') {
		mno_err("no credentials were handed over: $CREDENTIALS_DIRECTORY is not set");
		return -ENOKEY;
	}
	if (strchr(k->name, '/') || !strcmp(k->name, ".."))
		return -EINVAL;
	if (snprintf(path, sizeof(path), "%s/%s", dir, k->name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	text = guarded_new(CREDENTIAL_MAX);
	if (!text)
		return -ENOMEM;
	/* an access list for the service's user shows as rights of the group */
	r = small_read(-1, path, FILE_NOT_OTHERS, text, CREDENTIAL_MAX, &n);
	if (r == 0)
		r = kek_parse(text, n, k->kek);
	sodium_free(text);
	if (r == -EFBIG)
		r = -EKEYREJECTED;
	if (r == -EKEYREJECTED)
		mno_err("the credential %s is no key: 32 bytes or 64 hexadecimal digits", k->name);
	return r == -ENOENT ? -ENOKEY : r;
}

const struct key_source key_source_credential = {"credential", NULL, credential_load, NULL, NULL};
