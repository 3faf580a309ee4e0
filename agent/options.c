/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "check_config.h"
#include "mno/err.h"
#include "mno/time.h"
#include "mno/util.h"
#include "options.h"
#include "probes.h"

#define DEFAULT_CONFIG "/etc/mno/mnod.json"

enum opt {
	O_CONFIG = 256,
	O_STATE,
	O_SOCKET,
	O_FOR,
	O_CHECK,
	O_CHECK_STORE,
	O_RESTORE,
	O_KEY,
	O_REPLACE,
	O_PARTIAL,
	O_DOCS_UNTIL,
	O_LIST_BACKUPS,
	O_JSON,
	O_NO_BPF,
	O_MIGRATE,
	O_USER,
	O_VERBOSE,
	O_EVENTS,
	O_HELP,
	O_VERSION
};

static const struct {
	const char *name, *arg, *help;
	enum opt opt;
} table[] = {
	{"config", "FILE", "settings (JSON); default " DEFAULT_CONFIG " if it is there", O_CONFIG},
	{"state", "DIR", "directory of the store; default /var/lib/mno", O_STATE},
	{"socket", "PATH", "where mnoctl asks; default /run/mno/mno.sock", O_SOCKET},
	{"for", "DURATION", "end cleanly after that time, e.g. 90s, 1h30m", O_FOR},
	{"check-config", NULL, "check the settings and what they name, change nothing, end",
		O_CHECK},
	{"check-store", NULL, "look for damage in all that --state holds, end: 0 sound, 1 damage",
		O_CHECK_STORE},
	{"restore", "BACKUP", "make --state from that backup, verify it, end", O_RESTORE},
	{"key", "FILE", "restore: copy of the store's key; backups do not have it", O_KEY},
	{"replace", NULL, "restore: a store that is there is kept as .old-...", O_REPLACE},
	{"partial", NULL, "restore: leave out what is damaged", O_PARTIAL},
	{"docs-until", "WHEN",
		"restore: documents as they were then: a time, or the number of a change",
		O_DOCS_UNTIL},
	{"list-backups", "DIR", "list the backups in that directory, end", O_LIST_BACKUPS},
	{"json", NULL, "restore, list-backups: answers and errors as JSON", O_JSON},
	{"no-bpf", NULL, "load no BPF programs; only sources from files", O_NO_BPF},
	{"migrate", "WORD",
		"no agent; a store of an older format: status, dry-run, run, rollback, confirm",
		O_MIGRATE},
	{"user", "NAME", "become this user after loading", O_USER},
	{"verbose", NULL, "log debug messages too", O_VERBOSE},
	{"describe-events", NULL, "print the reference page of all record kinds", O_EVENTS},
	{"help", NULL, "this text", O_HELP},
	{"version", NULL, "print the version", O_VERSION},
};

static void print_help(void)
{
	_cleanup_buf_ struct mno_buf b = {0};

	mno_buf_adds(&b, "usage: mnod [OPTION...]\n\n"
			 "The agent of mno: measures this host, keeps the history, answers on a "
			 "socket.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		mno_buf_addf(&b, "  --%-13s %-9s %s\n", table[i].name, table[i].arg ?: "",
			table[i].help);
	mno_buf_adds(&b, "\nSettings of the configuration file:\n");
	mno_config_describe(&b);
	mno_buf_adds(&b, "\nExit status: 0 ended as asked, 1 --check-store found damage, or "
			 "--restore\nrefused the backup or left damage out, 2 wrong "
			 "usage, 4 no permission, 5 bad "
			 "settings or\n"
			 "state from a newer version, 6 another error, 7 another agent uses the "
			 "state or socket.\n"
			 "SIGTERM and SIGINT end it cleanly, SIGHUP reads the settings again.\n\n"
			 "Examples:\n"
			 "  mnod --state /tmp/mno --socket /tmp/mno.sock --for 10m\n"
			 "  mnoctl -s /tmp/mno.sock status\n");
	fputs(mno_buf_cstr(&b), stdout);
}

static void suggest(const char *word)
{
	const char *best = NULL;
	unsigned dist = 4;

	while (*word == '-')
		word++;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		unsigned d = mno_edit_distance(word, table[i].name);

		if (d < dist) {
			dist = d;
			best = table[i].name;
		}
	}
	if (best)
		fprintf(stderr, "Did you mean --%s? ", best);
	fprintf(stderr, "See mnod --help.\n");
}

/* "seq:7", "7": a change; 1790000000 or more digits, 2026-11-23T20:45:00Z: a time. */
static int read_moment(const char *v, struct mno_docs_until *ret)
{
	size_t digits = strspn(v, "0123456789");
	struct tm tm = {0};
	const char *rest;
	double unix_s;
	uint64_t seq;

	*ret = (struct mno_docs_until){0};
	if (!strncmp(v, "seq:", 4) || (digits < 9 && !v[digits]))
		if (mno_parse_u64(v + (*v == 's' ? 4 : 0), &seq) == 0 && seq) {
			ret->seq = seq;
			return 0;
		}
	if (digits >= 9 && mno_parse_f64(v, &unix_s) == 0 && unix_s > 0 && unix_s < 1e10) {
		ret->ms = (int64_t)(unix_s * 1000 + 0.5);
		return 0;
	}
	rest = strptime(v, "%Y-%m-%dT%H:%M:%S", &tm);
	if (rest && (!strcmp(rest, "Z") || !*rest)) {
		tm.tm_isdst = -1;
		unix_s = (double)(*rest ? timegm(&tm) : mktime(&tm));
		if (unix_s > 0 && unix_s < 1e10) {
			ret->ms = (int64_t)unix_s * 1000 + 999; /* all of that second */
			return 0;
		}
	}
	fprintf(stderr,
		"mnod: --docs-until: \"%.64s\" is no moment: write 2026-11-23T20:45:00Z, seconds "
		"since "
		"1970, or seq:NUMBER of a change\n",
		v);
	return -EINVAL;
}

static int copy(char *dst, size_t size, const char *what, const char *v)
{
	if (!*v || strlen(v) >= size) {
		fprintf(stderr, "mnod: --%s: empty, or longer than %zu bytes\n", what, size - 1);
		return -EINVAL;
	}
	strcpy(dst, v);
	return 0;
}

static int take(struct mno_options *o, enum opt opt, const char *v)
{
	switch (opt) {
	case O_STATE:
		return copy(o->config.state, sizeof(o->config.state), "state", v);
	case O_SOCKET:
		return copy(o->config.socket, sizeof(o->config.socket), "socket", v);
	case O_USER:
		return copy(o->config.user, sizeof(o->config.user), "user", v);
	case O_FOR:
		if (!mno_duration_parse(v, &o->for_ns) && o->for_ns)
			return 0;
		fprintf(stderr, "mnod: --for: \"%s\" is no duration; write 90s, 10m, 1h30m\n", v);
		return -EINVAL;
	case O_RESTORE:
		o->restore = v;
		return 0;
	case O_KEY:
		o->restore_key = v;
		return 0;
	case O_REPLACE:
		o->replace = true;
		return 0;
	case O_PARTIAL:
		o->partial = true;
		return 0;
	case O_DOCS_UNTIL:
		return read_moment(v, &o->docs_until);
	case O_LIST_BACKUPS:
		o->list_backups = v;
		return 0;
	case O_JSON:
		o->json = true;
		return 0;
	case O_CHECK_STORE:
		o->check_store = true;
		return 0;
	case O_NO_BPF:
		o->config.bpf = false;
		return 0;
	case O_MIGRATE:
		o->migrate = v;
		return 0;
	case O_VERBOSE:
		o->verbose = true;
		return 0;
	default:
		return 0;
	}
}

static enum mno_options_result load(struct mno_options *o)
{
	_cleanup_buf_ struct mno_buf errors = {.max = 1 << 20};
	const char *path = o->config_path ?: DEFAULT_CONFIG;
	int r = (o->check_config ? mno_config_load_what_fits : mno_config_load)(
		&o->config, path, &errors);

	if (r == -ENOENT && !o->config_path)
		return MNO_OPTIONS_RUN;
	if (r == 0)
		return MNO_OPTIONS_RUN;
	if (errors.len)
		fputs(mno_buf_cstr(&errors), stderr);
	else
		fprintf(stderr, "mnod: %s: %s\n", path, mno_strerror(r));
	return MNO_OPTIONS_BAD_CONFIG;
}

static const struct {
	char letter;
	enum opt opt;
} letters[] = {{'h', O_HELP}, {'V', O_VERSION}, {'v', O_VERBOSE}};

/* Row of an option word; whole names only, so that a new option never changes an old script. */
static int find_row(const char *word)
{
	size_t n = strcspn(word, "=");

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (!strncmp(word, "--", 2) && strlen(table[i].name) == n - 2 &&
			!strncmp(word + 2, table[i].name, n - 2))
			return (int)i;
		for (size_t k = 0; k < ARRAY_SIZE(letters); k++)
			if (word[0] == '-' && word[1] == letters[k].letter && !word[2] &&
				letters[k].opt == table[i].opt)
				return (int)i;
	}
	return -ENOENT;
}

/* The value of the option at argv[*i], in the same word or the next; NULL if there is none. */
static const char *value_of(int argc, char **argv, int *i)
{
	const char *eq = strchr(argv[*i], '=');

	if (eq)
		return eq + 1;
	return *i + 1 < argc ? argv[++*i] : NULL;
}

static void print_events(void)
{
	_cleanup_buf_ struct mno_buf b = {0};

	mno_buf_adds(&b,
		"# Records of mno\n\nEvery record also has kind, time_ns (Unix), cpu and seq "
		"(per probe and CPU: a gap is a loss).\n\n");
	mno_kinds_reference(mno_probes_kinds(), &b);
	fputs(mno_buf_cstr(&b), stdout);
}

/* Options that say something and end the program; false for all others. */
static bool tell(enum opt opt)
{
	if (opt == O_HELP)
		print_help();
	else if (opt == O_VERSION)
		puts("mnod " MNO_VERSION);
	else if (opt == O_EVENTS)
		print_events();
	else
		return false;
	return true;
}

/* One pass over the words: the configuration file's name first, then all the rest over it. */
static int scan(struct mno_options *o, int argc, char **argv, bool only_config)
{
	int r = 0;

	for (int i = 1; i < argc && r >= 0; i++) {
		const char *word = argv[i], *v = NULL;
		int row = find_row(word);

		if (row < 0) {
			fprintf(stderr, "mnod: unknown %s \"%.64s\". ",
				*word == '-' ? "option" : "argument", word);
			suggest(word);
			return -EINVAL;
		}
		if (table[row].arg && !(v = value_of(argc, argv, &i))) {
			fprintf(stderr, "mnod: %s needs a value: %s. See mnod --help.\n", word,
				table[row].arg);
			return -EINVAL;
		}
		if (tell(table[row].opt))
			return 1;
		if (table[row].opt == O_CONFIG)
			o->config_path = v;
		else if (table[row].opt == O_CHECK)
			o->check_config = true;
		else if (!only_config)
			r = take(o, table[row].opt, v);
	}
	return r;
}

/* All that is wrong at once: what @loaded told of the file already, and what would not work. */
static enum mno_options_result check(const struct mno_options *o, enum mno_options_result loaded)
{
	_cleanup_buf_ struct mno_buf errors = {.max = 1 << 20}, notes = {.max = 1 << 20};
	int r = mno_config_check(&o->config, &errors, &notes);

	fputs(mno_buf_cstr(&errors), stderr);
	if (r < 0 || loaded != MNO_OPTIONS_RUN)
		return MNO_OPTIONS_BAD_CONFIG;
	printf("%ssettings are fine%s%s\n", mno_buf_cstr(&notes), o->config_path ? ": " : "",
		o->config_path ?: "");
	return MNO_OPTIONS_DONE;
}

enum mno_options_result mno_options_parse(struct mno_options *o, int argc, char **argv)
{
	enum mno_options_result res;
	int r;

	*o = (struct mno_options){0};
	mno_config_defaults(&o->config);
	r = scan(o, argc, argv, true);
	if (r != 0)
		return r < 0 ? MNO_OPTIONS_BAD_USAGE : MNO_OPTIONS_DONE;
	res = load(o);
	if (res != MNO_OPTIONS_RUN && !o->check_config)
		return res;
	if (scan(o, argc, argv, false) < 0)
		return MNO_OPTIONS_BAD_USAGE;
	o->no_bpf = !o->config.bpf;
	return o->check_config ? check(o, res) : MNO_OPTIONS_RUN;
}
