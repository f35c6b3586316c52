/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kecho: sends every byte back (RFC 862), over TCP and UDP. The segments that were received are the
 * ones that are sent: no byte is copied.
 */
#include <ksf/ksf.h>
#include <ksf/services.h>

struct echo_conf {
	uint32_t plain; /* one task for all UDP peers, no sessions */
};

static void
echo_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	(void)ksf_conn_send(conn, &rx->q);
}

static const struct ksf_ops echo_ops = {
	.input = echo_input,
};

/*
 * Whoever forges the source address of a datagram to an echo service makes it send one to that
 * address; if that is another echo service the two never stop. Hence KSF_LISTEN_NO_LOOPS.
 */
static int
echo_start(struct ksf_svc *svc)
{
	const struct echo_conf *conf = ksf_svc_conf(svc);
	unsigned flags = KSF_LISTEN_NO_LOOPS | (conf->plain ? KSF_LISTEN_PLAIN : 0);
	int error;

	error = ksf_svc_listen(svc, KSF_TCP, &echo_ops, 0);
	if (error == 0)
		error = ksf_svc_listen(svc, KSF_UDP, &echo_ops, flags);
	return (error);
}

static const struct ksf_param echo_params[] = {
	KSF_PARAM_NUMBER(KSF_PARAM_BOOL, echo_conf, plain, "plain", "", 0, 0, 0, 1,
	    "answer datagrams without a session for each peer"),
};

const struct ksf_service ksf_kecho = {
	.name = "kecho",
	.help = "echo every byte back, over TCP and UDP (RFC 862)",
	.port = 60007,
	.confsz = sizeof(struct echo_conf),
	.params = echo_params,
	.nparams = ksf_nelem(echo_params),
	.start = echo_start,
};
