/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest of a backup from any bytes: as they are, and with the hash of them set right. */
#include <assert.h>
#include <string.h>

#include "../../libmno/src/backup/backup_internal.h"
#include "mno/crypt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const char *p, size_t n)
{
	_cleanup_manifest_ struct manifest m = {0};
	size_t body;

	if (manifest_parse(p, n, &m, &body) < 0)
		return;
	assert(body < n);
	for (size_t i = 0; i < m.n; i++) {
		assert(!strstr(m.files[i].path, "..") || !strstr(m.files[i].path, "/.."));
		assert(m.files[i].path[0] != '/' && m.files[i].path[0] != '.');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct mno_buf b = {0};
	uint8_t hash[MNO_DIGEST_BYTES];

	if (mno_crypt_init() < 0)
		return 0;
	parse((const char *)data, size);
	mno_buf_add(&b, data, size);
	mno_digest_of(data, size, hash);
	mno_buf_adds(&b, ",\"blake2b\":\"");
	for (size_t i = 0; i < sizeof(hash); i++)
		mno_buf_addf(&b, "%02x", hash[i]);
	mno_buf_adds(&b, "\",\"signature\":\"\"}\n");
	if (!b.err)
		parse(b.data, b.len);
	return 0;
}
