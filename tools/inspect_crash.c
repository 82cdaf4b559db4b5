/*
 * inspect_crash.c - what a crash generation's record says: how the program ended.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "core/process/crash_record.h"
#include "tools/inspect.h"

bool inspect_read_crash(const struct pool_state *state, const struct generation_entry *entry,
                        struct record_crash *crash)
{
    static struct pool pool;
    void *record = entry->record_bytes < RECORD_BYTES_MAX ? malloc(entry->record_bytes + 8) : NULL;
    int status;

    if (!record)
        return false;
    status = pool_open(&pool, state->path, POOL_READ, NULL);
    if (status == 0) {
        status = pool_read_record(&pool, entry, record, NULL);
        if (status == 0)
            status = crash_record_read(crash, record, entry->record_bytes, NULL);
        pool_close(&pool);
    }
    free(record);
    return status == 0;
}

int inspect_crash_signal(const struct record_crash *crash)
{
    return crash->flags & RECORD_CRASH_STATUS_KNOWN ? WTERMSIG(crash->wait_status) : 0;
}

const char *inspect_crash_cause(char buffer[32], const struct record_crash *crash)
{
    int number = inspect_crash_signal(crash);
    const char *name = sigabbrev_np(number);

    if (number == 0)
        snprintf(buffer, 32, "by an unknown signal");
    else if (name)
        snprintf(buffer, 32, "by SIG%s", name);
    else
        snprintf(buffer, 32, "by signal %d", number);
    return buffer;
}
