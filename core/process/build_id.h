/*
 * build_id.h - the build-id of an ELF file: what tells that two files hold the same code.
 */
#ifndef PHEAP_PROCESS_BUILD_ID_H
#define PHEAP_PROCESS_BUILD_ID_H

#include <stdint.h>
#include "core/process/record_format.h"

/* Its length, 0 if the file is no 64-bit ELF file or has none (or cannot be read). */
uint32_t build_id_read(const char *path, uint8_t id[RECORD_BUILD_ID_BYTES]);

#endif
