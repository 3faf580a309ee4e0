/* SPDX-License-Identifier: Apache-2.0 */
#include "scrub.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/store_quarantine.h"
#include "mno/time.h"

#define PAUSE_NS (3600 * NS_PER_SEC) /* between two passes in the background */
#define FIRST_NS (600 * NS_PER_SEC)  /* the start is over by then */
#define NICE     19
#define TEXT_MAX 512
#define KEEP_NS  (30 * NS_PER_SEC) /* from one stored place to the next */

struct finding {
	char *text[5]; /* env, db, key, why, lost */
	uint64_t items;
};

struct mno_scrub {
	struct mno_store *store;
	uint64_t rate;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_bool cancel;
	bool stop, asked, deep, running, was_deep;
	struct mno_verify_progress p; /* texts: static or the walk's, copied below */
	char env[64], db[32];
	struct finding found[MNO_SCRUB_FINDINGS];
	size_t n_found;
	uint64_t passes;
	int64_t last_ms;
	int last_error;
	bool asked_pass;               /* the one under way */
	struct mno_verify_place place; /* of the passes in the background */
	uint64_t kept_ns;
	struct mno_scrub_stat last;
};

static void forget(struct mno_scrub *c)
{
	for (size_t i = 0; i < c->n_found; i++)
		for (size_t k = 0; k < ARRAY_SIZE(c->found[i].text); k++)
			free(c->found[i].text[k]);
	c->n_found = 0;
}

static void add_finding(void *arg, const struct mno_finding *f)
{
	const char *text[] = {f->env, f->db, f->key, f->why, f->lost};
	struct mno_scrub *c = arg;

	mno_err("store: damage in %s%s%s %s: %s. Lost: %s", f->env, *f->db ? ", " : "", f->db,
		f->key, f->why, *f->lost ? f->lost : "not known");
	pthread_mutex_lock(&c->lock);
	if (c->n_found < MNO_SCRUB_FINDINGS) {
		for (size_t k = 0; k < ARRAY_SIZE(text); k++)
			c->found[c->n_found].text[k] = strndup(text[k], TEXT_MAX);
		c->found[c->n_found++].items = f->items;
	}
	pthread_mutex_unlock(&c->lock);
}

static void keep_place(struct mno_scrub *c, const struct mno_verify_place *p)
{
	uint64_t now = mno_now_ns(CLOCK_MONOTONIC);

	c->place = *p;
	if (now - c->kept_ns < KEEP_NS && !c->stop)
		return;
	c->kept_ns = now;
	mno_verify_place_keep(c->store, p);
}

static void note_progress(void *arg, const struct mno_verify_progress *p)
{
	struct mno_scrub *c = arg;

	pthread_mutex_lock(&c->lock);
	c->p = *p;
	c->p.place = NULL;
	if (!c->asked_pass && p->place)
		keep_place(c, p->place);
	snprintf(c->env, sizeof(c->env), "%s", p->env);
	snprintf(c->db, sizeof(c->db), "%s", p->db);
	pthread_mutex_unlock(&c->lock);
}

/* Waits for the next pass; false: the end. */
static bool wait_turn(struct mno_scrub *c, uint64_t pause, bool *ret_asked)
{
	bool go;

	pthread_mutex_lock(&c->lock);
	while (!c->stop && !c->asked)
		if (mno_cond_wait_ns(&c->wake, &c->lock, c->rate ? pause : 3600 * NS_PER_SEC) ==
				-ETIMEDOUT &&
			c->rate)
			break;
	go = !c->stop;
	*ret_asked = c->asked;
	c->was_deep = c->asked ? c->deep : true;
	c->asked = false;
	c->running = go;
	atomic_store(&c->cancel, !go);
	if (go) {
		forget(c);
		c->p = (struct mno_verify_progress){.env = "", .db = ""};
	}
	pthread_mutex_unlock(&c->lock);
	return go;
}

static void pass(struct mno_scrub *c, bool asked)
{
	struct mno_verify_opts o = {.sz = sizeof(o),
		.deep = c->was_deep,
		.bytes_per_s = asked ? 0 : c->rate,
		.cancel = &c->cancel,
		.finding = add_finding,
		.progress = note_progress,
		.arg = c};
	const struct mno_verify_place from = c->place;
	struct mno_verify_progress p;
	int r;

	c->asked_pass = asked;
	o.from = asked ? NULL : &from;
	r = mno_store_verify(c->store, &o, &p);
	pthread_mutex_lock(&c->lock);
	c->running = false;
	if (r == 0 && !asked) {
		c->place = (struct mno_verify_place){.passes = c->place.passes + 1,
			.pass_ns = p.took_ns,
			.pass_ms = mno_now_ms()};
		mno_verify_place_keep(c->store, &c->place);
	}
	c->last_error = r;
	if (r == 0) {
		c->p = p;
		c->passes++;
		c->last_ms = mno_now_ms();
		c->last.damaged = p.damaged;
	}
	pthread_mutex_unlock(&c->lock);
}

static void *scrub_main(void *arg)
{
	struct mno_scrub *c = arg;
	uint64_t pause = FIRST_NS;
	bool asked;

	setpriority(PRIO_PROCESS, 0, NICE); /* of this thread only, on Linux */
	while (wait_turn(c, pause, &asked)) {
		pass(c, asked);
		pause = PAUSE_NS;
	}
	return NULL;
}

int mno_scrub_start(struct mno_store *s, uint64_t bytes_per_s, struct mno_scrub **ret)
{
	struct mno_scrub *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->store = s;
	c->rate = bytes_per_s;
	c->p.env = c->p.db = "";
	mno_verify_place_load(s, &c->place);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	r = -pthread_create(&c->thread, NULL, scrub_main, c);
	if (r < 0) {
		free(c);
		return r;
	}
	pthread_setname_np(c->thread, "mno-scrub");
	*ret = c;
	return 0;
}

struct mno_scrub *mno_scrub_stop(struct mno_scrub *c)
{
	if (!c)
		return NULL;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	atomic_store(&c->cancel, true);
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	if (c->place.under_way)
		mno_verify_place_keep(c->store, &c->place); /* for the writer's last commit */
	forget(c);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->wake);
	free(c);
	return NULL;
}

int mno_scrub_now(struct mno_scrub *c, bool deep)
{
	int r = 0;

	pthread_mutex_lock(&c->lock);
	if (c->asked) {
		r = -EBUSY;
	} else {
		c->asked = true;
		c->deep = deep;
		atomic_store(&c->cancel, true); /* a slow pass under way gives way */
		pthread_cond_signal(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void put_findings(struct mno_scrub *c, struct mno_json *j)
{
	static const char *const names[] = {"environment", "database", "key", "why", "lost"};

	mno_json_key(j, "findings");
	mno_json_arr(j);
	for (size_t i = 0; i < c->n_found; i++) {
		mno_json_obj(j);
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			mno_json_kstr(j, names[k], c->found[i].text[k]);
		mno_json_ku64(j, "items", c->found[i].items);
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

void mno_scrub_json(struct mno_scrub *c, struct mno_json *j)
{
	struct mno_quarantine_stat st;

	mno_quarantine_stat(c->store, &st);
	pthread_mutex_lock(&c->lock);
	mno_json_obj(j);
	mno_json_kbool(j, "running", c->running || c->asked);
	mno_json_kbool(j, "deep", c->was_deep);
	mno_json_kstr(j, "environment", c->running ? c->env : "");
	mno_json_kstr(j, "database", c->running ? c->db : "");
	mno_json_ku64(j, "bytes", c->p.bytes);
	mno_json_ku64(j, "of_bytes", c->p.file_bytes);
	mno_json_ku64(j, "values", c->p.values);
	mno_json_ku64(j, "environments", c->p.environments);
	mno_json_ku64(j, "damaged", c->p.damaged);
	mno_json_ku64(j, "gone", c->p.gone);
	mno_json_ku64(j, "rebuilt", st.rebuilt); /* since the start; that is soon after a check */
	mno_json_kf64(j, "seconds", (double)c->p.took_ns / (double)NS_PER_SEC);
	mno_json_ku64(j, "passes", c->passes);
	/* those in the background, which go on over restarts */
	mno_json_ku64(j, "whole_passes", c->place.passes);
	mno_json_kf64(j, "whole_pass_seconds", (double)c->place.pass_ns / (double)NS_PER_SEC);
	mno_json_ki64(j, "whole_pass_ms", c->place.pass_ms);
	mno_json_ki64(j, "last_ms", c->last_ms);
	mno_json_kstr(j, "last_error",
		c->last_error && c->last_error != -ECANCELED ? mno_strerror(c->last_error) : NULL);
	put_findings(c, j);
	mno_json_end(j);
	pthread_mutex_unlock(&c->lock);
}

void mno_scrub_stat(struct mno_scrub *c, struct mno_scrub_stat *ret)
{
	pthread_mutex_lock(&c->lock);
	*ret = (struct mno_scrub_stat){.passes = c->passes,
		.damaged = MNO_MAX(c->last.damaged, c->running ? c->p.damaged : 0),
		.bytes = c->p.bytes,
		.age_s = c->last_ms ? (uint64_t)(mno_now_ms() - c->last_ms) / 1000 : 0};
	pthread_mutex_unlock(&c->lock);
}
