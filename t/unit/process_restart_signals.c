/*
 * process_restart_signals.c - what a thread that is stopped in a system call keeps: a real signal
 * still ends its call, it can be cancelled, its registers and its red zone are its own; and where
 * an image says that it stands.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/sys.h"
#include "core/process/syscall_restart.h"
#include "t/lib/stop_fixture.h"
#include "t/lib/tap.h"

/* ---- signals ------------------------------------------------------------------------------- */

static _Atomic int handled;

static void on_signal(int signal)
{
    (void)signal;
    handled++;
}

static _Atomic int interrupted_calls;
static _Atomic int begun_calls;

/* A signal ends a call only if it has begun: the thread was seen asleep since it said so. */
static bool is_asleep(int tid)
{
    char path[64], stat[512];
    const char *end;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    if (sys_read_file(path, stat, sizeof stat) <= 0)
        return false;
    end = strrchr(stat, ')');
    return end && end[2] == 'S';
}

static void wait_for_call(int number)
{
    for (int i = 0; i < 20000 && !(begun_calls == number && is_asleep(victim.tid)); i++)
        pause_ns(100000);
}

/* Each body is one call that only a signal can end. */
static void note_interrupted(long result)
{
    CHECK_EQ(result, -1);
    CHECK_EQ(errno, EINTR);
    interrupted_calls++;
}

static void signalled_epoll_body(void)
{
    struct epoll_event event;

    begun_calls++;
    note_interrupted(epoll_wait(epoll_fd, &event, 1, -1));
}

static void signalled_timed_epoll_body(void)
{
    struct epoll_event event;

    begun_calls++;
    note_interrupted(epoll_wait(epoll_fd, &event, 1, 20000));
}

static void signalled_recv_body(void)
{
    char byte;

    begun_calls++;
    note_interrupted(recv(pair[0], &byte, 1, 0));
}

/* Sends signals between and into the stops; each must end one call. */
static void under_stops_and_signals(void (*body)(void))
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGUSR1, &action, NULL);
    handled = interrupted_calls = begun_calls = 0;
    start_stops(body, STOPS);
    while (stops_go_on()) {
        int before = interrupted_calls;

        pause_ns(3100000);
        wait_for_call(before + 1);
        pthread_kill(victim.thread, SIGUSR1);
        for (int i = 0; i < 2000 && interrupted_calls == before; i++)
            pause_ns(1000000);
        if (!tap_check(interrupted_calls == before + 1, __FILE__, __LINE__, "a signal was lost"))
            break;
    }
    while (pthread_tryjoin_np(victim.thread, NULL)) {
        pthread_kill(victim.thread, SIGUSR1);
        pause_ns(1000000);
    }
    CHECK(handled > 5);
}

static void reap_tracer(void)
{
    int status;

    waitpid(tracer_pid, &status, __WALL);
    CHECK_EQ(tracer.failed, 0);
}

static void a_real_signal_still_ends_epoll_wait(void)
{
    make_epoll();
    under_stops_and_signals(signalled_epoll_body);
    reap_tracer();
    under_stops_and_signals(signalled_timed_epoll_body);
    reap_tracer();
    close_epoll();
}

static void a_real_signal_still_ends_a_timed_recv(void)
{
    struct timeval time = {20, 0};

    make_pair();
    CHECK_EQ(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    under_stops_and_signals(signalled_recv_body);
    reap_tracer();
    close_pair();
}

/* A write that has moved something and then meets a signal returns what it moved. */
static _Atomic long cut_write;

static void *cut_writer(void *unused)
{
    (void)unused;
    victim.tid = sys_gettid();
    while (!tracer.tid)
        sched_yield();
    cut_write = write(pipe_ends[1], pattern(), MIB);
    return NULL;
}

static void a_real_signal_still_cuts_a_write(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    CHECK_EQ(pipe(pipe_ends), 0);
    sigaction(SIGUSR1, &action, NULL);
    cut_write = 0;
    start_tracing(cut_writer, 20);
    while (tracer.stops < 10)
        pause_ns(1000000);
    CHECK_EQ(cut_write, 0);
    pthread_kill(victim.thread, SIGUSR1);
    pthread_join(victim.thread, NULL);
    CHECK_EQ(cut_write, 65536);
    tracer.wanted = 0;
    waitpid(tracer_pid, NULL, __WALL);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

/* A thread that is cancelled inside a continuation unwinds through it. */
static void *cancelled_reader(void *unused)
{
    char byte;

    (void)unused;
    victim.tid = sys_gettid();
    while (!tracer.tid)
        sched_yield();
    recv(pair[0], &byte, 1, 0);
    return NULL;
}

static void a_thread_can_be_cancelled_in_a_continuation(void)
{
    struct timeval time = {20, 0};
    void *result = NULL;

    make_pair();
    CHECK_EQ(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    start_tracing(cancelled_reader, 20);
    while (tracer.stops < 10)
        pause_ns(1000000);
    tracer.wanted = 0;
    waitpid(tracer_pid, NULL, __WALL);
    pthread_cancel(victim.thread);
    pthread_join(victim.thread, &result);
    CHECK(result == PTHREAD_CANCELED);
    close_pair();
}

/* ---- registers ----------------------------------------------------------------------------- */

/* rdi: fd, rsi: event, rdx: out, room for 14 + 16 + 16 words. Fills every register and the red
 * zone, calls epoll_wait(fd, event, 1, 30 ms), stores them all. */
long call_with_full_registers(long fd, void *event, uint64_t *out);
__asm__(".text\n"
        "call_with_full_registers:\n"
        "    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "    push %rdx\n"
        "    mov $0xb0b0, %ebx; mov $0xb1b1, %ebp; mov $0xc0c0, %r12d; mov $0xd0d0, %r13d\n"
        "    mov $0xe0e0, %r14d; mov $0xf0f0, %r15d; mov $0x808, %r8d; mov $0x909, %r9d\n"
        "    movq %rdi, %xmm0; movq %rsi, %xmm1; movq %rdx, %xmm2; movq %rbx, %xmm7\n"
        "    movq %r15, %xmm15\n"
        "    mov $1, %edx; mov $30, %r10d\n"
        "    movq $0x11, -8(%rsp); movq $0x22, -64(%rsp); movq $0x33, -128(%rsp)\n"
        "    mov $232, %eax\n" /* epoll_wait */
        "    stc\n"
        "    syscall\n"
        "    movq (%rsp), %rcx\n"
        "    setc %r11b\n"
        "    movzbl %r11b, %r11d\n"
        "    movq %rdi, 0(%rcx); movq %rsi, 8(%rcx); movq %rdx, 16(%rcx); movq %r10, 24(%rcx)\n"
        "    movq %r8, 32(%rcx); movq %r9, 40(%rcx); movq %rbx, 48(%rcx); movq %rbp, 56(%rcx)\n"
        "    movq %r12, 64(%rcx); movq %r13, 72(%rcx); movq %r14, 80(%rcx); movq %r15, 88(%rcx)\n"
        "    movq %r11, 96(%rcx)\n"
        "    movq %xmm0, 104(%rcx); movq %xmm1, 112(%rcx); movq %xmm2, 120(%rcx)\n"
        "    movq %xmm7, 128(%rcx); movq %xmm15, 136(%rcx)\n"
        "    movq -8(%rsp), %r11; movq %r11, 144(%rcx)\n"
        "    movq -64(%rsp), %r11; movq %r11, 152(%rcx)\n"
        "    movq -128(%rsp), %r11; movq %r11, 160(%rcx)\n"
        "    pop %rdx\n"
        "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "    ret\n");

static void registers_body(void)
{
    struct epoll_event event;
    uint64_t out[21] = {0};
    const uint64_t event_at = (uint64_t)&event, out_at = (uint64_t)out, fd = (uint64_t)epoll_fd;
    const uint64_t expected[21] = {fd,       event_at, 1,      30,     0x808,  0x909, 0xb0b0,
                                   0xb1b1,   0xc0c0,   0xd0d0, 0xe0e0, 0xf0f0, 1,     fd,
                                   event_at, out_at,   0xb0b0, 0xf0f0, 0x11,   0x22,  0x33};

    CHECK_EQ(call_with_full_registers(epoll_fd, &event, out), 0);
    for (int i = 0; i < 21; i++)
        tap_check(out[i] == expected[i], __FILE__, __LINE__, "word %d: %llx, not %llx", i,
                  (unsigned long long)out[i], (unsigned long long)expected[i]);
}

static void a_continuation_leaves_every_register_alone(void)
{
    make_epoll();
    under_stops(registers_body);
    close_epoll();
}

/* ---- the image ----------------------------------------------------------------------------- */

static void an_image_stands_at_the_system_call(void)
{
    struct user_regs_struct regs = {.rip = 0x1002, .rax = (uint64_t)-516, .orig_rax = 35};

    syscall_restart_for_image(&regs);
    CHECK_EQ(regs.rip, 0x1000);
    CHECK_EQ(regs.rax, 35);
    CHECK_EQ(regs.orig_rax, -1);
    regs = (struct user_regs_struct){.rip = 0x1002, .rax = 17, .orig_rax = 0};
    syscall_restart_for_image(&regs);
    CHECK_EQ(regs.rip, 0x1002);
    CHECK_EQ(regs.rax, 17);
    CHECK_EQ(regs.orig_rax, -1);
    regs = (struct user_regs_struct){.rip = 0x1002, .rax = (uint64_t)-516, .orig_rax = 219};
    syscall_restart_for_image(&regs);
    CHECK_EQ(regs.rip, 0x1002);
    CHECK_EQ(regs.rax, -EINTR);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_real_signal_still_ends_epoll_wait);
    RUN(a_real_signal_still_ends_a_timed_recv);
    RUN(a_real_signal_still_cuts_a_write);
    RUN(a_thread_can_be_cancelled_in_a_continuation);
    RUN(a_continuation_leaves_every_register_alone);
    RUN(an_image_stands_at_the_system_call);
    return tap_done();
}
