/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical key of a series: name{a="x",b="y"}, labels sorted, values escaped, valid UTF-8. */
#include <errno.h>
#include <string.h>

#include "mno/util.h"
#include "table.h"

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

/* [a-zA-Z_:][a-zA-Z0-9_:]*, the colon for metric names only. */
static bool name_valid(const char *s, bool colon)
{
	size_t i;

	for (i = 0; s[i]; i++) {
		bool digit = s[i] >= '0' && s[i] <= '9' && i > 0;

		if (!is_lower(s[i]) && !is_upper(s[i]) && s[i] != '_' && !digit &&
			!(colon && s[i] == ':'))
			return false;
		if (i >= MNO_METRIC_NAME_MAX)
			return false;
	}
	return i > 0;
}

static void add_value(struct mno_buf *out, const char *s)
{
	static const char replacement[] = "\xef\xbf\xbd";
	size_t n = strnlen(s, MNO_LABEL_VALUE_MAX + 4), done = 0;

	while (done < n) {
		size_t k = mno_utf8_len(s + done, n - done);

		if (done + (k ? k : 1) > MNO_LABEL_VALUE_MAX)
			return;
		if (k == 0)
			mno_buf_add(out, replacement, 3);
		else if (s[done] == '\n')
			mno_buf_add(out, "\\n", 2);
		else if (s[done] == '"' || s[done] == '\\')
			mno_buf_add(out, (char[]){'\\', s[done]}, 2);
		else
			mno_buf_add(out, s + done, k);
		done += k ? k : 1;
	}
}

/* Sorted copy of the labels that have a value. -EINVAL on a bad or repeated name. */
static int sort_labels(const struct mno_label *l, size_t n, const struct mno_label **sorted)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		size_t at = k;

		if (!l[i].name || !name_valid(l[i].name, false) || !strcmp(l[i].name, "__name__"))
			return -EINVAL;
		if (!l[i].value || !l[i].value[0])
			continue;
		while (at > 0) {
			int c = strcmp(sorted[at - 1]->name, l[i].name);

			if (c == 0)
				return -EINVAL;
			if (c < 0)
				break;
			sorted[at] = sorted[at - 1];
			at--;
		}
		sorted[at] = &l[i];
		k++;
	}
	return (int)k;
}

/* Which suffix a family of this type needs. */
static bool suffix_valid(enum mno_metric_type type, const char *suffix)
{
	if (type != MNO_HISTOGRAM)
		return !suffix;
	return suffix &&
	       (!strcmp(suffix, "_bucket") || !strcmp(suffix, "_sum") || !strcmp(suffix, "_count"));
}

int mno_metric_key(const struct mno_family *f, const char *suffix, const struct mno_label *labels,
	size_t n, struct mno_buf *out)
{
	const struct mno_label *sorted[MNO_LABELS_MAX];
	bool le = false;
	int k;

	if (!f->name || !name_valid(f->name, true) || !suffix_valid(f->type, suffix))
		return -EINVAL;
	if (n > MNO_LABELS_MAX)
		return -E2BIG;
	k = sort_labels(labels, n, sorted);
	if (k < 0)
		return k;
	mno_buf_adds(out, f->name);
	if (suffix)
		mno_buf_adds(out, suffix);
	for (int i = 0; i < k; i++) {
		le = le || !strcmp(sorted[i]->name, "le");
		mno_buf_addc(out, i ? ',' : '{');
		mno_buf_adds(out, sorted[i]->name);
		mno_buf_add(out, "=\"", 2);
		add_value(out, sorted[i]->value);
		mno_buf_addc(out, '"');
	}
	if (k)
		mno_buf_addc(out, '}');
	if (f->type == MNO_HISTOGRAM && le != !strcmp(suffix, "_bucket"))
		return -EINVAL;
	return out->err;
}

int mno_metric_shown_name(const char *name, char **ret)
{
	char *out = strdup(name);
	bool camel = false;

	if (!out)
		return -ENOMEM;
	/* No underscore is put in: "Sec_Page_Tables" would be a unit's abbreviation. */
	for (size_t i = 1; out[i - 1] && out[i]; i++) {
		if (!is_lower(out[i - 1]) || !is_upper(out[i]))
			continue;
		out[i] = (char)(out[i] - 'A' + 'a');
		camel = true;
	}
	if (!camel) {
		free(out);
		out = NULL;
	}
	*ret = out;
	return 0;
}
