/* SPDX-License-Identifier: Apache-2.0 */
#include "verbs.h"
#include "mno/json.h"

int verb_version(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	const char *agent = "";
	struct mno_json j;

	c->quiet++;
	if (ctl_get(c, "/mno/v1/status", &a) == 0)
		agent = jstr(a.root, "version");
	c->quiet--;
	if (c->json) {
		mno_json_init(&j, &c->out);
		mno_json_obj(&j);
		mno_json_kstr(&j, "version", MNO_VERSION);
		mno_json_kstr(&j, "agent", *agent ? agent : NULL);
		mno_json_end(&j);
		mno_buf_addc(&c->out, '\n');
		return 0;
	}
	ctl_printf(c, CTL_PLAIN, "mnoctl %s\n", MNO_VERSION);
	if (*agent)
		ctl_printf(c, CTL_PLAIN, "mnod   %s at %s\n", ctl_esc(c, agent),
			ctl_esc(c, c->socket));
	else
		ctl_printf(c, CTL_DIM, "mnod   does not answer at %s\n", ctl_esc(c, c->socket));
	return 0;
}
