/*
 * file_locks.c - locks on files: flock, fcntl's, and those of open file descriptions.
 *
 * They went when the program died. Always true: a restored program holds them all again, or is
 * not let go: somebody else who has one by now may have changed the file under it.
 */
#include <string.h>
#include <sys/file.h>
#include "core/process/descriptors.h"
#include "core/process/proc_text.h"

static bool next_word(const char **at, const char *word)
{
    const char *text = *at;
    size_t length = strlen(word);

    while (*text == ' ')
        text++;
    if (strncmp(text, word, length) != 0 || text[length] != ' ')
        return false;
    *at = text + length;
    return true;
}

/* "1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF" */
static bool parse_lock(const char *at, struct record_file_lock *lock)
{
    (void)text_number(&at, 10);
    if (*at++ != ':')
        return false;
    lock->kind = next_word(&at, "FLOCK")    ? LOCK_FLOCK
                 : next_word(&at, "POSIX")  ? LOCK_POSIX
                 : next_word(&at, "OFDLCK") ? LOCK_DESCRIPTION
                                            : 0;
    if (lock->kind == 0 || !next_word(&at, "ADVISORY"))
        return false;
    lock->exclusive = next_word(&at, "WRITE");
    if (!lock->exclusive && !next_word(&at, "READ"))
        return false;
    for (int skipped = 0; skipped < 2; skipped++) { /* pid, device and inode */
        while (*at == ' ')
            at++;
        while (*at != ' ' && *at != 0)
            at++;
    }
    while (*at == ' ')
        at++;
    lock->start = text_number(&at, 10);
    while (*at == ' ')
        at++;
    if (!text_starts_with(at, "EOF"))
        lock->bytes = text_number(&at, 10) - lock->start + 1;
    return true;
}

int capture_file_locks(struct capture_run *run, uint32_t number)
{
    for (const char *at = proc_field(run->text, "lock"); at != NULL; at = proc_field(at, "lock")) {
        struct record_file_lock lock = {.number = number};

        if (!parse_lock(at, &lock))
            return problem_set(run->why, STATUS_UNSUPPORTED,
                               "fd %u: a lease or a lock of an unknown kind cannot be checkpointed",
                               number);
        record_put(run->out, RECORD_FILE_LOCK, &lock, sizeof lock, NULL, 0);
        while (*at != 0 && *at != '\n')
            at++;
    }
    return 0;
}

void rebuild_file_locks(struct rebuild *rebuild)
{
    struct batch *batch = rebuild->batch;

    for (uint32_t i = 0; i < rebuild->image->lock_count; i++) {
        const struct record_file_lock *lock = rebuild->image->locks[i];
        struct flock range = {
            .l_type = lock->exclusive ? F_WRLCK : F_RDLCK,
            .l_start = (off_t)lock->start,
            .l_len = (off_t)lock->bytes,
        };
        const char *what = rebuild_text(rebuild, "lock held through fd %u", lock->number);

        if (lock->kind == LOCK_FLOCK)
            batch_add(batch, what, SYS_flock,
                      BATCH_ARGS(lock->number, (lock->exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB));
        else
            batch_add(batch, what, SYS_fcntl,
                      BATCH_ARGS(lock->number, lock->kind == LOCK_POSIX ? F_SETLK : F_OFD_SETLK,
                                 batch_data(batch, &range, sizeof range)));
    }
}
