/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kupper: sends every byte back in upper case, over TCP and UDP. The smallest service that does
 * something.
 */
#include "services.h"

static void
upper_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	struct kbufq out = { 0 };
	const struct kbuf *seg;
	const uint8_t *from;
	uint8_t *to;

	/* What was received is read in place; only memory of our own is written. */
	KBUF_FOREACH(seg, &rx->q) {
		from = kbuf_data(seg);
		to = kbufq_reserve(&out, kbuf_len(seg));
		if (to == NULL) {
			kbufq_clear(&out);
			ksf_conn_close(conn, ENOMEM);
			return;
		}
		for (size_t i = 0; i < kbuf_len(seg); i++)
			to[i] = from[i] >= 'a' && from[i] <= 'z' ? (uint8_t)(from[i] - 'a' + 'A')
								 : from[i];
		kbufq_commit(&out, kbuf_len(seg));
	}
	kbufq_clear(&rx->q);
	(void)ksf_conn_send(conn, &out);
}

static const struct ksf_ops upper_ops = {
	.input = upper_input,
};

static int
upper_start(struct ksf_svc *svc)
{
	int error;

	error = ksf_svc_listen(svc, KSF_TCP, &upper_ops, 0);
	if (error == 0)
		error = ksf_svc_listen(svc, KSF_UDP, &upper_ops, KSF_LISTEN_NO_LOOPS);
	return (error);
}

const struct ksf_service kupper = {
	.name = "kupper",
	.help = "send every byte back in upper case, over TCP and UDP",
	.port = 60106,
	.start = upper_start,
};
