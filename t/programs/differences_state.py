"""What docs/compatibility.md calls different: sets what can be set, prints "name value" for each, and once
more when it gets SIGUSR1."""
import ctypes
import os
import resource
import signal
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
libc.syscall.restype = ctypes.c_long
KEYCTL, SET_MEMPOLICY, GET_MEMPOLICY, MODIFY_LDT, MEMBARRIER = 250, 238, 239, 154, 324


def keyring():
    text = ctypes.create_string_buffer(200)
    return text.value.decode().split(";")[-1] if libc.syscall(KEYCTL, 6, -3, text, 200) > 0 else "none"


def policy():
    found = ctypes.c_int(0)
    libc.syscall(GET_MEMPOLICY, ctypes.byref(found), None, 0, None, 0)
    return found.value


def stat_field(number):
    with open("/proc/self/stat", encoding="ascii", errors="replace") as f:
        return f.read().rsplit(")", 1)[1].split()[number - 3]


def show():
    with open("/proc/self/coredump_filter", encoding="ascii") as f:
        dumped = f.read().strip()
    for name, value in (
            ("pid", os.getpid()), ("group", os.getpgrp()), ("session", os.getsid(0)),
            ("start", stat_field(22)), ("faults", resource.getrusage(resource.RUSAGE_SELF).ru_minflt),
            ("keyring", keyring()), ("policy", policy()), ("securebits", libc.prctl(27, 0, 0, 0, 0)),
            ("execute-gain", libc.prctl(66, 0, 0, 0, 0)), ("merge", libc.prctl(68, 0, 0, 0, 0)),
            ("machine-check", libc.prctl(34, 0, 0, 0, 0)), ("dumped", dumped),
            ("segments", libc.syscall(MODIFY_LDT, 0, ctypes.create_string_buffer(64), 64)),
            ("barrier", libc.syscall(MEMBARRIER, 1 << 3, 0, 0))):  # private, expedited
        print(name, value, flush=True)
    print("end", flush=True)


os.setsid() if os.getpgrp() != os.getpid() else None
libc.syscall(KEYCTL, 1, b"mine")
libc.syscall(SET_MEMPOLICY, 1, ctypes.byref(ctypes.c_ulong(1)), 2)
libc.prctl(28, 1, 0, 0, 0)
libc.prctl(65, 1, 0, 0, 0)
libc.prctl(67, 1, 0, 0, 0)
libc.prctl(33, 1, 1, 0, 0)
with open("/proc/self/coredump_filter", "w", encoding="ascii") as f:
    f.write("0x7f")
libc.syscall(MODIFY_LDT, 1, (ctypes.c_uint * 4)(0, 0x1000, 0xfff, 0x51), 16)
again = []
signal.signal(signal.SIGUSR1, lambda *_: again.append(1))
show()
while not again:
    time.sleep(0.01)
show()
