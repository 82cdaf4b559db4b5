/*
 * processor.h - what the processor can do, as far as programs choose code by it: libc and others
 * look once, at the start, and a resumed program goes on with what they chose.
 */
#ifndef PHEAP_PROCESS_PROCESSOR_H
#define PHEAP_PROCESS_PROCESSOR_H

#include "core/process/record_format.h"

/* Asks the processor: some microseconds on a virtual machine, so not within a freeze. */
void processor_read(struct record_processor *out);

/* What `then` could and `now` cannot do, by name ("avx512f"); NULL: nothing. */
const char *processor_lacks(const struct record_processor *then,
                            const struct record_processor *now);

#endif
