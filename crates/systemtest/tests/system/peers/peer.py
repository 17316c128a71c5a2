"""Victim and attacker: everything that one agent could reach of another, tried.

`victim` offers what an agent has: memory, sockets, files, locks, keys. `attacker` tries to get at each, one after the
other, and prints `ATTACK NAME got|nothing WHAT`. Both run in two compartments, and, as the positive control, as two
plain processes of one user, where the same attacks must work. NAME is the mark of the run.
"""
import array, ctypes, ctypes.util, errno, fcntl, mmap, os, select, signal, socket, struct, sys, time

ROLE, MARK, PORT, KEY, FILE, SHM = ROLE, MARK, PORT, KEY, FILE, SHM
SECRET = "secret-of-" + MARK
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
PROCESS_VM_READV, KEYCTL, ADD_KEY, SYSINFO, MINCORE, CACHESTAT, PREADV2 = 310, 250, 248, 99, 27, 451, 327
MQ_OPEN, SYSLOG, PIDFD_OPEN, PIDFD_GETFD, PTRACE, UNSHARE = 240, 103, 434, 438, 101, 272
# This program's own first process, which is nobody's victim.
OWN = os.getpid()
PERF, IO_URING, USERFAULTFD, BPF, SHMGET, SHMAT = 298, 425, 323, 321, 29, 30
SHMCTL, MQ_UNLINK = 31, 241


def call(number, *arguments):
    """A system call; a failure is an OSError."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    value = libc.syscall(ctypes.c_long(number), *words)
    if value == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return value


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (os.getpid(), OWN, 1)]


def victims():
    """Processes that have the victim's secret in their environment."""
    found = []
    for pid in pids():
        try:
            if SECRET.encode() in open(f"/proc/{pid}/environ", "rb").read():
                found.append(pid)
        except OSError:
            pass
    return found


# What the victim keeps, so that it stays.
KEPT = []


def offer_memory():
    KEPT.append(ctypes.create_string_buffer(SECRET.encode()))


def offer_abstract():
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0casemate-" + MARK)
    server.listen()
    KEPT.append(server)


def offer_tcp():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", PORT))
    server.listen()
    KEPT.append(server)


def offer_files():
    for folder in ("/dev/shm", "/tmp"):
        with open(f"{folder}/{MARK}", "w") as file:
            file.write(SECRET)


def offer_system_v():
    number = call(SHMGET, KEY, 4096, 0o1666)
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(number, None, 0)
    ctypes.memmove(address, SECRET.encode(), len(SECRET))


def offer_queue():
    KEPT.append(call(MQ_OPEN, ctypes.c_char_p(MARK.encode()), os.O_CREAT | os.O_RDWR, 0o666, None))


def offer_lock():
    file = open(FILE, "rb")
    fcntl.flock(file, fcntl.LOCK_EX)
    KEPT.append(file)


def offer_key():
    call(ADD_KEY, ctypes.c_char_p(b"user"), ctypes.c_char_p(MARK.encode()), ctypes.c_char_p(SECRET.encode()), len(SECRET), -4)


def offer_descriptor():
    read, write = os.pipe()
    os.write(write, SECRET.encode())
    os.dup2(read, 200)
    KEPT.extend([read, write])


def victim():
    for offer in (offer_memory, offer_abstract, offer_tcp, offer_files, offer_system_v, offer_queue, offer_lock, offer_key, offer_descriptor):
        try:
            offer()
        except OSError as error:
            print("offers no", offer.__name__, error, flush=True)
    print("victim ready", flush=True)
    while True:
        # Events for whoever watches the file.
        open(FILE, "rb").read(1)
        time.sleep(0.05)


def see_process():
    return victims() or None


def read_environment():
    return see_process()


def signal_any():
    reached = []
    for pid in range(2, 70000):
        if pid not in (os.getpid(), OWN):
            try:
                os.kill(pid, 0)
                reached.append(pid)
            except OSError:
                pass
    return reached or None


def read_memory():
    for pid in victims() or pids():
        for line in open(f"/proc/{pid}/maps"):
            if "[heap]" in line:
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                here = ctypes.create_string_buffer(end - begin)
                local = (ctypes.c_ulong * 2)(ctypes.addressof(here), end - begin)
                remote = (ctypes.c_ulong * 2)(begin, end - begin)
                call(PROCESS_VM_READV, pid, local, 1, remote, 1, 0)
                if SECRET.encode() in here.raw:
                    return "its memory"
    # Where no victim shows, the call itself is what is tried.
    call(PROCESS_VM_READV, 1, None, 0, None, 0, 0)
    return None


def steal_descriptor():
    for pid in victims() or [os.getppid() or 1]:
        pidfd = call(PIDFD_OPEN, pid, 0)
        number = call(PIDFD_GETFD, pidfd, 200, 0)
        return os.read(number, 100)
    return None


def trace():
    for pid in victims() or [1]:
        call(PTRACE, 0x4206, pid, 0, 0)
        return "attached"
    return None


def connect_abstract():
    client = socket.socket(socket.AF_UNIX)
    client.connect("\0casemate-" + MARK)
    return "connected"


def connect_tcp():
    socket.create_connection(("127.0.0.1", PORT), 1).close()
    return "connected"


def list_sockets():
    return [line for line in open("/proc/self/net/unix") if MARK in line] or None


def file_in(folder):
    return lambda: open(f"{folder}/{MARK}").read()


def system_v():
    number = call(SHMGET, KEY, 0, 0)
    libc.shmat.restype = ctypes.c_void_p
    found = ctypes.string_at(libc.shmat(number, None, 0), len(SECRET))
    # Outside of compartments it would stay on the machine.
    call(SHMCTL, number, 0, None)
    return found


def queue():
    descriptor = call(MQ_OPEN, ctypes.c_char_p(MARK.encode()), os.O_RDWR, 0, None)
    # Outside of compartments it would stay on the machine, and the user may have a few only.
    call(MQ_UNLINK, ctypes.c_char_p(MARK.encode()))
    return descriptor


def lock():
    """The lock of another on the same file shows."""
    try:
        fcntl.flock(open(FILE, "rb"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "locked by another"
    return None


def watch():
    """Events of another's reads show."""
    watcher = libc.inotify_init()
    if libc.inotify_add_watch(watcher, FILE.encode(), 0x21) < 0:
        raise OSError(ctypes.get_errno(), "watch")
    ready, _, _ = select.select([watcher], [], [], 2)
    return "events" if ready else None


def key():
    number = call(KEYCTL, 10, -4, ctypes.c_char_p(b"user"), ctypes.c_char_p(MARK.encode()), 0)
    here = ctypes.create_string_buffer(100)
    call(KEYCTL, 11, number, here, 100)
    return here.value


def information():
    here = ctypes.create_string_buffer(200)
    call(SYSINFO, here)
    return "processes %d" % struct.unpack_from("H", here, 80)


def mapped():
    file = os.open(FILE, os.O_RDONLY)
    return mmap.mmap(file, 4096, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED), file


def resident():
    call(MINCORE, 0, 0, None)
    return "answers"


def cached():
    _, file = mapped()
    call(CACHESTAT, file, (ctypes.c_ulong * 2)(0, 4096), (ctypes.c_ulong * 5)(), 0)
    return "answers"


def no_wait():
    file = os.open(FILE, os.O_RDONLY)
    here = ctypes.create_string_buffer(64)
    call(PREADV2, file, (ctypes.c_ulong * 2)(ctypes.addressof(here), 64), 1, 0, 0, 8)
    return "cached"


def cookie():
    one = socket.socket()
    return one.getsockopt(socket.SOL_SOCKET, 57, 8).hex()


def kernel_log():
    return call(SYSLOG, 3, ctypes.create_string_buffer(100), 100)


def open_surface(number, *arguments):
    return lambda: call(number, *arguments)


def family(number, kind):
    return lambda: "socket" if socket.socket(number, kind) else None


def global_file(path):
    return lambda: open(path, "rb").read(64)[:20] or None


GLOBAL_FILES = """stat loadavg meminfo uptime vmstat diskstats interrupts softirqs buddyinfo zoneinfo pagetypeinfo slabinfo
locks keys key-users cgroups swaps pressure/cpu pressure/memory pressure/io timer_list sched_debug schedstat version
cmdline kallsyms modules filesystems partitions consoles kmsg kcore
sys/fs/file-nr sys/fs/inode-nr sys/fs/inode-state sys/fs/dentry-state sys/fs/aio-nr sys/kernel/pty/nr
sys/kernel/random/boot_id sys/kernel/random/entropy_avail sys/kernel/ns_last_pid sys/kernel/tainted
self/net/sockstat self/net/sockstat6 self/net/protocols self/net/softnet_stat self/net/ptype self/net/netlink
self/net/packet self/net/psched self/net/xfrm_stat self/net/stat/rt_cache self/net/rt_acct net/sockstat""".split()
OTHER_FILES = ["/dev/kmsg", "/dev/mem", "/sys/kernel/mm/ksm/run", "/sys/devices/system/cpu/online", "/dev/ptmx", "/dev/fuse", "/dev/kvm"]

ATTACKS = {
    "see-process": see_process,
    "read-environment": read_environment,
    "signal-any": signal_any,
    "read-memory": read_memory,
    "steal-descriptor": steal_descriptor,
    "trace": trace,
    "abstract-socket": connect_abstract,
    "loopback-tcp": connect_tcp,
    "list-sockets": list_sockets,
    "shared-memory-file": file_in("/dev/shm"),
    "temporary-file": file_in("/tmp"),
    "system-v-memory": system_v,
    "message-queue": queue,
    "file-lock": lock,
    "watch-file": watch,
    "keyring": key,
    "sysinfo": information,
    "mincore": resident,
    "cachestat": cached,
    "read-without-waiting": no_wait,
    "socket-cookie": cookie,
    "kernel-log": kernel_log,
    "user-namespace": open_surface(UNSHARE, 0x10000000),
    "perf": open_surface(PERF, ctypes.create_string_buffer(struct.pack("IIQQQQQ", 1, 112, 1, 0, 0, 0, 0x60) + bytes(64)), 0, -1, -1, 0),
    "io-uring": open_surface(IO_URING, 8, ctypes.create_string_buffer(120)),
    "userfaultfd": open_surface(USERFAULTFD, 1),
    "bpf": open_surface(BPF, 0, ctypes.create_string_buffer(128), 128),
    "socket-alg": family(38, 5),
    "socket-vsock": family(40, 1),
    "socket-packet": family(17, 3),
    "socket-netlink": family(16, 3),
}
for path in GLOBAL_FILES:
    ATTACKS["file /proc/" + path] = global_file("/proc/" + path)
for path in OTHER_FILES:
    ATTACKS["file " + path] = global_file(path)


def gap_pipe_inode():
    """Numbers that the kernel gives to pipes and sockets of all, in order."""
    first, last = os.fstat(os.pipe()[0]).st_ino, os.fstat(os.pipe()[0]).st_ino
    return last - first if last != first else None


def gap_eventfd():
    number = libc.eventfd(0, 0)
    return next(line for line in open(f"/proc/self/fdinfo/{number}") if "eventfd-id" in line)


# What documentation says gets through: it must stay true.
GAPS = {"pipe-inode-numbers": gap_pipe_inode, "eventfd-numbers": gap_eventfd}


def attacker():
    for kind, attacks in (("attack", ATTACKS), ("gap", GAPS)):
        for name, attack in attacks.items():
            # Each in a process of its own: what one changes does not help or harm the next.
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    got = attack()
                    text = "nothing" if got is None else f"got {str(got)[:60]!r}"
                except Exception as error:
                    text = f"nothing {type(error).__name__} {str(error)[:80]}"
                os.write(write, text.encode())
                os._exit(0)
            os.close(write)
            ready, _, _ = select.select([read], [], [], 10)
            text = os.read(read, 200).decode() if ready else "nothing: no answer in time"
            os.close(read)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            print(f"{kind}\t{name}\t{text or 'nothing: ended'}", flush=True)
    print("all done", flush=True)


victim() if ROLE == "victim" else attacker()
if KEEP:
    time.sleep(3600)
