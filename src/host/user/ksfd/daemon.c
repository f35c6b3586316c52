/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Creating, starting, changing and stopping the services of this process. Main thread, but for
 * daemon_stop() and daemon_cut().
 */
#include "daemon.h"

#include <ksf/services.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define VALUE_LEN 600

static const struct ksf_service *const known[] = {
	&ksf_kecho,
};

/* One running, or at least created, service. */
struct instance {
	const struct ksf_service *desc;
	struct ksf_svc *svc;
	char **asked; /* for each parameter: the text last asked for */
	unsigned nparams;
	bool running;
	pthread_t stopper;
	bool own_thread; /* stopper runs */
};

static struct instance instances[ksf_nelem(known)];
static unsigned ninstances;

static const struct ksf_service *
find_service(const char *name)
{
	for (unsigned i = 0; i < ksf_nelem(known); i++) {
		if (strcmp(known[i]->name, name) == 0)
			return (known[i]);
	}
	return (NULL);
}

static unsigned
count_params(const struct ksf_service *desc)
{
	unsigned n = 0;

	while (ksf_param_at(desc, n) != NULL)
		n++;
	return (n);
}

/* The text that counts for a parameter: command line, file, default. `explicitly`: not the default.
 */
static const char *
asked_value(const struct sources *sources, const struct instance *inst, unsigned i, char *buf,
    bool *explicitly)
{
	const struct ksf_param *param = ksf_param_at(inst->desc, i);
	const char *value;

	value = request_value(request_find(sources->command_line, inst->desc->name), param->name);
	if (value == NULL)
		value = request_value(request_find(sources->file, inst->desc->name), param->name);
	*explicitly = value != NULL;
	if (value != NULL)
		return (value);
	ksf_param_default(inst->desc, param, buf, VALUE_LEN);
	return (buf);
}

/* A name in the sources that is no parameter of the service is an error. */
static int
check_names(const struct request *request, struct instance *inst, char *why, size_t whylen)
{
	const struct ksf_param *param;
	unsigned i;

	for (const struct setting *s = request != NULL ? request->settings : NULL; s != NULL;
	     s = s->next) {
		for (i = 0; (param = ksf_param_at(inst->desc, i)) != NULL; i++) {
			if (strcmp(param->name, s->name) == 0)
				break;
		}
		if (param == NULL) {
			snprintf(why, whylen, "%s: no parameter '%s'", inst->desc->name, s->name);
			return (EX_USAGE);
		}
	}
	return (0);
}

static int
check_sources(const struct sources *sources, struct instance *inst, char *why, size_t whylen)
{
	int status;

	status = check_names(
	    request_find(sources->command_line, inst->desc->name), inst, why, whylen);
	if (status == 0 &&
	    check_names(request_find(sources->file, inst->desc->name), inst, why, whylen) != 0)
		status = EX_CONFIG;
	return (status);
}

/* An errno of starting a service, as an exit status. */
static int
exit_status(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return (EX_NOPERM);
	case EINVAL:
	case ERANGE:
		return (EX_USAGE);
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return (EX_OSERR);
	default:
		return (EX_UNAVAILABLE);
	}
}

static bool
enabled(struct instance *inst)
{
	char value[8];

	return (ksf_param_get(inst->svc, "enable", value, sizeof(value)) == 0 &&
		strcmp(value, "1") == 0);
}

static void
print_endpoint(void *arg, enum ksf_proto proto, const struct ksf_addr *addr)
{
	const struct instance *inst = arg;
	char text[KSF_ADDR_STRLEN];

	printf("%s: listening %s %s\n", inst->desc->name, proto == KSF_TCP ? "tcp" : "udp",
	    ksf_addr_format(addr, text, sizeof(text)));
}

static int
instance_create(const char *name, const struct sources *sources, char *why, size_t whylen)
{
	struct instance *inst = &instances[ninstances];
	const char *value;
	char buf[VALUE_LEN];
	bool explicitly;
	int status;

	inst->desc = find_service(name);
	if (inst->desc == NULL) {
		snprintf(why, whylen, "no service '%s' (see ksfd --list)", name);
		return (EX_USAGE);
	}
	if (ksf_svc_create(inst->desc, &inst->svc) != 0) {
		snprintf(why, whylen, "%s: out of memory", name);
		return (EX_OSERR);
	}
	ninstances++;
	inst->nparams = count_params(inst->desc);
	inst->asked = calloc(inst->nparams + 1, sizeof(inst->asked[0]));
	if (inst->asked == NULL) {
		inst->nparams = 0;
		snprintf(why, whylen, "%s: out of memory", name);
		return (EX_OSERR);
	}
	status = check_sources(sources, inst, why, whylen);
	for (unsigned i = 0; i < inst->nparams && status == 0; i++) {
		value = asked_value(sources, inst, i, buf, &explicitly);
		inst->asked[i] = strdup(value);
		if (inst->asked[i] == NULL)
			status = EX_OSERR;
		else if (explicitly && ksf_param_set(inst->svc, ksf_param_at(inst->desc, i)->name,
					   value, why, whylen) != 0)
			status = EX_USAGE;
	}
	return (status);
}

static int
instance_start(struct instance *inst, char *why, size_t whylen)
{
	int error;

	error = ksf_svc_start(inst->svc, why, whylen);
	inst->running = error == 0;
	return (error == 0 ? 0 : exit_status(error));
}

static void
instance_stop(struct instance *inst)
{
	char value[32] = "0";

	if (!inst->running)
		return;
	(void)ksf_param_get(inst->svc, "grace_ms", value, sizeof(value));
	ksf_svc_stop(inst->svc, (unsigned)strtoul(value, NULL, 10));
	inst->running = false;
}

int
daemon_start(const struct sources *sources, char *why, size_t whylen)
{
	int status = 0;

	for (struct request *r = sources->command_line; r != NULL && status == 0; r = r->next)
		status = instance_create(r->service, sources, why, whylen);
	for (struct request *r = sources->file; r != NULL && status == 0; r = r->next) {
		if (request_find(sources->command_line, r->service) == NULL) {
			status = instance_create(r->service, sources, why, whylen);
			if (status == EX_USAGE)
				status = EX_CONFIG;
		}
	}
	if (status == 0 && ninstances == 0) {
		snprintf(why, whylen, "no service given (see ksfd --list)");
		status = EX_USAGE;
	}
	for (unsigned i = 0; i < ninstances && status == 0; i++) {
		if (enabled(&instances[i]))
			status = instance_start(&instances[i], why, whylen);
	}
	if (status != 0) {
		daemon_stop();
		daemon_destroy();
	}
	return (status);
}

/* One parameter, if it has changed in the sources. */
static void
reload_param(struct instance *inst, const struct sources *sources, unsigned i)
{
	const char *name = ksf_param_at(inst->desc, i)->name, *value;
	char buf[VALUE_LEN], why[256] = "out of memory", *copy;
	bool explicitly;

	value = asked_value(sources, inst, i, buf, &explicitly);
	if (strcmp(value, inst->asked[i]) == 0)
		return;
	copy = strdup(value);
	if (copy == NULL || ksf_param_set(inst->svc, name, value, why, sizeof(why)) != 0) {
		fprintf(stderr, "ksfd: %s; unchanged\n", why);
		free(copy);
		return;
	}
	fprintf(stderr, "ksfd: %s: %s=%s\n", inst->desc->name, name, value);
	free(inst->asked[i]);
	inst->asked[i] = copy;
}

/* A service that is to stop stops first: what cannot change while it runs can change then. */
static void
reload_instance(struct instance *inst, const struct sources *sources)
{
	char why[256];

	if (check_sources(sources, inst, why, sizeof(why)) != 0) {
		fprintf(stderr, "ksfd: %s; unchanged\n", why);
		return;
	}
	for (unsigned i = 0; i < inst->nparams; i++) {
		if (strcmp(ksf_param_at(inst->desc, i)->name, "enable") == 0)
			reload_param(inst, sources, i);
	}
	if (!enabled(inst) && inst->running) {
		instance_stop(inst);
		fprintf(stderr, "ksfd: %s: stopped\n", inst->desc->name);
	}
	for (unsigned i = 0; i < inst->nparams; i++)
		reload_param(inst, sources, i);
	if (!enabled(inst) || inst->running)
		return;
	if (instance_start(inst, why, sizeof(why)) != 0)
		fprintf(stderr, "ksfd: %s\n", why);
	else
		ksf_svc_endpoints(inst->svc, print_endpoint, inst);
}

void
daemon_reload(const struct sources *sources)
{
	struct instance *inst;

	for (struct request *r = sources->file; r != NULL; r = r->next) {
		for (inst = instances; inst < instances + ninstances; inst++) {
			if (strcmp(inst->desc->name, r->service) == 0)
				break;
		}
		if (inst == instances + ninstances)
			fprintf(stderr, "ksfd: %s: services are added at start only; ignored\n",
			    r->service);
	}
	for (inst = instances; inst < instances + ninstances; inst++)
		reload_instance(inst, sources);
	fflush(stdout);
}

static void *
stopper_main(void *arg)
{
	instance_stop(arg);
	return (NULL);
}

void
daemon_stop(void)
{
	struct instance *inst;

	/* Side by side: the grace times overlap. */
	for (inst = instances; inst < instances + ninstances; inst++)
		inst->own_thread = pthread_create(&inst->stopper, NULL, stopper_main, inst) == 0;
	for (inst = instances; inst < instances + ninstances; inst++) {
		if (inst->own_thread)
			pthread_join(inst->stopper, NULL);
		else
			instance_stop(inst);
	}
}

void
daemon_cut(void)
{
	for (unsigned i = 0; i < ninstances; i++)
		ksf_svc_cut(instances[i].svc);
}

void
daemon_destroy(void)
{
	for (unsigned i = 0; i < ninstances; i++) {
		for (unsigned p = 0; p < instances[i].nparams; p++)
			free(instances[i].asked[p]);
		free(instances[i].asked);
		ksf_svc_destroy(instances[i].svc);
	}
	memset(instances, 0, sizeof(instances));
	ninstances = 0;
}

void
daemon_print_endpoints(void)
{
	for (unsigned i = 0; i < ninstances; i++) {
		if (instances[i].running)
			ksf_svc_endpoints(instances[i].svc, print_endpoint, &instances[i]);
	}
}

void
daemon_print_stats(void)
{
	const struct ksf_stat *stat;
	uint64_t value;

	for (unsigned i = 0; i < ninstances; i++) {
		for (unsigned n = 0; (stat = ksf_stat_at(instances[i].svc, n, &value)) != NULL; n++)
			printf("%s.%s %" PRIu64 "\n", instances[i].desc->name, stat->name, value);
	}
	fflush(stdout);
}

static void
list_param(const struct ksf_service *desc, const struct ksf_param *param)
{
	static const char *const types[] = {
		[KSF_PARAM_BOOL] = "bool",
		[KSF_PARAM_U32] = "number",
		[KSF_PARAM_U64] = "number",
		[KSF_PARAM_STRING] = "string",
	};
	char range[64], def[VALUE_LEN];

	if (param->type == KSF_PARAM_STRING)
		snprintf(range, sizeof(range), "up to %" PRIu64 " characters", param->max);
	else
		snprintf(range, sizeof(range), "%" PRIu64 "..%" PRIu64 "%s%s", param->min,
		    param->max, *param->unit != '\0' ? " " : "", param->unit);
	ksf_param_default(desc, param, def, sizeof(def));
	printf("  %-18s %s\n  %-18s %s, default %s, %s%s\n", param->name, param->help, "",
	    types[param->type], *def != '\0' ? def : "empty", range,
	    param->flags & KSF_PARAM_RUNTIME ? ", run-time" : "");
}

void
daemon_list(void)
{
	const struct ksf_param *param;

	for (unsigned i = 0; i < ksf_nelem(known); i++) {
		printf("%s: %s\n", known[i]->name, known[i]->help);
		for (unsigned n = 0; (param = ksf_param_at(known[i], n)) != NULL; n++)
			list_param(known[i], param);
	}
}
