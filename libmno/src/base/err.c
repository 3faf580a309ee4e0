/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "mno/err.h"
#include "mno/macro.h"

static const struct {
	int code;
	const char *name, *text;
} mno_errors[] = {
#define X(name, code, text) {code, "MNO_E" #name, text},
	MNO_ERRORS(X)
#undef X
};

const char *mno_strerror(int err)
{
	if (err < 0)
		err = -err;
	for (size_t i = 0; i < ARRAY_SIZE(mno_errors); i++)
		if (mno_errors[i].code == err)
			return mno_errors[i].text;
	if (err >= 4000)
		return "unknown error";
	return strerrordesc_np(err) ?: "unknown error";
}

const char *mno_errname(int err)
{
	if (err < 0)
		err = -err;
	for (size_t i = 0; i < ARRAY_SIZE(mno_errors); i++)
		if (mno_errors[i].code == err)
			return mno_errors[i].name;
	return err < 4000 ? strerrorname_np(err) ?: "E?" : "E?";
}
