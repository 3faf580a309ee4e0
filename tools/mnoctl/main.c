/* SPDX-License-Identifier: Apache-2.0 */
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "ctl.h"
#include "mno/util.h"

#define INSTALLED_SOCKET "/run/mno/mno.sock"
#define BUILD_SOCKET     "build/run/mno.sock"

static volatile int stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

static void catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static const char *find_socket(const struct ctl_args *a)
{
	const char *s = ctl_opt(a, "socket");
	struct stat st;

	if (!s)
		s = getenv("MNO_SOCKET");
	if (s && *s)
		return s;
	/* a checkout's own agent, when none is installed */
	if (stat(INSTALLED_SOCKET, &st) != 0 && stat(BUILD_SOCKET, &st) == 0)
		return BUILD_SOCKET;
	return INSTALLED_SOCKET;
}

static int terminal_width(void)
{
	const char *env = getenv("COLUMNS");
	struct winsize ws;
	uint64_t n;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col)
		return ws.ws_col;
	return env && mno_parse_u64(env, &n) == 0 && n >= 20 && n <= 1000 ? (int)n : 80;
}

static void look_at_output(struct ctl *c, const struct ctl_args *a)
{
	const char *term = getenv("TERM"), *no = getenv("NO_COLOR");

	c->tty = isatty(STDOUT_FILENO);
	c->width = c->tty ? terminal_width() : 0;
	c->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	c->color = c->tty && !c->json && !(no && *no) && !ctl_has(a, "no-color") &&
		   !(term && strcmp(term, "dumb") == 0);
}

/* Errors in the arguments are JSON too when -j is among them. */
static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-j") == 0 || strcmp(argv[i], "--json") == 0)
			return true;
	return false;
}

static int run(struct ctl *c)
{
	const struct ctl_args *a = c->args;
	struct ctl_error e;
	int r;

	if (ctl_has(a, "version")) {
		ctl_printf(
			c, CTL_PLAIN, c->json ? "{\"version\":\"%s\"}\n" : "mno %s\n", MNO_VERSION);
		return 0;
	}
	if (ctl_has(a, "help")) {
		if (a->verb)
			ctl_help_verb(&c->out, a->verb);
		else
			ctl_help_all(&c->out);
		return 0;
	}
	r = mno_client_new(c->socket, 0, &c->client);
	if (r < 0) {
		ctl_explain_errno(c, r, &e);
		return ctl_error_print(c, &e);
	}
	return a->verb->fn(c);
}

int main(int argc, char **argv)
{
	struct ctl_args args;
	struct ctl_error e;
	struct ctl c = {.args = &args, .stop = &stopped, .json = wants_json(argc, argv)};
	int r, w;

	setlocale(LC_CTYPE, "");
	if (ctl_parse(argc, argv, &args, &e))
		return ctl_error_print(&c, &e);
	c.json = ctl_has(&args, "json");
	c.socket = find_socket(&args);
	look_at_output(&c, &args);
	catch_signals();
	r = run(&c);
	w = ctl_flush(&c);
	mno_client_free(c.client);
	mno_buf_done(&c.out);
	return w ? w : r;
}
