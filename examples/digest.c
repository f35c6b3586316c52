/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kdigest: digests of records, over TCP.
 *
 *     record:  length n (4 bytes, big-endian) | tag (4 bytes) | n bytes
 *     answer:  tag (4 bytes) | digest (8 bytes, big-endian)
 *
 * A digest takes long, so each is made by a task of its own, and answers come as they are ready:
 * the tag tells which is which.
 */
#include "services.h"

#define HEADER 8u /* bytes of length and tag */

struct digest_conf {
	uint32_t rounds, record_timeout_ms;
};

/* The service's own statistics, by their index in digest_stats. */
enum { RECORDS, BYTES };

/* A record in work. The structure lives in memory of kbuf_alloc(), which is recycled. */
struct request {
	struct ksf_task task;
	struct ksf_conn *conn;
	struct kbuf *memory; /* where this structure is */
	struct kbufq record; /* the segments that were received: no byte was copied */
};

/* The task: on any worker of the core, beside the callbacks of the connection. */
static void
digest_work(struct ksf_task *task)
{
	struct request *req = ksf_container_of(task, struct request, task);
	struct ksf_svc *svc = ksf_conn_svc(req->conn);
	const struct digest_conf *conf = ksf_svc_conf(svc);
	uint64_t digest = 0xcbf29ce484222325u; /* FNV-1a */
	const struct kbuf *seg;
	uint8_t answer[12];
	struct kbufq out = { 0 };
	int error;

	error = kbufq_copyout(&req->record, 4, answer, 4);
	kbufq_trim_front(&req->record, HEADER);
	for (uint32_t n = ksf_param_u32(&conf->rounds); n > 0; n--) {
		KBUF_FOREACH(seg, &req->record) {
			for (size_t i = 0; i < kbuf_len(seg); i++)
				digest = (digest ^ kbuf_data(seg)[i]) * 0x100000001b3u;
		}
	}
	for (unsigned i = 0; i < 8; i++)
		answer[4 + i] = (uint8_t)(digest >> (56 - 8 * i));

	ksf_stat_add(svc, RECORDS, 1);
	ksf_stat_add(svc, BYTES, kbufq_len(&req->record));
	kbufq_clear(&req->record);
	if (error == 0)
		error = kbufq_write(&out, answer, sizeof(answer));
	if (error == 0)
		(void)ksf_conn_send(req->conn, &out); /* EPIPE: the peer has gone */
	else
		ksf_conn_close(req->conn, error);
	ksf_conn_end(req->conn); /* from here on the connection may be gone */
	kbuf_free(req->memory);
}

/* Give the first `len` bytes of q, a whole record, to a task. 0 or ENOMEM. */
static int
begin_request(struct ksf_conn *conn, struct kbufq *q, size_t len)
{
	struct kbuf *memory = kbuf_alloc(sizeof(struct request));
	struct request *req;
	int error;

	if (memory == NULL)
		return (ENOMEM);
	req = (struct request *)(void *)kbuf_data(memory);
	memset(req, 0, sizeof(*req));
	error = kbufq_split(q, len, &req->record);
	if (error != 0) {
		kbuf_free(memory);
		return (error);
	}
	req->task.fn = digest_work;
	req->task.flags = KSF_TASK_MAY_BLOCK;
	req->conn = conn;
	req->memory = memory;
	ksf_conn_begin(conn);
	ksf_task_run(ksf_conn_svc(conn), &req->task, KSF_CPU_ANY);
	return (0);
}

static void
digest_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	const struct digest_conf *conf = ksf_svc_conf(ksf_conn_svc(conn));
	uint8_t h[HEADER];
	size_t len;
	int error;

	/* What is left while the connection is full is shown again when it is not. */
	while (kbufq_len(&rx->q) != 0 && !ksf_conn_full(conn)) {
		len = HEADER;
		if (kbufq_copyout(&rx->q, 0, h, HEADER) == 0)
			len += (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
		if (kbufq_len(&rx->q) < len) {
			rx->need = len; /* closes the connection when this is above `rxmax` */
			ksf_conn_deadline(conn, ksf_param_u32(&conf->record_timeout_ms));
			return;
		}
		error = begin_request(conn, &rx->q, len);
		if (error != 0) {
			ksf_conn_close(conn, error);
			return;
		}
	}
	ksf_conn_deadline(conn, 0);
}

static const struct ksf_ops digest_ops = {
	.input = digest_input,
};

static int
digest_start(struct ksf_svc *svc)
{
	return (ksf_svc_listen(svc, KSF_TCP, &digest_ops, 0));
}

static const struct ksf_param digest_params[] = {
	KSF_PARAM_NUMBER(KSF_PARAM_U32, digest_conf, rounds, "rounds", "", KSF_PARAM_RUNTIME, 100,
	    1, 10000, "times that the bytes of a record go through the hash"),
	KSF_PARAM_NUMBER(KSF_PARAM_U32, digest_conf, record_timeout_ms, "record_timeout_ms", "ms",
	    KSF_PARAM_RUNTIME, 5000, 0, 3600000,
	    "time that a peer has to finish a record; 0 is any"),
};

static const struct ksf_stat digest_stats[] = {
	[RECORDS] = { .name = "records", .help = "records digested", .kind = KSF_STAT_COUNTER },
	[BYTES] = { .name = "digested", .help = "bytes digested", .kind = KSF_STAT_COUNTER },
};

const struct ksf_service kdigest = {
	.name = "kdigest",
	.help = "digests of records, over TCP",
	.port = 60107,
	.confsz = sizeof(struct digest_conf),
	.params = digest_params,
	.nparams = ksf_nelem(digest_params),
	.stats = digest_stats,
	.nstats = ksf_nelem(digest_stats),
	.start = digest_start,
};
