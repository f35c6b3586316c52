/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A doubly linked list with its links in the elements. The caller locks.
 */
#ifndef KSF_LIST_H
#define KSF_LIST_H

#include <ksf/base.h>

/* A list head, or an element's link. A link that is all zero is on no list. */
struct ksf_list {
	struct ksf_list *next, *prev;
};

static inline void
ksf_list_init(struct ksf_list *head)
{
	head->next = head->prev = head;
}

static inline bool
ksf_list_empty(const struct ksf_list *head)
{
	return (head->next == head);
}

static inline bool
ksf_list_linked(const struct ksf_list *link)
{
	return (link->next != NULL);
}

static inline void
ksf_list_append(struct ksf_list *head, struct ksf_list *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

/* Remove; nothing happens when the link is on no list. */
static inline void
ksf_list_remove(struct ksf_list *link)
{
	if (!ksf_list_linked(link))
		return;
	link->prev->next = link->next;
	link->next->prev = link->prev;
	link->next = link->prev = NULL;
}

#endif
