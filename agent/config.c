/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "config.h"
#include "mno/store.h"
#include "mno/time.h"
#include "mno/util.h"

#define MAX_FILE (1 << 20)

enum type { T_STRING, T_DURATION, T_NUMBER, T_COUNT, T_BOOL, T_KEY, T_DIR };

static const struct setting {
	const char *key;
	enum type type;
	size_t off, size;
	double min, max;
	const char *def, *help;
} settings[] = {
	{"state", T_STRING, offsetof(struct mno_config, state),
		sizeof(((struct mno_config *)0)->state), 1, 255, "/var/lib/mno",
		"directory of the store"},
	{"socket", T_STRING, offsetof(struct mno_config, socket),
		sizeof(((struct mno_config *)0)->socket), 1, 107, "/run/mno/mno.sock",
		"where mnoctl and curl ask"},
	{"user", T_STRING, offsetof(struct mno_config, user),
		sizeof(((struct mno_config *)0)->user), 0, 31, "",
		"become this user after loading; empty: stay"},
	{"retention", T_DURATION, offsetof(struct mno_config, retention_ns), 0, 60e9,
		3650 * 86400e9, "14d", "how long samples, processes and events are kept"},
	{"retention_10s", T_DURATION, offsetof(struct mno_config, retention_10s_ns), 0, 60e9,
		3650 * 86400e9, "60d", "how long rollups of 10 s are kept"},
	{"retention_1m", T_DURATION, offsetof(struct mno_config, retention_1m_ns), 0, 60e9,
		3650 * 86400e9, "400d", "how long rollups of 1 min are kept"},
	{"retention_1h", T_DURATION, offsetof(struct mno_config, retention_1h_ns), 0, 60e9,
		3650 * 86400e9, "3650d", "how long rollups of 1 h are kept"},
	{"budget_percent", T_NUMBER, offsetof(struct mno_config, budget_percent), 0, 0.01, 100, "1",
		"what all BPF programs may take of the host's CPUs before the least valuable probe "
		"is "
		"shed"},
	{"max_series", T_COUNT, offsetof(struct mno_config, max_series), 0, 100, 1000000, "20000",
		"series measured at once; more are refused and counted"},
	{"store_key", T_KEY, offsetof(struct mno_config, store_key),
		sizeof(((struct mno_config *)0)->store_key), 0, 255, "",
		"key of the store: file:PATH, passphrase:FILE, credential:NAME or keyring:NAME; "
		"empty: the one it was made with, or a new file in the state directory"},
	{"scrub_bytes", T_COUNT, offsetof(struct mno_config, scrub_bytes), 0, 0, 1e9, "1000000",
		"bytes of the store a second that are looked at for damage in the background; 0: "
		"none"},
	{"backup_dir", T_DIR, offsetof(struct mno_config, backup_dir),
		sizeof(((struct mno_config *)0)->backup_dir), 0, 255, "",
		"directory of backups, on another disk; empty: none are made"},
	{"backup_every", T_DURATION, offsetof(struct mno_config, backup_every_ns), 0, 60e9,
		3650 * 86400e9, "1d", "time between two backups"},
	{"backup_keep", T_COUNT, offsetof(struct mno_config, backup_keep), 0, 1, 100000, "7",
		"complete backups that are kept"},
	{"backup_bytes", T_COUNT, offsetof(struct mno_config, backup_bytes), 0, 1e5, 1e12,
		"50000000", "bytes a second that a backup copies at most"},
	{"bpf", T_BOOL, offsetof(struct mno_config, bpf), 0, 0, 1, "true",
		"false: only sources from files, as with --no-bpf"},
};

void mno_config_defaults(struct mno_config *c)
{
	*c = (struct mno_config){
		.retention_ns = 14 * 86400 * NS_PER_SEC,
		.retention_10s_ns = 60 * 86400 * NS_PER_SEC,
		.retention_1m_ns = 400 * 86400 * NS_PER_SEC,
		.retention_1h_ns = 3650 * 86400 * NS_PER_SEC,
		.budget_percent = 1,
		.max_series = 20000,
		.scrub_bytes = 1000000,
		.backup_every_ns = 86400 * NS_PER_SEC,
		.backup_keep = 7,
		.backup_bytes = 50000000,
		.bpf = true,
	};
	strcpy(c->state, "/var/lib/mno");
	strcpy(c->socket, "/run/mno/mno.sock");
}

static const struct setting *find(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (!strcmp(settings[i].key, key))
			return &settings[i];
	return NULL;
}

static const char *nearest(const char *key)
{
	const char *best = NULL;
	unsigned dist = 4;

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		unsigned d = mno_edit_distance(key, settings[i].key);

		if (d < dist) {
			dist = d;
			best = settings[i].key;
		}
	}
	return best;
}

static const char *set_string(struct mno_config *c, const struct setting *s, json_object *v)
{
	size_t n = (size_t)json_object_get_string_len(v);

	if (!json_object_is_type(v, json_type_string))
		return "must be a string";
	if (n < (size_t)s->min || n > (size_t)s->max || strlen(json_object_get_string(v)) != n)
		return "is empty or too long";
	memcpy((char *)c + s->off, json_object_get_string(v), n + 1);
	return NULL;
}

static const char *set_duration(struct mno_config *c, const struct setting *s, json_object *v)
{
	uint64_t ns;

	if (!json_object_is_type(v, json_type_string) ||
		mno_duration_parse(json_object_get_string(v), &ns) < 0)
		return "must be a duration such as \"14d\" or \"36h\"";
	if ((double)ns < s->min || (double)ns > s->max)
		return "must lie between 1 minute and 10 years";
	memcpy((char *)c + s->off, &ns, sizeof(ns));
	return NULL;
}

static const char *set_number(struct mno_config *c, const struct setting *s, json_object *v)
{
	double d = json_object_get_double(v);
	uint64_t u;

	if (!json_object_is_type(v, json_type_int) &&
		!(s->type == T_NUMBER && json_object_is_type(v, json_type_double)))
		return s->type == T_NUMBER ? "must be a number" : "must be a whole number";
	if (!(d >= s->min && d <= s->max))
		return "is out of range";
	u = (uint64_t)d;
	if (s->type == T_NUMBER)
		memcpy((char *)c + s->off, &d, sizeof(d));
	else
		memcpy((char *)c + s->off, &u, sizeof(u));
	return NULL;
}

static const char *set_bool(struct mno_config *c, const struct setting *s, json_object *v)
{
	bool b = json_object_get_boolean(v);

	if (!json_object_is_type(v, json_type_boolean))
		return "must be true or false";
	memcpy((char *)c + s->off, &b, sizeof(b));
	return NULL;
}

static const char *set_key(struct mno_config *c, const struct setting *s, json_object *v)
{
	const char *wrong = set_string(c, s, v), *name;

	if (wrong || !*json_object_get_string(v))
		return wrong;
	return mno_config_key(json_object_get_string(v), &name) < 0 ? "names no source of keys"
								    : NULL;
}

static const char *set_dir(struct mno_config *c, const struct setting *s, json_object *v)
{
	const char *wrong = set_string(c, s, v), *dir = json_object_get_string(v);

	return wrong ?: *dir && *dir != '/' ? "must be an absolute path" : NULL;
}

static const char *(*const setters[])(
	struct mno_config *, const struct setting *, json_object *) = {
	[T_STRING] = set_string,
	[T_DURATION] = set_duration,
	[T_NUMBER] = set_number,
	[T_COUNT] = set_number,
	[T_BOOL] = set_bool,
	[T_KEY] = set_key,
	[T_DIR] = set_dir,
};

static int apply(struct mno_config *c, const char *path, json_object *root, struct mno_buf *errors)
{
	size_t before = errors->len;

	if (!json_object_is_type(root, json_type_object)) {
		mno_buf_addf(errors, "%s: the file must hold one JSON object\n", path);
		return -EINVAL;
	}
	json_object_object_foreach(root, key, v)
	{
		const struct setting *s = find(key);
		const char *near = s ? NULL : nearest(key);
		const char *wrong = s ? setters[s->type](c, s, v) : NULL;

		if (!s)
			mno_buf_addf(errors, "%s: unknown setting \"%.64s\"%s%s%s\n", path, key,
				near ? ". Did you mean \"" : "", near ?: "", near ? "\"?" : "");
		else if (wrong)
			mno_buf_addf(errors, "%s: /%s %s (%s; default %s)\n", path, key, wrong,
				s->help, *s->def ? s->def : "empty");
	}
	return errors->len > before ? -EINVAL : 0;
}

static int read_file(const char *path, struct mno_buf *out)
{
	FILE *f = fopen(path, "re");
	size_t n;
	char *p;
	int r;

	if (!f)
		return -errno;
	p = mno_buf_reserve(out, MAX_FILE + 1);
	n = p ? fread(p, 1, MAX_FILE + 1, f) : 0;
	r = !p ? out->err : ferror(f) ? -EIO : n > MAX_FILE ? -EFBIG : 0;
	mno_buf_commit(out, n);
	fclose(f);
	return r;
}

int mno_config_load_what_fits(struct mno_config *c, const char *path, struct mno_buf *errors)
{
	_cleanup_buf_ struct mno_buf text = {0};
	json_tokener *tok;
	json_object *root;
	int r = read_file(path, &text);

	if (r < 0)
		return r;
	tok = json_tokener_new_ex(8);
	if (!tok)
		return -ENOMEM;
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	mno_buf_addc(&text, '\n'); /* ends a number at the end of the file */
	root = json_tokener_parse_ex(tok, text.data, (int)text.len);
	if (json_tokener_get_error(tok) != json_tokener_success) {
		enum json_tokener_error e = json_tokener_get_error(tok);
		size_t at = json_tokener_get_parse_end(tok), line = 1;

		for (size_t i = 0; i < at && i < text.len; i++)
			line += text.data[i] == '\n';
		if (e == json_tokener_continue)
			mno_buf_addf(errors, "%s: ends too early: a } or \" is missing\n", path);
		else
			mno_buf_addf(
				errors, "%s:%zu: %s\n", path, line, json_tokener_error_desc(e));
		r = -EINVAL;
	} else {
		r = apply(c, path, root, errors);
	}
	json_object_put(root);
	json_tokener_free(tok);
	return r;
}

int mno_config_load(struct mno_config *c, const char *path, struct mno_buf *errors)
{
	struct mno_config next = *c;
	int r = mno_config_load_what_fits(&next, path, errors);

	if (r == 0)
		*c = next;
	return r;
}

int mno_config_key(const char *text, const char **ret_name)
{
	static const char *const sources[] = {[MNO_STORE_KEY_FILE] = "file",
		[MNO_STORE_KEY_PASSPHRASE] = "passphrase",
		[MNO_STORE_KEY_CREDENTIAL] = "credential",
		[MNO_STORE_KEY_KEYRING] = "keyring"};
	size_t n = strcspn(text, ":");

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		if (n == strlen(sources[i]) && !strncmp(text, sources[i], n)) {
			*ret_name = text[n] && text[n + 1] ? text + n + 1 : NULL;
			return (int)i;
		}
	*ret_name = NULL;
	return *text ? -EINVAL : MNO_STORE_KEY_FILE;
}

void mno_config_describe(struct mno_buf *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		mno_buf_addf(out, "  %-16s %s (default: %s)\n", settings[i].key, settings[i].help,
			*settings[i].def ? settings[i].def : "empty");
}
