/*
 * secrets.c - a program with something that must not repeat: a session key, drawn anew when the
 * process has been resumed. It learns of that by a signal and by the generation's number; a child
 * of it by the environment. A line every 20 ms: "key KEY of GENERATION, signals N, child
 * GENERATION".
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "../../core/pheap.h"

static volatile sig_atomic_t signals;

static void note_resume(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    if (info->si_code == SI_QUEUE && info->si_value.sival_int == (int)pheap_resumed_generation())
        signals++;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = note_resume, .sa_flags = SA_SIGINFO};
    unsigned long key = 0;
    uint64_t drawn_in = UINT64_MAX;

    if (!pheap_is_present())
        return 2;
    sigaction(SIGUSR2, &action, NULL);
    if (pheap_on_resume(SIGUSR2) != 0 || pheap_on_resume(-1) == 0 || pheap_on_resume(65) == 0)
        return 3;
    for (;;) {
        const char *variable = getenv("PHEAP_GENERATION");

        if (drawn_in != pheap_resumed_generation()) {
            drawn_in = pheap_resumed_generation();
            if (getrandom(&key, sizeof key, 0) != sizeof key)
                return 4;
        }
        printf("key %lx of %lu, signals %d, child %s\n", key, (unsigned long)drawn_in, (int)signals,
               variable ? variable : "nothing");
        fflush(stdout);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}
