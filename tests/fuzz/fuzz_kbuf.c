/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Operations on chains of segments, chosen by the input, against the model of the unit test; in
 * some inputs allocations fail. Each choice takes two bytes, least significant first; the input's
 * end ends the sequence.
 */
#include "../unit/kbuf_model.h"
#include "fuzz.h"

#include <stdlib.h>

static const uint8_t *next, *end;

static uint64_t
choose(uint64_t n)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 16 && next < end; shift += 8)
		value |= (uint64_t)*next++ << shift;
	return (value % n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	uint64_t failing;
	bool good = true;

	next = bytes;
	end = bytes + len;
	model_choose = choose;
	memories_forget();
	chains_create();
	failing = choose(4);
	while (next < end && good) {
		if (failing != 0)
			fail_at = (unsigned)choose(4);
		(void)model_step(&good);
		fail_at = 0;
		good = good && chains_good();
	}
	chains_destroy();
	if (!good || !memories_all_freed() || blocks_live != 0 || size_errors != 0)
		abort();
	return (0);
}
