/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays inputs through a fuzz target without libFuzzer: each argument is a file or a folder of
 * files. Left out of FUZZ=1 builds, where libFuzzer brings its own main().
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "mno/macro.h"

#define INPUT_MAX (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	_cleanup_free_ uint8_t *copy = NULL, *data = malloc(INPUT_MAX);
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f || !data) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		if (f)
			fclose(f);
		return -1;
	}
	n = fread(data, 1, INPUT_MAX, f);
	fclose(f);
	/* an exact copy, so that the sanitizer sees reads past the end */
	copy = malloc(n ? n : 1);
	if (!copy)
		return -1;
	memcpy(copy, data, n);
	fprintf(stderr, "%s: %zu bytes\n", path, n);
	LLVMFuzzerTestOneInput(copy, n);
	return 1;
}

static int replay_dir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0, r = 0;

	if (!d)
		return replay_file(path);
	while (r >= 0 && (e = readdir(d))) {
		char name[4096];

		if (e->d_name[0] == '.')
			continue;
		if (snprintf(name, sizeof(name), "%s/%s", path, e->d_name) >= (int)sizeof(name))
			continue;
		r = replay_file(name);
		n += r > 0;
	}
	closedir(d);
	return r < 0 ? r : n;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int n = replay_dir(argv[i]);

		if (n < 0)
			return 1;
		total += n;
	}
	printf("%d inputs replayed\n", total);
	return total ? 0 : 1;
}
