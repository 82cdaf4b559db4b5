/*
 * target.h - what a fuzz target is: libFuzzer, AFL++'s driver and the replay (replay.c) call this
 * for each input. It returns 0; what must not be ends in abort() or a sanitizer's report.
 */
#ifndef PHEAP_T_FUZZ_TARGET_H
#define PHEAP_T_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
