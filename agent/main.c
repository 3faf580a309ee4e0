/* SPDX-License-Identifier: Apache-2.0 */
/* mnod: arguments, log, signals, the main loop. What the agent does begins in life.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <poll.h>
#include <systemd/sd-daemon.h>
#include "check_store.h"
#include "life.h"
#include "migrate.h"
#include "mno/crypt.h"
#include "restore.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"

static const struct {
	int err, code;
	const char *todo;
} exits[] = {
	{-EACCES, 4, "run it as root, or choose --state and --socket below a directory of yours"},
	{-EPERM, 4, "run it as root, or with --no-bpf"},
	{-EROFS, 4, "the file system is read-only: choose another --state"},
	{-MNO_EVERSION, 5, "install the newer version again, or choose another --state"},
	{-MNO_EMIGRATE, 5, "see the line above"},
	{-ECANCELED, 0, "start it again: the migration goes on where it was"},
	{-MNO_ECORRUPT, 5, "restore the directory from a backup, or choose another --state"},
	{-ENOKEY, 5, "give it the key that this store was made with (the line above names it)"},
	{-EKEYREJECTED, 5, "the key must have the right form and be closed to others (line above)"},
	{-MNO_EBUSY_STATE, 7, "stop it first, or choose another --state"},
	{-EADDRINUSE, 7, "another agent answers there: stop it, or choose another --socket"},
	{-ENOENT, 6, "make the folders above --state and --socket first"},
	{-ENOTDIR, 6, "a part of that path is no folder: choose another --state or --socket"},
	{-EISDIR, 6, "a folder is in the place of a file: choose another --state"},
	{-ELOOP, 6, "its symbolic links lead nowhere: choose another --state or --socket"},
	{-ENOTSOCK, 6, "the file there is no socket: remove it, or choose another --socket"},
	{-ESRCH, 6, "make that user, or choose another --user"},
	{-EMFILE, 6, "raise the limit of open files (ulimit -n, LimitNOFILE=)"},
	{-ENOMEM, 6, "raise the limit of address space (ulimit -v): the store is mapped"},
	{-EFBIG, 6, "raise the limit of file sizes (ulimit -f, LimitFSIZE=)"},
	{-ENOSPC, 6, "free some space, or choose --state on another file system"},
};

static void log_line(void *arg, enum mno_log_level level, const char *msg)
{
	bool journal = *(bool *)arg;

	if (journal)
		fprintf(stderr, "<%d>%s\n", level, msg);
	else
		fprintf(stderr, "mnod: %s%s\n", level <= MNO_LOG_ERR ? "error: " : "", msg);
}

static int fail(const char *what, const struct mno_options *o, int r)
{
	const char *todo = NULL;
	int code = 6;

	for (size_t i = 0; i < ARRAY_SIZE(exits); i++)
		if (exits[i].err == r) {
			code = exits[i].code;
			todo = exits[i].todo;
		}
	mno_err("could not start: %s: %s (state %s, socket %s)%s%s", what, mno_strerror(r),
		o->config.state, o->config.socket, todo ? ". What to do: " : "", todo ?: "");
	return code;
}

/* Started without stdin, stdout or stderr: no file of the store may get the log's number. */
static int fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error like a full disk */
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void reload(const struct mno_options *o)
{
	_cleanup_buf_ struct mno_buf errors = {.max = 1 << 20};
	struct mno_config next = o->config;
	int r;

	if (!o->config_path) {
		mno_info("SIGHUP: no settings file was named at start, nothing to read again");
		return;
	}
	r = mno_config_load(&next, o->config_path, &errors);
	if (r < 0)
		mno_err("the settings stay as they are: %s%s", mno_strerror(r),
			mno_buf_cstr(&errors));
	else
		mno_info("%s is valid; it takes effect with the next start", o->config_path);
}

/* Until a signal or the end of --for; pets the watchdog as long as commits succeed. */
static void loop(const struct mno_options *o, const struct mno_life *l, int sigfd)
{
	uint64_t end = o->for_ns ? mno_now_ns(CLOCK_MONOTONIC) + o->for_ns : UINT64_MAX, now;
	struct signalfd_siginfo si;

	while ((now = mno_now_ns(CLOCK_MONOTONIC)) < end) {
		struct pollfd p = {.fd = sigfd, .events = POLLIN};
		uint64_t left = (end - now) / NS_PER_MS + 1;

		if (mno_life_healthy(l))
			sd_notify(0, "WATCHDOG=1");
		if (poll(&p, 1, (int)MNO_MIN(left, 5000)) <= 0 ||
			read(sigfd, &si, sizeof(si)) != sizeof(si))
			continue;
		if (si.ssi_signo != SIGHUP)
			break;
		reload(o);
	}
}

int main(int argc, char **argv)
{
	static const int codes[] = {
		[MNO_OPTIONS_DONE] = 0, [MNO_OPTIONS_BAD_USAGE] = 2, [MNO_OPTIONS_BAD_CONFIG] = 5};
	bool journal = getenv("JOURNAL_STREAM") != NULL;
	struct mno_life *life = NULL;
	const char *what = "";
	struct mno_options o;
	_cleanup_close_ int sigfd = -1;
	int r = fill_standard_fds();

	if (r < 0)
		return 6;
	r = (int)mno_options_parse(&o, argc, argv);
	if (r != MNO_OPTIONS_RUN)
		return codes[r];
	mno_log_set(log_line, &journal, o.verbose ? MNO_LOG_DEBUG : MNO_LOG_INFO);
	mno_crypt_no_core();
	if (o.restore || o.list_backups)
		return o.restore ? mno_restore(&o) : mno_list_backups(&o);
	if (o.check_store) {
		r = mno_check_store(&o);
		return r < 0 ? fail("store", &o, r) : r;
	}
	sigfd = block_signals();
	if (sigfd >= 0 && o.migrate)
		return mno_agent_migrate_word(&o.config, o.migrate) < 0 ? 5 : 0;
	r = sigfd < 0 ? sigfd : mno_life_start(&o, &life, &what);
	if (r < 0)
		return fail(what, &o, r);
	mno_info("ready; ask with: mnoctl -s %s status", o.config.socket);
	sd_notifyf(0, "READY=1\nSTATUS=answers on %s", o.config.socket);
	loop(&o, life, sigfd);
	sd_notify(0, "STOPPING=1");
	mno_info("ending: emptying the rings, last commit");
	mno_life_stop(life);
	return 0;
}
