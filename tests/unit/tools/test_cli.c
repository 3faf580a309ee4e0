/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "ctl.h"
#include "mno/time.h"

/* Splits at '|', so that arguments may hold spaces and be empty. */
static int parse(const char *line, struct ctl_args *a, struct ctl_error *e)
{
	static char copy[512];
	static char *argv[CTL_MAX_SET * 2];
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	argv[argc++] = (char *)"mnoctl";
	for (char *p = *copy ? copy : NULL; p;)
		argv[argc++] = strsep(&p, "|");
	*e = (struct ctl_error){0};
	return ctl_parse(argc, argv, a, e);
}

static const struct {
	const char *line;
	int exit;
	const char *say; /* in the message */
} lines[] = {
	{"status", 0, NULL},
	{"-j|status", 0, NULL},
	{"status|-j", 0, NULL},
	{"-s|/x|status|--json", 0, NULL},
	{"--socket=/x|status", 0, NULL},
	{"-js/x|status", 0, NULL},
	{"--help", 0, NULL},
	{"query|--help", 0, NULL},
	{"--version", 0, NULL},
	{"query|--|-x", 0, NULL},
	{"query|-", 0, NULL},
	{"events|-k|exec|--kind|exit|-f", 0, NULL},
	{"top|-n5|--by=process|--sort|read", 0, NULL},
	{"probes|enable|syscall|--for|60s|--dry-run", 0, NULL},
	{"", 2, "which verb?"},
	{"-j", 2, "which verb?"},
	{"statu", 2, "unknown verb \"statu\". Did you mean \"status\"?"},
	{"Status", 2, "Did you mean \"status\"?"},
	{"stauts", 2, "Did you mean \"status\"?"},
	{"eventz", 2, "Did you mean \"events\"?"},
	{"frobnicate", 2, "unknown verb \"frobnicate\""},
	{"st\x1b[31m", 2, "unknown verb \"st\\x1b[31m\""},
	{"status|--sokcet|x", 2, "unknown option \"--sokcet\". Did you mean \"--socket\"?"},
	{"events|--folow", 2, "Did you mean \"--follow\"?"},
	{"events|--folow=1", 2, "unknown option \"--folow\". Did you mean \"--follow\"?"},
	{"status|--since|1h", 2, "unknown option \"--since\""},
	{"status|-x", 2, "unknown option \"-x\""},
	{"status|more", 2, "unexpected argument \"more\""},
	{"query", 2, "query needs EXPR"},
	{"query|a|b", 2, "unexpected argument \"b\""},
	{"probes|enabl|x", 2, "Did you mean \"enable\"?"},
	{"proc|kill|1", 2, "unknown argument \"kill\""},
	{"completion|fish", 2, "unknown argument \"fish\""},
	{"status|-s", 2, "--socket needs a value: --socket SOCKET"},
	{"-s|a|-s|b|status", 2, "--socket is given twice"},
	{"status|--json=1", 2, "--json takes no value"},
	{"probes|enable|x|--for|60x", 5, "--for \"60x\" is not a duration"},
	{"probes|enable|x|--for|0", 5, "is not a duration"},
	{"probes|enable|x|--for|-5s", 5, "is not a duration"},
	{"proc|list|--since|yesterday", 5, "--since \"yesterday\" is not a time"},
	{"events|--pid|root", 5, "--pid \"root\" is not a whole number"},
	{"proc|list|-n|0", 5, "--limit \"0\" is not a whole number from 1"},
	{"proc|list|-n|99999999999999999999", 5, "is not a whole number"},
	{"proc|list|--comm|", 5, "--comm \"\" is not some text"},
	{"top|--by|proc", 5, "Did you mean \"process\"?"},
	{"top|--sort|zzzzzz", 5, "--sort \"zzzzzz\" is not known"},
};

static void command_lines(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct ctl_error e;
		struct ctl_args a;
		int r = parse(lines[i].line, &a, &e);

		if (r != lines[i].exit || (r && !strstr(e.msg, lines[i].say)) || (r && e.exit != r))
			fail_msg("%s: exit %d, %s", lines[i].line, r, e.msg);
	}
}

static void values(void **state)
{
	struct ctl_error e;
	struct ctl_args a;

	assert_int_equal(parse("events|-k|exec|-s|/x|--kind=exit|-n|7|--|", &a, &e), 2);
	assert_int_equal(parse("events|-k|exec|-s|/x|--kind=exit|-n|7", &a, &e), 0);
	assert_string_equal(a.verb->name, "events");
	assert_string_equal(ctl_opt(&a, "socket"), "/x");
	assert_string_equal(ctl_opt_nth(&a, "kind", 0), "exec");
	assert_string_equal(ctl_opt_nth(&a, "kind", 1), "exit");
	assert_null(ctl_opt_nth(&a, "kind", 2));
	assert_int_equal(ctl_opt_u64(&a, "limit", 1), 7);
	assert_int_equal(ctl_opt_u64(&a, "since", 1), 1);
	assert_false(ctl_has(&a, "follow"));
	assert_int_equal(parse("probes|enable|x|--for=1m30s", &a, &e), 0);
	assert_int_equal(ctl_opt_ns(&a, "for", 0), 90 * NS_PER_SEC);
	assert_int_equal(a.n_pos, 2);
}

static void too_many_options(void **state)
{
	char *argv[200] = {(char *)"mnoctl", (char *)"events"};
	struct ctl_error e;
	struct ctl_args a;

	for (size_t i = 2; i < ARRAY_SIZE(argv); i++)
		argv[i] = (char *)"-kexec";
	assert_int_equal(ctl_parse(ARRAY_SIZE(argv), argv, &a, &e), CTL_USAGE);
}

static void times(void **state)
{
	const uint64_t now = 1700000000 * NS_PER_SEC;
	static const struct {
		const char *text;
		int r;
		uint64_t ns;
	} cases[] = {
		{"now", 0, 1700000000 * NS_PER_SEC},
		{"10m", 0, 1699999400 * NS_PER_SEC},
		{"1h30m", 0, 1699994600 * NS_PER_SEC},
		{"60", 0, 1699999940 * NS_PER_SEC},
		{"1600000000", 0, 1600000000 * NS_PER_SEC},
		{"1600000000.5", 0, 1600000000 * NS_PER_SEC + 500 * NS_PER_MS},
		{"2026-11-02T14:02:11Z", 0, 1793628131 * NS_PER_SEC},
		{"99999999999", -ERANGE, 0},
		{"90y", -ERANGE, 0},
		{"90x", -EINVAL, 0},
		{"2026-13-02T14:02:11Z", -EINVAL, 0},
		{"2026-11-02T14:02:11Zx", -EINVAL, 0},
		{"2026-11-02", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"-5m", -EINVAL, 0},
		{"nan", -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t ns = 0;
		int r = ctl_time_parse(cases[i].text, now, &ns);

		if (r != cases[i].r || ns != cases[i].ns)
			fail_msg("%s: %d, %llu", cases[i].text, r, (unsigned long long)ns);
	}
}

static void nearest(void **state)
{
	static const struct {
		const char *word, *want;
	} cases[] = {{"statsu", "status"}, {"doc", "doctor"}, {"polcy", "policy"}, {"tpo", "top"},
		{"x", NULL}, {"completely-else", NULL}, {"", NULL}};
	char buf[64];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *got = ctl_nearest(
			"status doctor policy top  completion", cases[i].word, buf, sizeof(buf));

		if (cases[i].want ? !got || strcmp(got, cases[i].want) != 0 : got != NULL)
			fail_msg("%s: %s", cases[i].word, got ? got : "none");
	}
	assert_true(ctl_word_in("a bc d", "bc"));
	assert_false(ctl_word_in("a bc d", "b"));
	assert_false(ctl_word_in("a bc d", ""));
	assert_false(ctl_word_in("", "b"));
}

/* The tables themselves: what the generated pages take for granted. */
static void tables_are_sound(void **state)
{
	_cleanup_buf_ struct mno_buf pages = {0};

	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const struct ctl_verb *v = &ctl_verbs[i];
		char letters[128] = "";

		assert_true(
			v->fn && *v->summary && v->examples[0].command && v->max <= CTL_MAX_POS);
		assert_true(v->min <= v->max && (v->max == 0) == (*v->args == '\0'));
		for (const struct ctl_option *o = ctl_globals; o->name; o++)
			if (o->letter)
				letters[(int)o->letter] = 1;
		for (const struct ctl_option *o = v->options; o->name; o++) {
			assert_true((o->type == CTL_FLAG) == (o->metavar == NULL));
			assert_true((o->type == CTL_WORD) == (o->words != NULL));
			assert_non_null(o->help);
			for (const struct ctl_option *g = ctl_globals; g->name; g++)
				assert_string_not_equal(g->name, o->name);
			if (o->letter)
				assert_int_equal(letters[(int)o->letter]++, 0);
		}
		ctl_help_verb(&pages, v);
	}
	ctl_help_all(&pages);
	ctl_help_man(&pages);
	assert_int_equal(pages.err, 0);
	for (size_t i = 0; i < pages.len; i++)
		assert_true(
			pages.data[i] == '\n' || (pages.data[i] >= ' ' && pages.data[i] < 0x7f));
}

static void words_for_people(void **state)
{
	struct ctl c = {0};

	assert_string_equal(ctl_ns(&c, 0), "0 ns");
	assert_string_equal(ctl_ns(&c, 640), "640 ns");
	assert_string_equal(ctl_ns(&c, 1500), "1.5 us");
	assert_string_equal(ctl_ns(&c, 1.2e6), "1.2 ms");
	assert_string_equal(ctl_ns(&c, 2.6e9), "2.6 s");
	assert_string_equal(ctl_ns(&c, NAN), "-");
	assert_string_equal(ctl_percent(&c, 0.621), "0.62 %");
	assert_string_equal(ctl_percent(&c, 6.14), "6.1 %");
	assert_string_equal(ctl_percent(&c, 41.2), "41 %");
	assert_string_equal(ctl_percent(&c, NAN), "-");
	assert_string_equal(ctl_exact(&c, 0), "0");
	assert_string_equal(ctl_exact(&c, 999), "999");
	assert_string_equal(ctl_exact(&c, 1000), "1,000");
	assert_string_equal(ctl_exact(&c, 18204113), "18,204,113");
	assert_string_equal(ctl_exact(&c, UINT64_MAX), "18,446,744,073,709,551,615");
	assert_string_equal(ctl_esc(&c, NULL), "");
	assert_string_equal(ctl_esc(&c, "a\033[2Jb\u202ec"), "a\\x1b[2Jb\\xe2\\x80\\xaec");
}

static void cut_text_is_marked(void **state)
{
	struct ctl c = {0};
	char text[CTL_TEXT_MAX * 2];
	const char *s;

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	s = ctl_esc(&c, text);
	assert_string_equal(s + strlen(s) - 4, "a\u2026");
	assert_true(strlen(s) < CTL_TEXT_MAX);
	memset(text, '\033', sizeof(text) - 1);
	s = ctl_esc(&c, text);
	assert_string_equal(s + strlen(s) - 7, "\\x1b\u2026");
	text[CTL_TEXT_MAX / 8] = '\0';
	s = ctl_esc(&c, text);
	assert_string_equal(s + strlen(s) - 4, "\\x1b");
}

static void completeness_never_rounds_up(void **state)
{
	static const struct {
		const char *json, *want;
	} cases[] = {
		{"{\"seen\":10,\"dropped\":0}", "complete 100 %"},
		{"{\"seen\":0,\"dropped\":0}", "complete 100 %"},
		{"{\"seen\":18204113,\"dropped\":1}", "complete 99.99 %"},
		{"{\"seen\":100,\"dropped\":50}", "complete 50 %"},
		{"1.0", "complete 100 %"},
		{"0.9999999", "complete 99.99 %"},
		{"{}", "completeness not known"},
		{"null", "completeness not known"},
	};
	struct ctl c = {0};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct json_object *o = json_tokener_parse(cases[i].json);

		assert_string_equal(ctl_completeness(&c, o), cases[i].want);
		json_object_put(o);
	}
}

static void charts(void **state)
{
	const double v[] = {0, 1, NAN, 7}, flat[] = {3, 3}, many[] = {0, 1, 2, 3, 4, 5, 6, 7};
	struct ctl c = {0};

	assert_string_equal(ctl_spark(&c, v, 4, 10), "\u2581\u2582 \u2588");
	assert_string_equal(ctl_spark(&c, flat, 2, 10), "\u2581\u2581");
	/* fewer columns than values: the highest of each group, so that no peak is lost */
	assert_string_equal(ctl_spark(&c, many, 8, 2), "\u2584\u2588");
	assert_string_equal(ctl_spark(&c, v, 0, 10), "");
}

static void tables_fit(void **state)
{
	static const struct ctl_col cols[] = {{.head = "name", .flex = true},
		{.head = "n", .right = true}, {.head = "rare", .drop = 1}};
	_cleanup_table_ struct ctl_table t;
	struct ctl c = {.width = 20, .utf8 = true};

	ctl_table_init(&t, cols, ARRAY_SIZE(cols));
	ctl_cell(&t, CTL_PLAIN, "%s", "a-rather-long-name-that-is-cut");
	ctl_cell(&t, CTL_PLAIN, "%d", 42);
	ctl_cell(&t, CTL_PLAIN, "%s", "seldom");
	ctl_cell(&t, CTL_PLAIN, "%s", "b");
	ctl_cell(&t, CTL_PLAIN, "%d", 7);
	ctl_cell(&t, CTL_PLAIN, "%s", "seen");
	ctl_table_print(&c, &t);
	assert_string_equal(mno_buf_cstr(&c.out),
		"name               n\na-rather-long-n\u2026  42\nb                  7\n");
	mno_buf_reset(&c.out);
	c.width = 0; /* a pipe: everything */
	ctl_table_print(&c, &t);
	assert_non_null(
		strstr(mno_buf_cstr(&c.out), "a-rather-long-name-that-is-cut  42  seldom\n"));
	mno_buf_done(&c.out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_lines),
		cmocka_unit_test(values),
		cmocka_unit_test(too_many_options),
		cmocka_unit_test(times),
		cmocka_unit_test(nearest),
		cmocka_unit_test(tables_are_sound),
		cmocka_unit_test(words_for_people),
		cmocka_unit_test(cut_text_is_marked),
		cmocka_unit_test(completeness_never_rounds_up),
		cmocka_unit_test(charts),
		cmocka_unit_test(tables_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
