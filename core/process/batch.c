/*
 * batch.c - the builder's side of batches.
 *
 * Always true: data_used <= data_size and count <= capacity; once `failed` is set nothing is sent
 * to the tracee.
 */
#include "core/process/batch.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"

extern const char __start_batch_blob[], __stop_batch_blob[];
extern const char batch_blob_trap[];

static size_t page_round(size_t bytes)
{
    return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

static uintptr_t batch_data_base(const struct batch *batch)
{
    return batch_stack_top(batch);
}

static uintptr_t batch_calls_base(const struct batch *batch)
{
    return batch_data_base(batch) + page_round(batch->data_size);
}

static uintptr_t blob_address(const struct batch *batch, const void *symbol)
{
    return batch->base + ((uintptr_t)symbol - (uintptr_t)__start_batch_blob);
}

uintptr_t batch_trap_address(const struct batch *batch)
{
    return blob_address(batch, batch_blob_trap);
}

size_t batch_area_bytes(size_t calls, size_t data_bytes)
{
    return PAGE_BYTES + BATCH_STACK_BYTES + page_round(data_bytes + sizeof(struct batch_list)) +
           page_round(calls * sizeof(struct batch_call));
}

static void batch_clear(struct batch *batch)
{
    batch->count = 0;
    batch->data_used = sizeof(struct batch_list);
    batch->failed = STATUS_OK;
}

int batch_create(struct batch *batch, struct arena *arena, uintptr_t base, size_t calls,
                 size_t data_bytes)
{
    memset(batch, 0, sizeof *batch);
    batch->base = base;
    batch->area_bytes = batch_area_bytes(calls, data_bytes);
    batch->data_size = data_bytes + sizeof(struct batch_list);
    batch->capacity = calls;
    batch->data = arena_alloc(arena, batch->data_size, 16);
    batch->calls = arena_alloc(arena, calls * sizeof *batch->calls, 16);
    batch->what = arena_alloc(arena, calls * sizeof *batch->what, 16);
    if (batch->data == NULL || batch->calls == NULL || batch->what == NULL)
        return -ENOMEM;
    batch_clear(batch);
    return 0;
}

int batch_install(const struct batch *batch, int pid)
{
    size_t size = (size_t)(__stop_batch_blob - __start_batch_blob);

    if (size > PAGE_BYTES)
        return STATUS_LIMIT;
    return process_memory_write(pid, batch->base, __start_batch_blob, size);
}

size_t batch_add(struct batch *batch, const char *what, long number, const uint64_t args[6])
{
    struct batch_call *call;

    if (batch->count == batch->capacity) {
        batch->failed = STATUS_LIMIT;
        return 0;
    }
    call = &batch->calls[batch->count];
    *call = (struct batch_call){.number = number, .expectation = BATCH_NOT_NEGATIVE};
    memcpy(call->args, args, sizeof call->args);
    batch->what[batch->count] = what;
    return batch->count++;
}

static struct batch_call *batch_last(struct batch *batch)
{
    return &batch->calls[batch->count > 0 ? batch->count - 1 : 0];
}

void batch_expect(struct batch *batch, int64_t result)
{
    batch_last(batch)->expectation = BATCH_EQUALS;
    batch_last(batch)->expected = result;
}

void batch_may_fail(struct batch *batch)
{
    batch_last(batch)->expectation = BATCH_ANY;
}

void batch_fork(struct batch *batch, size_t forked, int pid)
{
    struct batch_call *call = &batch->calls[forked];

    call->expectation = BATCH_FORKS;
    call->expected = pid;
    call->skipped = (uint16_t)(batch->count - forked - 1);
}

void batch_refer(struct batch *batch, int argument, enum batch_reference how)
{
    batch_last(batch)->references |= (uint32_t)how << (2 * argument);
}

uint64_t batch_room(struct batch *batch, size_t size)
{
    size_t at = (batch->data_used + 15) & ~(size_t)15;

    if (at > batch->data_size || size > batch->data_size - at) {
        batch->failed = STATUS_LIMIT;
        return 0;
    }
    memset(batch->data + at, 0, size);
    batch->data_used = at + size;
    return batch_data_base(batch) + at;
}

uint64_t batch_data(struct batch *batch, const void *bytes, size_t size)
{
    uint64_t address = batch_room(batch, size);

    if (address != 0)
        memcpy(batch->data + (address - batch_data_base(batch)), bytes, size);
    return address;
}

uint64_t batch_string(struct batch *batch, const char *text)
{
    return batch_data(batch, text, strlen(text) + 1);
}

static int batch_failure(const struct batch *batch, size_t index, struct problem *why)
{
    const struct batch_call *call = &batch->calls[index];
    int status = call->result < 0 ? (int)call->result : -EIO;

    return problem_set(why, status, "%s: %s (system call %ld)",
                       batch->what[index] ? batch->what[index] : "restore",
                       call->result < 0 ? status_text(status) : "not all was done",
                       (long)call->number);
}

int batch_run(struct batch *batch, struct tracee *tracee, struct problem *why)
{
    struct batch_list list = {.count = batch->count, .calls = batch_calls_base(batch)};
    size_t call_bytes = batch->count * sizeof *batch->calls;
    uintptr_t calls = batch_calls_base(batch);
    long done = 0;
    int status = batch->failed;

    if (status == STATUS_OK && batch->count == 0)
        return 0;
    memcpy(batch->data, &list, sizeof list);
    if (status == STATUS_OK)
        status = process_memory_write(tracee->tid, batch_data_base(batch), batch->data,
                                      batch->data_used);
    if (status == STATUS_OK)
        status = process_memory_write(tracee->tid, calls, batch->calls, call_bytes);
    if (status == STATUS_OK)
        status = tracee_call(tracee, blob_address(batch, (const void *)batch_blob_run),
                             batch_data_base(batch), batch_stack_top(batch),
                             batch_trap_address(batch), &done);
    if (status == STATUS_OK)
        status = process_memory_read(tracee->tid, calls, batch->calls, call_bytes);
    if (status != STATUS_OK)
        return problem_set(why, status, "running %zu system calls in the rebuilt process: %s",
                           batch->count, status_text(status));
    if (done < 0 || (size_t)done < batch->count)
        return batch_failure(batch, done < 0 ? 0 : (size_t)done, why);
    batch_clear(batch);
    return 0;
}

int64_t batch_result(const struct batch *batch, size_t index)
{
    return index < batch->capacity ? batch->calls[index].result : -EINVAL;
}

static int memory_copy(long call, int pid, uintptr_t address, uintptr_t local, size_t size)
{
    while (size > 0) {
        struct iovec here = {(void *)local, size}, there = {(void *)address, size};
        long moved = sys_call(call, pid, &here, 1, &there, 1, 0);

        if (moved <= 0)
            return moved == 0 ? -EFAULT : (int)moved;
        local += (size_t)moved;
        address += (size_t)moved;
        size -= (size_t)moved;
    }
    return 0;
}

int process_memory_write(int pid, uintptr_t address, const void *bytes, size_t size)
{
    return memory_copy(SYS_process_vm_writev, pid, address, (uintptr_t)bytes, size);
}

int process_memory_read(int pid, uintptr_t address, void *bytes, size_t size)
{
    return memory_copy(SYS_process_vm_readv, pid, address, (uintptr_t)bytes, size);
}
