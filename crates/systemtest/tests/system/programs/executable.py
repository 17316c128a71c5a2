import ctypes, mmap, time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PRIVATE, READ, WRITE, EXECUTE = 0x22, 1, 2, 4

both = libc.mmap(None, 4096, READ | WRITE | EXECUTE, PRIVATE, -1, 0)
print("at once", "denied" if both == ctypes.c_void_p(-1).value else "allowed")
first = libc.mmap(None, 4096, READ | WRITE, PRIVATE, -1, 0)
print("one after the other", "denied" if libc.mprotect(first, 4096, READ | EXECUTE) else "allowed")
print("all done", flush=True)
time.sleep(3600)
