/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes where a stored document or row of the catalogue is expected. */
#include <stdlib.h>
#include <string.h>

#include "../../libmno/src/docs/docs_internal.h"
#include "mno/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mno_store store;
	static struct mno_env env = {.store = &store};
	static struct mno_docs d = {.store = &store, .e = &env};
	_cleanup_buf_ struct mno_buf out = {0};
	struct mno_buf row = {.data = (char *)data, .len = size};
	struct docs_cat_coll coll = {0};
	struct docs_cat_index x = {0};
	struct docs_cat_ns ns = {0};
	struct docs_head h = {.kind = MNO_DOC_TEXT};
	struct mno_doc doc;
	uint32_t id;

	docs_seal_open(&d, MNO_DB_DOC, "key", 3, data, size, &h, &out);
	h.form = (uint8_t)(DOCS_FORM_1 + size % DOCS_FORM);
	h.kind = size ? data[0] : 0;
	if (docs_doc_read(&h, &row, &doc) == 0 && doc.len > size)
		abort();
	if (docs_ns_read(&row, &ns) == 0 && !memchr(ns.name, 0, sizeof(ns.name)))
		abort();
	docs_coll_read(&row, &coll, &id);
	if (docs_index_read(&row, &x) == 0 && !memchr(x.path_text, 0, sizeof(x.path_text)))
		abort();
	return 0;
}
