/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs one service of this directory in a process: `ksf-example kupper port=0`. The main thread
 * starts it, waits for a signal, and stops it; everything else happens on ksf's own threads.
 */
#include "services.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sysexits.h>

#define GRACE_MS 2000u

static const struct ksf_service *const services[] = { &kupper, &kdigest };

static const struct ksf_service *
find_service(const char *name)
{
	for (size_t i = 0; i < ksf_nelem(services); i++) {
		if (strcmp(services[i]->name, name) == 0)
			return (services[i]);
	}
	return (NULL);
}

/* "name=value". 0 or an errno, with one line in `why`. Writes into text. */
static int
set_param(struct ksf_svc *svc, char *text, char *why, size_t whylen)
{
	char *equals = strchr(text, '=');

	if (equals == NULL) {
		snprintf(why, whylen, "'%s' is not param=value", text);
		return (EINVAL);
	}
	*equals = '\0';
	return (ksf_param_set(svc, text, equals + 1, why, whylen));
}

static void
print_endpoint(void *arg, enum ksf_proto proto, const struct ksf_addr *addr)
{
	char text[KSF_ADDR_STRLEN];

	(void)arg;
	printf("listening %s %s\n", proto == KSF_TCP ? "tcp" : "udp",
	    ksf_addr_format(addr, text, sizeof(text)));
}

static void
print_stats(struct ksf_svc *svc)
{
	const struct ksf_stat *stat;
	uint64_t value;

	for (unsigned i = 0; (stat = ksf_stat_at(svc, i, &value)) != NULL; i++)
		printf("%s %" PRIu64 "\n", stat->name, value);
}

int
main(int argc, char **argv)
{
	const struct ksf_service *desc = argc > 1 ? find_service(argv[1]) : NULL;
	char why[256] = "out of memory";
	struct ksf_svc *svc;
	sigset_t signals;
	int error, sig;

	if (desc == NULL) {
		fprintf(stderr, "usage: ksf-example kupper|kdigest [param=value ...]\n");
		return (EX_USAGE);
	}

	/* Before there are threads, so that only sigwait() takes these. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);

	error = ksf_svc_create(desc, &svc);
	if (error != 0) {
		fprintf(stderr, "ksf-example: %s\n", why);
		return (EX_OSERR);
	}
	for (int i = 2; i < argc && error == 0; i++)
		error = set_param(svc, argv[i], why, sizeof(why));
	if (error == 0)
		error = ksf_svc_start(svc, why, sizeof(why));
	if (error != 0) {
		fprintf(stderr, "ksf-example: %s\n", why);
		ksf_svc_destroy(svc);
		return (EX_UNAVAILABLE);
	}
	ksf_svc_endpoints(svc, print_endpoint, NULL);
	printf("ready\n");
	fflush(stdout);

	while (sigwait(&signals, &sig) != 0)
		continue;
	ksf_svc_stop(svc, GRACE_MS);
	print_stats(svc);
	ksf_svc_destroy(svc);
	return (EX_OK);
}
