/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents of form 1, which have their times and the value, to form 2: what is known about a
 * document has a length, so that more may be added without a migration, and how often it was
 * written is counted.
 */
#include "../docs/docs_internal.h"

static int rewrite(
	const struct docs_head *h, const struct mno_buf *plain, unsigned form, struct mno_buf *out)
{
	struct mno_doc doc;
	int r = docs_doc_read(h, plain, &doc);

	return r < 0 ? r : docs_doc_write(form, &doc, out);
}

static int forth(const struct docs_head *h, const struct mno_buf *plain, struct mno_buf *out)
{
	return rewrite(h, plain, 2, out);
}

static int back(const struct docs_head *h, const struct mno_buf *plain, struct mno_buf *out)
{
	return rewrite(h, plain, 1, out);
}

const struct docs_migration migration_docs_1_2 = {forth, back};
