import asyncio, ctypes, hashlib, multiprocessing, os, socket, sqlite3, ssl, subprocess, sys, threading, time

# Threads.
total = []
threads = [threading.Thread(target=lambda n=n: total.append(n * n)) for n in range(16)]
[t.start() for t in threads]
[t.join() for t in threads]
assert len(total) == 16

# Processes with a queue: semaphores in shared memory.
def work(queue):
    queue.put(hashlib.sha256(b"x" * 1000).hexdigest())

queue = multiprocessing.Queue()
process = multiprocessing.Process(target=work, args=(queue,))
process.start()
assert len(queue.get(timeout=20)) == 64
process.join()

# An event loop with a server and a client.
async def echo():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 9000)
    reader, writer = await asyncio.open_connection("127.0.0.1", 9000)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    server.close()

asyncio.run(echo())

# A database with a write-ahead log.
database = sqlite3.connect("/tmp/a.db")
assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
database.execute("CREATE TABLE t (x)")
database.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1000)])
database.commit()
assert sqlite3.connect("/tmp/a.db").execute("SELECT count(*) FROM t").fetchone() == (1000,)

# A child, a TLS context, and how the machine looks.
assert subprocess.run(["/bin/true"]).returncode == 0
ssl.create_default_context()
assert os.cpu_count() >= 1 and os.sysconf("SC_PAGE_SIZE") == 4096 and os.uname().sysname == "Linux"
socket.getaddrinfo("localhost", 80)
os.posix_fadvise(os.open("/tmp/a.db", os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)

# pip installs a package, and it is imported.
wheels = "/usr/share/python-wheels/"
names = os.listdir(wheels)
pip = wheels + next(n for n in names if n.startswith("pip-"))
package = wheels + next(n for n in names if n.startswith("setuptools-"))
pip_run = [sys.executable, pip + "/pip", "install", "--no-index", "--no-cache-dir", "--target", "/tmp/site", package]
done = subprocess.run(pip_run, capture_output=True, text=True, timeout=100)
assert done.returncode == 0, done.stdout + done.stderr
sys.path.insert(0, "/tmp/site")
import setuptools
assert setuptools.__file__.startswith("/tmp/site")
print("all done", setuptools.__version__, flush=True)
time.sleep(3600)
