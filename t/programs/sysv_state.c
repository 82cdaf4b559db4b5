/*
 * sysv_state.c - attaches System V shared memory, one segment that is marked for removal and one
 * with a key, and, at each SIGUSR1, prints what it sees of them: the same each time. SIGUSR2:
 * removes the one with a key, and ends.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#define BYTES (40 * 4096 + 100)

static unsigned char *removed, *keyed, *keyed_again;
static int removed_id, keyed_id;

static void must(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(99);
    }
}

static void make(void)
{
    key_t key = 0x70000000 + getpid();

    must((removed_id = shmget(IPC_PRIVATE, BYTES, 0600)) >= 0, "shmget");
    must((removed = shmat(removed_id, NULL, 0)) != (void *)-1, "shmat");
    must(shmctl(removed_id, IPC_RMID, NULL) == 0, "shmctl");
    must((keyed_id = shmget(key, 2 * 4096, IPC_CREAT | IPC_EXCL | 0640)) >= 0, "shmget");
    must((keyed = shmat(keyed_id, NULL, 0)) != (void *)-1, "shmat");
    must((keyed_again = shmat(keyed_id, NULL, SHM_RDONLY)) != (void *)-1, "shmat");
    for (size_t i = 0; i < BYTES; i++)
        removed[i] = (unsigned char)(i * 7 + i / 4096);
    must(mprotect(removed + 8192, 4096, PROT_READ) == 0, "mprotect");
    strcpy((char *)keyed + 100, "with a key");
}

static void print_segment(const char *name, int id, const unsigned char *memory, size_t bytes)
{
    struct shmid_ds segment;
    unsigned long sum = 5381;

    for (size_t i = 0; i < bytes; i++)
        sum = sum * 33 + memory[i];
    if (shmctl(id, IPC_STAT, &segment) == 0)
        printf("%s: key %x mode %o size %zu attached %lu sum %lx\n", name,
               (unsigned)segment.shm_perm.__key, (unsigned)segment.shm_perm.mode, segment.shm_segsz,
               segment.shm_nattch, sum);
    else
        printf("%s: sum %lx\n", name, sum);
}

static void print_mappings(void)
{
    char line[512], access[8];
    unsigned long start, end, offset;
    FILE *file = fopen("/proc/self/maps", "r");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strstr(line, "SYSV") != NULL &&
            sscanf(line, "%lx-%lx %7s %lx", &start, &end, access, &offset) == 4)
            printf("%lx-%lx %s %lx\n", start, end, access, offset);
    if (file != NULL)
        fclose(file);
}

static void report(void)
{
    print_segment("marked for removal", -1, removed, BYTES);
    print_segment("with a key", keyed_id, keyed, 2 * 4096);
    keyed[4096]++;
    printf("shared with itself: %d\n", keyed[4096] == keyed_again[4096]);
    keyed[4096]--;
    print_mappings();
    printf("end\n");
    fflush(stdout);
}

int main(void)
{
    sigset_t both;
    int number = 0;

    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    make();
    printf("id %d\nready\n", keyed_id);
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1)
        report();
    return shmctl(keyed_id, IPC_RMID, NULL) == 0 ? 0 : 98;
}
