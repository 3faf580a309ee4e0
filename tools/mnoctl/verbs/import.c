/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "mno/err.h"
#include "mno/time.h"
#include "verbs.h"

#define PROGRESS_AFTER (2 * NS_PER_SEC)
#define PROGRESS_EVERY (NS_PER_SEC / 5)
#define IDLE_NS        (300 * NS_PER_SEC)

const struct ctl_option import_options[] = {
	{"format", 'f', CTL_WORD, .metavar = "FORMAT", .help = "what it is (default: as it looks)",
		.words = "openmetrics prometheus-text csv remote-write"},
	{"time", 0, CTL_TIME, .metavar = "TIME",
		.help = "of samples that have none: now, 10m (ago), Unix seconds or RFC 3339"},
	{0},
};

struct input {
	struct ctl *c;
	int fd, err;
	bool progress, shown;
	uint64_t size, done, start_ns, next_ns; /* size 0: not known */
};

static void show_progress(struct input *in, uint64_t now)
{
	double s = (double)(now - in->start_ns) / (double)NS_PER_SEC, rate = (double)in->done / s;

	fprintf(stderr, "\r\033[K  %s", ctl_bytes(in->c, (double)in->done));
	if (in->size)
		fprintf(stderr, " of %s (%.0f %%)", ctl_bytes(in->c, (double)in->size),
			100.0 * (double)in->done / (double)in->size);
	fprintf(stderr, ", %s a second", ctl_bytes(in->c, rate));
	if (in->size > in->done && rate > 0)
		fprintf(stderr, ", %s left",
			ctl_seconds(in->c, (double)(in->size - in->done) / rate));
	fflush(stderr);
	in->shown = true;
	in->next_ns = now + PROGRESS_EVERY;
}

static ssize_t read_input(void *arg, void *buf, size_t size)
{
	struct input *in = arg;
	uint64_t now = mno_now_ns(CLOCK_MONOTONIC);
	ssize_t n;

	if (in->progress && now >= in->next_ns)
		show_progress(in, now);
	do
		n = read(in->fd, buf, size);
	while (n < 0 && errno == EINTR && !*in->c->stop);
	if (n < 0) {
		in->err = errno;
		return errno == EINTR ? -ECANCELED : -EIO;
	}
	in->done += (uint64_t)n;
	return n;
}

static int open_input(struct ctl *c, const char *name, struct input *in)
{
	struct stat st;

	*in = (struct input){.c = c, .start_ns = mno_now_ns(CLOCK_MONOTONIC)};
	in->fd = strcmp(name, "-") == 0 ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
	if (in->fd < 0)
		return ctl_fail(
			c, CTL_INVALID, NULL, "%s: %s", ctl_esc(c, name), mno_strerror(errno));
	if (fstat(in->fd, &st) == 0 && S_ISREG(st.st_mode))
		in->size = (uint64_t)st.st_size;
	in->progress = isatty(STDERR_FILENO);
	in->next_ns = in->start_ns + PROGRESS_AFTER;
	return 0;
}

static int make_target(struct ctl *c, const char *name, struct mno_buf *target)
{
	const char *at = ctl_opt(c->args, "time");
	uint64_t ns;

	mno_buf_adds(target, "/mno/v1/import");
	ctl_param(target, "format", ctl_opt(c->args, "format"));
	if (strcmp(name, "-") != 0)
		ctl_param(target, "file", strrchr(name, '/') ? strrchr(name, '/') + 1 : name);
	if (at) {
		char text[32];

		if (ctl_time_parse(at, mno_now_ns(CLOCK_REALTIME), &ns) < 0)
			return ctl_fail(c, CTL_INVALID, NULL, "%s is no time", ctl_esc(c, at));
		snprintf(text, sizeof(text), "%llu.%03u", (unsigned long long)(ns / NS_PER_SEC),
			(unsigned)(ns % NS_PER_SEC / NS_PER_MS));
		ctl_param(target, "time", text);
	}
	return 0;
}

/* --- the answer --------------------------------------------------------------------------------- */

static void show_refused(struct ctl *c, struct json_object *o)
{
	struct json_object *examples = jget(o, "examples");

	if (!ju64(o, "refused_total"))
		return;
	ctl_printf(c, CTL_WARN, "%s refused:",
		ctl_things(c, ju64(o, "refused_total"), "sample or line", "samples or lines"));
	mno_buf_addc(&c->out, '\n');
	json_object_object_foreach(jget(o, "refused"), key, v)
	{
		mno_buf_addf(&c->out, "  %12s  %s\n", ctl_exact(c, json_object_get_uint64(v)),
			ctl_esc(c, key));
		for (size_t i = 0; i < jlen(examples); i++) {
			struct json_object *e = jidx(examples, i);

			if (strcmp(jstr(e, "reason"), key) == 0)
				ctl_printf(c, CTL_DIM, "                line %s: %s\n",
					ctl_exact(c, ju64(e, "line")), ctl_esc(c, jstr(e, "text")));
		}
	}
}

static void show(struct ctl *c, struct json_object *o)
{
	double seconds = jf64(o, "seconds"), n = (double)ju64(o, "accepted");

	if (jtrue(o, "guessed"))
		ctl_printf(c, CTL_DIM, "taken for %s, as it looks; --format decides\n",
			ctl_esc(c, jstr(o, "format")));
	ctl_printf(c, CTL_BOLD, "%s", ctl_things(c, ju64(o, "accepted"), "sample", "samples"));
	mno_buf_addf(
		&c->out, " of %s stored\n", ctl_things(c, ju64(o, "series"), "series", "series"));
	if (ju64(o, "histograms"))
		mno_buf_addf(&c->out, "%s stored\n",
			ctl_things(
				c, ju64(o, "histograms"), "native histogram", "native histograms"));
	if (ju64(o, "accepted"))
		mno_buf_addf(&c->out, "  from %s to %s\n",
			ctl_clock(c, ju64(o, "first_ms") * NS_PER_MS),
			ctl_clock(c, ju64(o, "last_ms") * NS_PER_MS));
	show_refused(c, o);
	if (ju64(o, "exemplars_skipped"))
		mno_buf_addf(&c->out, "%s not kept\n",
			ctl_things(c, ju64(o, "exemplars_skipped"), "exemplar", "exemplars"));
	if (jtrue(o, "end_missing"))
		ctl_printf(c, CTL_WARN, "the input does not end with \"# EOF\": it may be cut\n");
	ctl_footer(c, "%s in %s%s%s", ctl_bytes(c, (double)ju64(o, "bytes")),
		ctl_seconds(c, seconds), seconds > 0 ? ", samples a second: " : "",
		seconds > 0 ? ctl_count(c, n / seconds) : "");
}

static int explain(struct ctl *c, const struct input *in, int r)
{
	struct ctl_error e;

	if (in->err && in->err != EINTR)
		return ctl_fail(
			c, CTL_INVALID, NULL, "reading the input: %s", mno_strerror(in->err));
	if (r == -ECANCELED)
		return ctl_fail(c, CTL_NO, "import the same again: nothing is stored twice",
			"interrupted; what was read until then is stored");
	ctl_explain_errno(c, r, &e);
	return ctl_error_print(c, &e);
}

static int read_answer(struct ctl *c, int status, struct mno_buf *body)
{
	struct json_object *o;
	struct ctl_error e;
	int r;

	if (status != 200) {
		ctl_explain_status(status, body->data, body->len, &e);
		return ctl_error_print(c, &e);
	}
	o = ctl_parse_json(body->data, body->len);
	if (!o) {
		ctl_explain_errno(c, EPROTO, &e);
		return ctl_error_print(c, &e);
	}
	if (c->json)
		ctl_put_json(c, body);
	else
		show(c, o);
	r = !ju64(o, "accepted") && !ju64(o, "histograms") && ju64(o, "refused_total") ? CTL_INVALID
										       : CTL_OK;
	json_object_put(o);
	return r;
}

int verb_import(struct ctl *c)
{
	_cleanup_buf_ struct mno_buf target = {0}, body = {0};
	const char *name = c->args->pos[0];
	struct input in;
	int status = 0, r = make_target(c, name, &target);

	if (r == 0)
		r = open_input(c, name, &in);
	if (r)
		return r;
	r = mno_client_upload(c->client, mno_buf_cstr(&target), read_input, &in, IDLE_NS, c->stop,
		&status, &body);
	if (in.shown)
		fprintf(stderr, "\r\033[K");
	if (in.fd != STDIN_FILENO)
		close(in.fd);
	return r < 0 ? explain(c, &in, r) : read_answer(c, status, &body);
}
