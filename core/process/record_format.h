/*
 * record_format.h - every item of a process record, byte by byte. docs/process-record.md draws
 * the same and tells which items must be there.
 *
 * A record is a sequence of items (record.h). All integers are little-endian; no structure
 * has padding that is not named; sizes are pinned below. Times are nanoseconds. Items refer to one
 * another by ids that are given out from 0 upwards within their kind, in the order of the items.
 *
 * What a tail is stands behind the kind's name; strings end with a NUL that is counted.
 */
#ifndef PHEAP_PROCESS_RECORD_FORMAT_H
#define PHEAP_PROCESS_RECORD_FORMAT_H

#include <stdint.h>
#include "core/process/record_memory_format.h"
#include "core/process/record_socket_format.h"

#define RECORD_FORMAT_VERSION 2u
#define RECORD_FORMAT_OLDEST  1u /* that is still read */
#define RECORD_ID_NONE        0xffffffffu
#define RECORD_BYTES_MAX      (1280u << 20) /* of all items: a reader takes no more */

enum record_kind {
    RECORD_PROCESS = 1,        /* first item, exactly one */
    RECORD_MEMORY_LAYOUT = 2,  /* exactly one; tail: the auxiliary vector */
    RECORD_KERNEL_MAPPING = 3, /* vdso and its data pages, ascending; tail: name */
    RECORD_FILE = 4,           /* a mapped file, or the executable; tail: path */
    RECORD_MAPPING = 5,        /* ascending, disjoint; tail: name */
    RECORD_THREAD = 6,         /* the leader first; tail: NT_X86_XSTATE */
    RECORD_SIGNAL_ACTIONS = 7, /* exactly one */
    RECORD_DIRECTORY = 8,      /* exactly one; no fixed part, tail: the working directory */
    RECORD_DESCRIPTION = 9,  /* an open file description; tail: path, or what the kernel calls it */
    RECORD_DESCRIPTOR = 10,  /* a descriptor number */
    RECORD_PIPE = 11,        /* a pipe with both ends inside; tail: unread bytes */
    RECORD_EPOLL_WATCH = 12, /* one descriptor in an epoll's interest list */
    RECORD_INTERVAL_TIMER = 13,     /* setitimer */
    RECORD_POSIX_TIMER = 14,        /* timer_create */
    RECORD_PENDING_SIGNAL = 15,     /* sent and not delivered yet */
    RECORD_LIMITS = 16,             /* exactly one */
    RECORD_FILE_LOCK = 17,          /* flock, fcntl, open file description locks */
    RECORD_SOCKET = 18,             /* tail: own address, the other end's address */
    RECORD_SOCKET_OPTION = 19,      /* of the socket before it; tail: value */
    RECORD_SOCKET_MESSAGE = 20,     /* unread, of the socket before it; tail: its bytes */
    RECORD_OBJECT = 21,             /* memory or a file without a name, by content; tail: a name */
    RECORD_OBJECT_CONTENT = 22,     /* of the object before it, ascending; tail: bytes */
    RECORD_THREAD_ATTRIBUTES = 23,  /* of the thread before it; tail: CPUs that it is bound to */
    RECORD_PROCESS_ATTRIBUTES = 24, /* at most one */
    RECORD_INOTIFY_WATCH = 25,      /* of the description behind it, by wd; tail: path */

    RECORD_CHILD = 26,         /* a child process that has ended */
    RECORD_TERMINAL = 27,      /* at most one */
    RECORD_CLOCKS = 28,        /* at most one */
    RECORD_PROCESSOR = 29,     /* at most one */
    RECORD_SAVED_FILE = 30,    /* of the file before it: the generation has its content */
    RECORD_SAVED_CONTENT = 31, /* of a file that is put back; behind the descriptions */
    RECORD_SAVED_VDSO = 32,    /* at most one, behind the kernel mappings */

    RECORD_SOCKET_CONNECTION =
        33, /* of the socket before it; tail: unread, then not acknowledged */

    RECORD_CRASH = 64, /* of a crash generation: first item, exactly one; then files, mappings */
};

/* OFFSET SIZE
 *   0     4  version of this format
 *   4     4  pid, as the program knows itself
 *   8     4  threads
 *  12     4  slot of the heap
 *  16     8  address of the resume entry in libpheap's text
 *  24     4  effective user id
 *  28     4  effective group id
 *  32     4  umask
 *  36     4  personality
 *  40     4  file id of the executable
 *  44     4  flags: enum record_process_flags
 *  48     8  time of the capture, CLOCK_REALTIME
 *  56     8  the same moment, CLOCK_MONOTONIC
 *  64    64  kernel release, NUL-terminated */
struct record_process {
    uint32_t version;
    int32_t pid;
    uint32_t thread_count;
    uint32_t slot;
    uint64_t resume_entry;
    uint32_t uid;
    uint32_t gid;
    uint32_t umask;
    uint32_t personality;
    uint32_t executable;
    uint32_t flags;
    uint64_t realtime_ns;
    uint64_t monotonic_ns;
    char kernel_release[64];
};

enum record_process_flags {
    RECORD_NO_NEW_PRIVILEGES = 1u << 0,
    RECORD_LOCKS_FUTURE = 1u << 1,          /* mlockall(MCL_FUTURE) */
    RECORD_LOCKS_FUTURE_ON_FAULT = 1u << 2, /* with MCL_ONFAULT */
    RECORD_DENIES_IO_URING = 1u << 3,       /* the one seccomp filter: see seccomp_filter.h */
};

/* OFFSET SIZE
 *   0     4  version of this format
 *   4     4  pid, as the program knew itself
 *   8     4  how it ended, as wait() gives it; meaningful if flags say so
 *  12     4  flags: enum record_crash_flags
 *  16     8  time at which the end was noticed, CLOCK_REALTIME
 *  24     8  newest generation of before, 0: none */
struct record_crash {
    uint32_t version;
    int32_t pid;
    int32_t wait_status;
    uint32_t flags;
    uint64_t realtime_ns;
    uint64_t generation_before;
};

enum record_crash_flags {
    RECORD_CRASH_STATUS_KNOWN = 1u << 0,
};

#define RECORD_REGISTERS 27

/* OFFSET SIZE
 *   0     4  thread id
 *   4     4  bytes of the tail
 *   8    16  name
 *  24   216  registers: struct user_regs_struct, as 27 words
 * 240     8  blocked signals
 * 248     8  robust list head
 * 256     8  its length
 * 264     8  clear-tid address
 * 272     8  rseq area, 0: not registered
 * 280     4  rseq bytes
 * 284     4  rseq signature
 * 288     8  alternate stack
 * 296     8  its bytes
 * 304     4  its flags
 * 308     4  nice value */
struct record_thread {
    int32_t tid;
    uint32_t xstate_bytes;
    char name[16];
    uint64_t registers[RECORD_REGISTERS];
    uint64_t signal_mask;
    uint64_t robust_head;
    uint64_t robust_bytes;
    uint64_t clear_tid_address;
    uint64_t rseq_address;
    uint32_t rseq_bytes;
    uint32_t rseq_signature;
    uint64_t altstack;
    uint64_t altstack_bytes;
    uint32_t altstack_flags;
    int32_t nice;
};

#define RECORD_SIGNALS 64

/* As the kernel's struct sigaction. */
struct record_signal_action {
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    uint64_t mask;
};

struct record_signal_actions { /* [i] is signal i + 1 */
    struct record_signal_action actions[RECORD_SIGNALS];
};

enum record_description_kind {
    DESCRIPTION_REGULAR = 1, /* reopened by path; offset set */
    DESCRIPTION_DIRECTORY = 2,
    DESCRIPTION_DEVICE = 3,   /* /dev/null and such */
    DESCRIPTION_STDIO = 4,    /* taken over from the restorer; value: its descriptor 0, 1 or 2 */
    DESCRIPTION_TERMINAL = 5, /* a terminal that is none of 0, 1, 2 */
    DESCRIPTION_PIPE = 6,     /* value: pipe id; the access mode tells which end */
    DESCRIPTION_EVENTFD = 7,  /* value: count; offset: 1 for EFD_SEMAPHORE */
    DESCRIPTION_EPOLL = 8,
    DESCRIPTION_TIMERFD = 9,      /* value: clock; offset: expiry left; size: interval */
    DESCRIPTION_SIGNALFD = 10,    /* value: mask */
    DESCRIPTION_BROKEN_PIPE = 11, /* the other end was another process's, which is gone */
    DESCRIPTION_SOCKET = 12,      /* value: socket id; the n-th of them has id n */
    DESCRIPTION_OBJECT = 13,      /* value: object id */
    DESCRIPTION_FIFO = 14, /* reopened by path; value: pipe id, RECORD_ID_NONE: not read here */
    DESCRIPTION_INOTIFY = 15,
    DESCRIPTION_PIDFD = 16, /* value: pid of the process itself or of an ended child */
};

enum record_description_flags {
    RECORD_CUT_BACK = 1u << 0, /* cut the file back to `size`: the program was appending */
};

/* OFFSET SIZE
 *   0     4  id
 *   4     4  kind
 *   8     4  open flags (O_*), without O_CLOEXEC
 *  12     4  flags: enum record_description_flags
 *  16     8  offset
 *  24     8  value, see kind
 *  32     8  size of the file
 *  40     8  device
 *  48     8  inode */
struct record_description {
    uint32_t id;
    uint32_t kind;
    uint32_t open_flags;
    uint32_t flags;
    uint64_t offset;
    uint64_t value;
    uint64_t size;
    uint64_t device;
    uint64_t inode;
};

struct record_descriptor {
    uint32_t number;
    uint32_t description;
    uint32_t close_on_exec;
    uint32_t reserved;
};

struct record_pipe {
    uint32_t id;
    uint32_t capacity;
    uint32_t content_bytes;
    uint32_t named; /* 1: has a path; referred to by DESCRIPTION_FIFO, else by DESCRIPTION_PIPE */
};

struct record_epoll_watch {
    uint32_t epoll;  /* description id */
    uint32_t number; /* watched descriptor */
    uint32_t events;
    uint32_t reserved;
    uint64_t data;
};

struct record_interval_timer {
    uint32_t which;
    uint32_t reserved;
    uint64_t left_ns;
    uint64_t interval_ns;
};

struct record_posix_timer {
    int32_t id;
    int32_t clock;
    int32_t signal;
    int32_t notify; /* SIGEV_* */
    int32_t tid;    /* of SIGEV_THREAD_ID */
    uint32_t reserved;
    uint64_t value; /* sigev_value */
    uint64_t left_ns;
    uint64_t interval_ns;
};

#define RECORD_SIGINFO_BYTES 128

struct record_pending_signal {
    int32_t tid; /* 0: of the whole process */
    int32_t signal;
    uint8_t siginfo[RECORD_SIGINFO_BYTES]; /* as the kernel has it */
};

#define RECORD_LIMIT_COUNT 16

struct record_limits { /* [i] is resource number i */
    struct {
        uint64_t soft, hard;
    } limits[RECORD_LIMIT_COUNT];
};

enum record_lock_kind {
    LOCK_FLOCK = 1,
    LOCK_POSIX = 2,
    LOCK_DESCRIPTION = 3, /* F_OFD_SETLK */
};

struct record_file_lock {
    uint32_t number; /* a descriptor of the file */
    uint32_t kind;
    uint32_t exclusive;
    uint32_t reserved;
    uint64_t start;
    uint64_t bytes; /* 0: to the end, wherever that is */
};

/* OFFSET SIZE: scheduling as in struct sched_attr
 *   0     4  thread id
 *   4     4  policy
 *   8     8  flags
 *  16     4  priority
 *  20     4  signal at the parent's death, 0: none
 *  24    24  runtime, deadline, period
 *  48     8  timer slack, ns; 0: not told
 *  56     4  priority of input and output (ioprio_get)
 *  60     4  reserved, 0 */
struct record_thread_attributes {
    int32_t tid;
    uint32_t policy;
    uint64_t flags;
    uint32_t priority;
    uint32_t death_signal;
    uint64_t runtime, deadline, period;
    uint64_t timer_slack_ns;
    uint32_t io_priority;
    uint32_t reserved;
};

struct record_process_attributes {
    int32_t oom_score_adj;
    uint32_t dumpable;
    uint32_t subreaper;
    uint32_t huge_pages_off; /* PR_SET_THP_DISABLE */
};

_Static_assert(sizeof(struct record_thread_attributes) == 64, "as drawn");
_Static_assert(sizeof(struct record_process_attributes) == 16, "as drawn");

enum record_object_kind {
    OBJECT_SHARED_MEMORY = 1, /* mapped MAP_SHARED | MAP_ANONYMOUS */
    OBJECT_MEMFD = 2,         /* tail: its name */
    OBJECT_FILE = 3,          /* deleted; tail: the path that it had */
    OBJECT_TEMPORARY = 4,     /* made with O_TMPFILE; tail: its path as the kernel shows it */
    OBJECT_SHM = 5,           /* of POSIX shared memory, with a name; tail: its path */
    OBJECT_SYSV = 6,          /* of System V; tail: "SYSV " and its id; seals: its key */
};

/* OFFSET SIZE
 *   0     4  id
 *   4     4  kind
 *   8     4  mode
 *  12     4  seals (F_SEAL_*) of a memfd
 *  16     8  size */
struct record_object {
    uint32_t id;
    uint32_t kind;
    uint32_t mode;
    uint32_t seals;
    uint64_t size;
};

/* What lies in no content item is a hole. */
struct record_object_content {
    uint32_t object;
    uint32_t reserved;
    uint64_t offset;
};

/* {description id, watch descriptor, mask, 0}; each description's watches ascend. */
struct record_inotify_watch {
    uint32_t inotify;
    uint32_t wd;
    uint32_t mask;
    uint32_t reserved;
};

/* OFFSET SIZE
 *   0     4  pid
 *   4     4  state: enum record_child_state
 *   8     4  how it ended, as wait() gives it
 *  12     4  flags: enum record_child_flags */
struct record_child {
    int32_t pid;
    uint32_t state;
    uint32_t status;
    uint32_t flags;
};

enum record_child_state {
    CHILD_ENDED = 1, /* and has not been waited for */
};

enum record_child_flags {
    CHILD_LEADS_GROUP = 1u << 0, /* its process group has its pid */
};

/* OFFSET SIZE
 *   0    44  struct termios2
 *  44     8  rows, columns, width and height in pixels, 2 bytes each
 *  52     4  reserved, 0 */
struct record_terminal {
    uint32_t settings[11];
    uint16_t size[4];
    uint32_t reserved;
};

/* OFFSET SIZE
 *   0     8  CLOCK_BOOTTIME at the time of the capture */
struct record_clocks {
    uint64_t boottime_ns;
};

/* OFFSET SIZE
 *   0    32  what cpuid gives: leaf 1 ecx, edx; leaf 7 ebx, ecx, edx; leaf 7.1 eax; leaf 0x80000001
 *            ecx; and the lower half of XCR0 */
struct record_processor {
    uint32_t words[8];
};

_Static_assert(sizeof(struct record_processor) == 32, "as drawn");
_Static_assert(sizeof(struct record_clocks) == 8, "as drawn");
_Static_assert(sizeof(struct record_terminal) == 56, "as drawn");
_Static_assert(sizeof(struct record_child) == 16, "as drawn");
_Static_assert(sizeof(struct record_inotify_watch) == 16, "as drawn");
_Static_assert(sizeof(struct record_object) == 24, "as drawn");
_Static_assert(sizeof(struct record_object_content) == 16, "as drawn");
_Static_assert(sizeof(struct record_pending_signal) == 136, "as drawn");
_Static_assert(sizeof(struct record_limits) == 256, "as drawn");
_Static_assert(sizeof(struct record_file_lock) == 32, "as drawn");
_Static_assert(sizeof(struct record_process) == 128, "as drawn");
_Static_assert(sizeof(struct record_crash) == 32, "as drawn");
_Static_assert(sizeof(struct record_thread) == 312, "as drawn");
_Static_assert(sizeof(struct record_signal_actions) == 2048, "as drawn");
_Static_assert(sizeof(struct record_description) == 56, "as drawn");
_Static_assert(sizeof(struct record_descriptor) == 16, "as drawn");
_Static_assert(sizeof(struct record_pipe) == 16, "as drawn");
_Static_assert(sizeof(struct record_epoll_watch) == 24, "as drawn");
_Static_assert(sizeof(struct record_interval_timer) == 24, "as drawn");
_Static_assert(sizeof(struct record_posix_timer) == 48, "as drawn");

#endif
