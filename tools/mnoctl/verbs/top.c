/* SPDX-License-Identifier: Apache-2.0 */
/* The live screen: the alternate one, redrawn whole; the old one comes back at the end. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include "mno/err.h"
#include "mno/time.h"
#include "top.h"
#include "verbs.h"

#define SCREEN_ON   "\033[?1049h\033[?25l"
#define SCREEN_OFF  "\033[?25h\033[?1049l"
#define HOME        "\033[H"
#define CLEAR_LINE  "\033[K"
#define CLEAR_BELOW "\033[J"
#define SLICE_MS    200

const struct ctl_option top_options[] = {
	{"by", 0, CTL_WORD, .metavar = "WHAT", .help = "what a row is", .words = "cgroup process"},
	{"sort", 0, CTL_WORD, .metavar = "COLUMN", .help = "largest first", .words = TOP_SORTS},
	{"interval", 'i', CTL_DURATION, .metavar = "DURATION",
		.help = "time between two looks (1s)"},
	{"count", 'n', CTL_COUNT, .metavar = "COUNT", .help = "look so often, then end"},
	{0},
};

struct top {
	struct ctl *c;
	enum top_by by;
	const char *sort;
	uint64_t interval_ns, left; /* @left: looks to take; UINT64_MAX = until stopped */
	char target[64];
	struct ctl_answer a;
	struct termios before;
	int rows;
	bool live;
};

/* What a dash in a column means, and how to fill it; on a live screen there is no room. */
static void show_unknown(struct ctl *c, struct json_object *degraded)
{
	for (size_t i = 0; i < jlen(degraded); i++) {
		struct json_object *d = jidx(degraded, i);

		ctl_field(c, "note", CTL_DIM, "%s: %s%s%s", ctl_esc(c, jstr(d, "what")),
			ctl_esc(c, jstr(d, "why")), *jstr(d, "todo") ? ". To do: " : "",
			ctl_esc(c, jstr(d, "todo")));
	}
}

static void show_footer(struct top *t, size_t n)
{
	struct ctl *c = t->c;

	if (!t->live)
		show_unknown(c, jget(t->a.root, "degraded"));
	if (t->live)
		ctl_printf(c, CTL_DIM, "c cgroup  p process  s sort (%s)  q quit\n", t->sort);
	ctl_footer(c, "%s \u00b7 %s over %s, by %s \u00b7 answered in %s",
		ctl_completeness(c, jget(t->a.root, "completeness")),
		t->by == TOP_CGROUP ? ctl_things(c, n, "cgroup", "cgroups")
				    : ctl_things(c, n, "process", "processes"),
		ctl_seconds(c, jf64(t->a.root, "interval_seconds")), t->sort,
		ctl_ns(c, (double)t->a.took_ns));
}

/* Each line clears its own rest: a redraw without flicker. */
static void add_screen(struct mno_buf *out, const char *text, size_t n)
{
	mno_buf_adds(out, HOME);
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\n')
			mno_buf_adds(out, CLEAR_LINE "\r\n");
		else
			mno_buf_addc(out, text[i]);
	}
	mno_buf_adds(out, CLEAR_BELOW);
}

static int draw(struct top *t)
{
	struct ctl *c = t->c;
	_cleanup_buf_ struct mno_buf screen = {0};
	struct winsize ws;
	size_t n;

	if (t->live && ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col && ws.ws_row) {
		c->width = ws.ws_col;
		t->rows = ws.ws_row;
	}
	/* header, keys, footer of up to two lines, and the cursor's own */
	n = top_table(c, t->a.root, t->by, t->sort, c->tty ? (size_t)MNO_MAX(t->rows - 5, 1) : 0);
	show_footer(t, n);
	if (t->live) {
		add_screen(&screen, c->out.data, c->out.len);
		mno_buf_reset(&c->out);
		mno_buf_add(&c->out, screen.data, screen.len);
	}
	return ctl_flush(c);
}

static int look(struct top *t)
{
	struct ctl *c = t->c;
	int r;

	ctl_answer_done(&t->a);
	r = ctl_get(c, t->target, &t->a);
	if (r)
		return r;
	if (!c->json)
		return draw(t);
	ctl_put_json(c, &t->a.body);
	return ctl_flush(c);
}

static void view(struct top *t, enum top_by by)
{
	t->by = by;
	if (!top_has_sort(by, t->sort))
		t->sort = "cpu";
}

/* 1 = quit. */
static int on_key(struct top *t, char key)
{
	switch (key) {
	case 'q':
	case 3: /* ^C, when the terminal does not make a signal of it */
		return 1;
	case 'c':
		view(t, TOP_CGROUP);
		break;
	case 'p':
		view(t, TOP_PROCESS);
		break;
	case 's':
		t->sort = top_next_sort(t->by, t->sort);
		break;
	default:
		return 0;
	}
	draw(t);
	return 0;
}

/* Waits for the next look; keys act at once. 1 = end. */
static int wait_next(struct top *t, uint64_t until)
{
	for (;;) {
		uint64_t now = mno_now_ns(CLOCK_MONOTONIC), left;
		struct pollfd p = {.fd = t->live ? STDIN_FILENO : -1, .events = POLLIN};
		char key;

		if (*t->c->stop)
			return 1;
		/* at least one look at the keys, even when the agent took all the time */
		left = until > now ? (until - now) / NS_PER_MS + 1 : 0;
		poll(&p, 1, (int)MNO_MIN(left, (uint64_t)SLICE_MS));
		if (!p.revents && !left)
			return 0;
		if (!p.revents)
			continue;
		if (read(STDIN_FILENO, &key, 1) != 1 || on_key(t, key))
			return 1;
	}
}

static int loop(struct top *t)
{
	uint64_t next = mno_now_ns(CLOCK_MONOTONIC);
	int r = 0;

	while (t->left && !*t->c->stop) {
		r = look(t);
		if (r)
			break;
		if (t->left != UINT64_MAX && !--t->left)
			break;
		next = MNO_MAX(next + t->interval_ns, mno_now_ns(CLOCK_MONOTONIC));
		if (wait_next(t, next))
			break;
	}
	return r;
}

static void put(const char *s)
{
	ssize_t n = write(STDOUT_FILENO, s, strlen(s));

	(void)n; /* a terminal that is gone needs no clean-up */
}

static int run_live(struct top *t)
{
	struct termios raw = t->before;
	int r;

	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	put(SCREEN_ON);
	r = loop(t);
	put(SCREEN_OFF);
	tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
	if (r) /* printed again: the alternate screen is gone */
		return ctl_error_print(t->c, &t->c->last);
	t->live = false;
	return t->a.root && !*t->c->stop ? draw(t) : 0;
}

int verb_top(struct ctl *c)
{
	const char *by = ctl_opt(c->args, "by"), *sort = ctl_opt(c->args, "sort");
	struct top t = {.c = c, .sort = sort ? sort : "cpu", .rows = 24};
	bool live = c->tty && !c->json && tcgetattr(STDIN_FILENO, &t.before) == 0;
	int r;

	t.by = by && strcmp(by, "process") == 0 ? TOP_PROCESS : TOP_CGROUP;
	if (!top_has_sort(t.by, t.sort))
		return ctl_fail(c, CTL_INVALID, NULL, "the table by %s has no column \"%s\"",
			t.by == TOP_CGROUP ? "cgroup" : "process", t.sort);
	t.interval_ns = ctl_opt_ns(c->args, "interval", NS_PER_SEC);
	if (t.interval_ns < NS_PER_SEC / 10 || t.interval_ns > 60 * NS_PER_SEC)
		return ctl_fail(c, CTL_INVALID, NULL, "--interval is from 100ms to 60s");
	t.left = ctl_opt_u64(c->args, "count", live ? UINT64_MAX : 1);
	t.live = live;
	/* the agent's first answer takes one interval */
	mno_client_free(c->client);
	c->client = NULL;
	r = mno_client_new(c->socket, t.interval_ns + 10 * NS_PER_SEC, &c->client);
	if (r < 0)
		return ctl_fail(c, CTL_INTERNAL, NULL, "%s", mno_strerror(r));
	snprintf(t.target, sizeof(t.target), "/mno/v1/top?interval=%llums",
		(unsigned long long)(t.interval_ns / NS_PER_MS));
	r = live ? run_live(&t) : loop(&t);
	ctl_answer_done(&t.a);
	return r;
}
