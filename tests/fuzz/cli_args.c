/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments, separated by NUL: understood or refused with a message that a terminal can show. */
#include <stdlib.h>
#include <string.h>
#include "cli.h"

#define MAX_ARGS 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(const struct ctl_error *e, int r)
{
	if (e->exit != r || !e->msg[0] || (r != CTL_USAGE && r != CTL_INVALID))
		abort();
	for (const char *p = e->msg; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *copy = malloc(size + 1);
	char *argv[MAX_ARGS] = {(char *)"mnoctl"};
	struct ctl_error e = {0};
	struct ctl_args a;
	uint64_t ns;
	int argc = 1, r;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	copy[size] = '\0';
	for (char *p = copy; p < copy + size && argc < MAX_ARGS; p += strlen(p) + 1)
		argv[argc++] = p;
	if (argc > 1)
		ctl_time_parse(argv[argc - 1], 1700000000 * NS_PER_SEC, &ns);
	r = ctl_parse(argc, argv, &a, &e);
	if (r)
		check_message(&e, r);
	else if (a.n_pos > CTL_MAX_POS || a.n_set > CTL_MAX_SET)
		abort();
	return 0;
}
