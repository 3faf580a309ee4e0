/* SPDX-License-Identifier: Apache-2.0 */
/* The Prometheus text format, version 0.0.4. */
#include "mno/json.h"
#include "table.h"

static const char *const type_names[] = {
	[MNO_COUNTER] = "counter",
	[MNO_GAUGE] = "gauge",
	[MNO_HISTOGRAM] = "histogram",
	[MNO_UNTYPED] = "untyped",
};

static const char *shown_name(const struct metric_family *fam)
{
	return fam->shown ? fam->shown : fam->f.name;
}

static void render_help(const struct metric_family *fam, struct mno_buf *out)
{
	const char *help = fam->f.help;

	mno_buf_addf(out, "# HELP %s ", shown_name(fam));
	for (; *help; help++) {
		if (*help == '\\' || *help == '\n')
			mno_buf_addc(out, '\\');
		mno_buf_addc(out, *help == '\n' ? 'n' : *help);
	}
	if (fam->shown)
		mno_buf_addf(out, " Stored as %s.", fam->f.name);
	mno_buf_addf(out, "\n# TYPE %s %s\n", shown_name(fam), type_names[fam->f.type]);
}

static void render_series(const struct metric_series *s, double v, struct mno_buf *out)
{
	const struct metric_family *fam = s->family;
	char num[64];
	size_t n;

	if (fam->shown) {
		mno_buf_adds(out, fam->shown);
		mno_buf_add(out, s->key + fam->name_len, s->key_len - fam->name_len);
	} else {
		mno_buf_add(out, s->key, s->key_len);
	}
	num[0] = ' ';
	n = 1 + mno_f64_format(v, num + 1);
	num[n++] = '\n';
	mno_buf_add(out, num, n);
}

void mno_metrics_render(struct mno_metrics *m, struct mno_buf *out)
{
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->n_families; i++) {
		const struct metric_family *fam = m->families[i];
		bool headed = false;

		for (uint32_t s = fam->head; s != METRIC_NONE; s = m->series[s].next) {
			if (!m->present[s])
				continue;
			if (!headed)
				render_help(fam, out);
			headed = true;
			render_series(&m->series[s], m->shown[s], out);
		}
	}
	pthread_mutex_unlock(&m->lock);
}
