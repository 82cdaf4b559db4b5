/*
 * crash_record.h - what a generation of kind crash says of a program that was killed: how it ended
 * and which addresses were mapped. Registers and descriptors are gone with the process.
 *
 * The record's items are the crash item (record_format.h), then files and mappings as in a process
 * record. It is no process record: process_image_read() refuses it.
 */
#ifndef PHEAP_PROCESS_CRASH_RECORD_H
#define PHEAP_PROCESS_CRASH_RECORD_H

#include "core/process/capture.h"
#include "core/process/record_format.h"

/* The caller fills in *crash, the version apart, and capture->space, cache and scratch. */
MUST_CHECK int crash_record_write(struct capture *capture, const struct record_crash *crash,
                                  struct record_writer *out, struct problem *why);

/* The crash item of a record whose bytes are hostile. STATUS_DAMAGED, STATUS_NEWER_FORMAT. */
MUST_CHECK int crash_record_read(struct record_crash *crash, const void *record, size_t bytes,
                                 struct problem *why);

#endif
