/* SPDX-License-Identifier: Apache-2.0 */
/* What the databases of documents hold, for whoever looks for damage. */
#include <errno.h>
#include "../store/verify.h"
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/util.h"

#define ID_SHOWN 60u

/* All that opening a value needs of the documents. */
static struct mno_docs view_of(struct mno_store *s, struct mno_env *e)
{
	return (struct mno_docs){.store = s, .e = e};
}

int verify_doc(struct mno_store *s, struct mno_env *e, enum mno_db db, const MDB_val *k,
	const MDB_val *v, bool deep, struct mno_buf *raw)
{
	struct mno_docs d = view_of(s, e);
	struct docs_head h;
	struct mno_doc doc;
	int r;

	/* the number of the catalogue's state is told apart only: it is not sealed */
	if (db == MNO_DB_DOC_META && k->mv_size && *(uint8_t *)k->mv_data == DOCS_META_GEN)
		return v->mv_size == sizeof(uint64_t) ? 0 : -MNO_ECORRUPT;
	r = docs_seal_open(&d, db, k->mv_data, k->mv_size, v->mv_data, v->mv_size, &h, raw);
	if (r == 0 && deep && (db == MNO_DB_DOC || db == MNO_DB_DOC_OLD))
		r = k->mv_size > 4 ? docs_doc_read(&h, raw, &doc) : -MNO_ECORRUPT;
	return r;
}

int verify_doc_entry(struct mno_store *s, struct mno_env *e, enum mno_db db, const MDB_val *k,
	const MDB_val *v, bool deep, struct mno_buf *raw)
{
	struct mno_docs d = view_of(s, e);
	size_t n = v->mv_size >= DOCS_SUM ? v->mv_size - DOCS_SUM : 0;
	uint8_t last = (uint8_t)(n - 1);
	uint64_t sum;

	if (v->mv_size < DOCS_SUM || (db == MNO_DB_DOC_UNIQ) != (n > 0) || n > MNO_DOC_ID_MAX)
		return -MNO_ECORRUPT;
	memcpy(&sum, (const uint8_t *)v->mv_data + n, DOCS_SUM);
	mno_buf_reset(raw);
	mno_buf_add(raw, k->mv_data, k->mv_size);
	if (n) {
		mno_buf_add(raw, v->mv_data, n);
		mno_buf_add(raw, &last, 1);
	}
	if (raw->err)
		return raw->err;
	return sum == docs_sum(&d, raw->data, raw->len) ? 0 : -MNO_ECORRUPT;
}

uint64_t tell_doc(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	char id[4 * ID_SHOWN + 1];

	if (n < 5)
		return 0;
	mno_escape_terminal(id, sizeof(id), (const char *)k + 4, MNO_MIN(n - 4, (size_t)ID_SHOWN));
	mno_buf_addf(out, "document %s of collection number %u", id, mno_get_be32(k));
	return 1;
}

uint64_t tell_doc_old(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	uint64_t items = tell_doc(k, n, head, out);

	mno_buf_adds(out, ": its form before the migration; the document is not touched");
	return items;
}

uint64_t tell_doc_entry(
	const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_adds(out, "an entry of an index: a search by it may miss a document");
	return 0;
}

uint64_t tell_feed(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_addf(out, "changes of documents from number %llu on; the documents are not touched",
		(unsigned long long)mno_get_be64(k));
	return 0;
}

uint64_t tell_doc_meta(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_adds(out, "a row of the catalogue of the documents");
	return 0;
}
