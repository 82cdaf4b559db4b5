/*
 * doctor.h - what the doctor looks at, and how it says what it found.
 *
 * Every check adds one finding. A check learns by doing, in a child process of its own where the
 * deed would change the caller; it leaves nothing behind. Only what the machine, the place and the
 * program allow is looked at, never a pool.
 */
#ifndef PHEAP_TOOLS_DOCTOR_H
#define PHEAP_TOOLS_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>

enum doctor_verdict {
    DOCTOR_OK,
    DOCTOR_LIMITED, /* pheap works, slower or with a difference that a person should know */
    DOCTOR_NO,      /* checkpoints, restores or the program do not work */
};

struct doctor {
    json_t *findings; /* array of {check, verdict, found, advice} */
    enum doctor_verdict worst;
};

/* advice: what to do, NULL where nothing is to be done. format says what was found. */
void doctor_find(struct doctor *doctor, const char *check, enum doctor_verdict verdict,
                 const char *advice, const char *format, ...) __attribute__((format(printf, 5, 6)));

void doctor_machine(struct doctor *doctor);
void doctor_ids(struct doctor *doctor);
/* Where a pool would lie. */
void doctor_place(struct doctor *doctor, const char *directory);
void doctor_program(struct doctor *doctor, const char *command);
/* Runs, checkpoints, kills and resumes a small program with a pool in the directory. */
void doctor_trial(struct doctor *doctor, const char *directory);

/* A number in a file of /proc, fallback if it cannot be read. */
long doctor_number(const char *path, long fallback);

#endif
