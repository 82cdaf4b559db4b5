/*
 * phases.c - a program whose sizes change: each phase fills 12 MiB with blocks of its own sizes,
 * then frees nine of ten, in random order; the tenth lives on for two phases more.
 * What is left scattered must not keep the next phase from the memory.
 */
#include "workload.h"

#define LIVE_BYTES (12 * MIB)
#define SURVIVORS  10 /* one in so many */

static const size_t sizes[][2] = {{16, 64}, {200, 600}, {64, 200}, {1000, 4000}, {16, 48}};
#define PHASES (sizeof sizes / sizeof sizes[0])

struct phase {
    void **blocks;
    size_t count;
};

static void shuffle(struct phase *phase, uint64_t *dice)
{
    for (size_t i = phase->count; i > 1; i--) {
        size_t other = random_below(dice, i);
        void *block = phase->blocks[i - 1];

        phase->blocks[i - 1] = phase->blocks[other];
        phase->blocks[other] = block;
    }
}

static void phase_fill(struct phase *phase, const size_t range[2], size_t bytes, uint64_t *dice)
{
    phase->count = bytes / ((range[0] + range[1]) / 2);
    phase->blocks = make(phase->count * sizeof(void *));
    for (size_t i = 0; i < phase->count; i++)
        phase->blocks[i] = make(random_size(dice, range[0], range[1]));
}

static void phase_thin_out(struct phase *phase, uint64_t *dice)
{
    size_t kept = phase->count / SURVIVORS;

    shuffle(phase, dice);
    while (phase->count > kept)
        free(phase->blocks[--phase->count]);
}

static void phase_end(struct phase *phase)
{
    while (phase->count > 0)
        free(phase->blocks[--phase->count]);
    free(phase->blocks);
    phase->blocks = NULL;
}

static void run(struct worker *worker)
{
    struct phase phases[3] = {{NULL, 0}};

    for (uint64_t round = 0; round < worker->rounds; round++) {
        struct phase *phase = &phases[round % 3];

        phase_end(phase);
        phase_fill(phase, sizes[round % PHASES], LIVE_BYTES, &worker->dice);
        phase_thin_out(phase, &worker->dice);
    }
    for (int i = 0; i < 3; i++)
        phase_end(&phases[i]);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 60, run);
}
