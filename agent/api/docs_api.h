/* SPDX-License-Identifier: Apache-2.0 */
/* What the routes of documents share. */
#pragma once

#include "api_internal.h"
#include "mno/docs.h"

/* The answer to an error of the documents. @err may be NULL. */
int api_docs_error(struct mno_req *q, int r, const struct mno_docs_error *err);
/* 0, or the status of the answer that there are none. */
int api_docs_there(struct mno_req *q);
