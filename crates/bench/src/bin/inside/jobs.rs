//! Jobs that tell their own time: one line an repetition, nanoseconds for one of what the job does.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::{FileExt as _, Mode, OFlags};

use crate::Outcome;

/// Calls of one repetition.
const CALLS: u32 = 200_000;
/// Exchanges of one repetition: each is two writes, two reads and two switches of the thread.
const EXCHANGES: u32 = 10_000;

/// Rows in a table, in a file system in memory, with a log that is written ahead.
const SQLITE: &str = "
import os, sqlite3
for name in ('/tmp/t.db', '/tmp/t.db-wal', '/tmp/t.db-shm'):
    if os.path.exists(name):
        os.remove(name)
db = sqlite3.connect('/tmp/t.db')
db.execute('pragma journal_mode=wal')
db.execute('create table t (id integer primary key, name text, value real)')
for batch in range(200):
    with db:
        db.executemany('insert into t (name, value) values (?, ?)', ((str(n), n / 3) for n in range(100)))
assert db.execute('select count(*) from t').fetchone()[0] == 20000
";

/// Runs a job once without telling, for what is read from disk at first, then `count` times.
pub(crate) fn run(name: &str, count: &str) -> Outcome {
    let count: u32 = count.parse()?;
    let mut job = job(name)?;
    let mut lines = String::new();
    for _ in 0..=count {
        let (ops, began) = (job.ops, Instant::now());
        (job.run)()?;
        lines.push_str(&format!("{:.2}\n", began.elapsed().as_secs_f64() * 1e9 / f64::from(ops)));
    }
    Ok(std::io::stdout().write_all(lines.as_bytes())?)
}

/// Puts a filter on this process that allows every call: what any filter costs, whatever it says.
pub(crate) fn allow_everything() -> Outcome {
    // BPF_RET | BPF_K, SECCOMP_RET_ALLOW (Linux, include/uapi/linux/{bpf_common,seccomp}.h): one `struct sock_filter`.
    let mut program = 0x06_u16.to_ne_bytes().to_vec();
    program.extend([0, 0]);
    program.extend(0x7fff_0000_u32.to_ne_bytes());
    rustix::thread::set_no_new_privs(true)?;
    Ok(casemate_sys::seccomp::load(&program)?)
}

struct Job {
    ops: u32,
    run: Box<dyn FnMut() -> Outcome>,
}

fn job(name: &str) -> Result<Job, Box<dyn std::error::Error>> {
    let calls = |run: fn() -> Outcome| Job { ops: CALLS, run: Box::new(run) };
    let program = |program: &'static str, args: &'static [&'static str]| Job {
        ops: 1,
        run: Box::new(move || ends_well(Command::new(program).args(args))),
    };
    Ok(match name {
        "getpid" => calls(|| {
            for _ in 0..CALLS {
                std::hint::black_box(rustix::process::getpid());
            }
            Ok(())
        }),
        "read" => {
            let zero = File::from(rustix::fs::open("/dev/zero", OFlags::RDONLY, Mode::empty())?);
            Job {
                ops: CALLS,
                run: Box::new(move || {
                    for _ in 0..CALLS {
                        zero.read_at(&mut [0; 1], 0)?;
                    }
                    Ok(())
                }),
            }
        }
        "futex" => calls(|| {
            let word = std::sync::atomic::AtomicU32::new(0);
            for _ in 0..CALLS {
                rustix::thread::futex::wake(&word, rustix::thread::futex::Flags::PRIVATE, 1)?;
            }
            Ok(())
        }),
        "pipe" => Job { ops: EXCHANGES, run: Box::new(ping_pong) },
        "python" => program("/usr/bin/python3", &["-I", "-S", "-c", "pass"]),
        "sqlite" => program("/usr/bin/python3", &["-I", "-S", "-c", SQLITE]),
        "compile" => {
            std::fs::write("/tmp/t.c", source())?;
            program("/usr/bin/gcc", &["-O2", "-c", "/tmp/t.c", "-o", "/tmp/t.o"])
        }
        _ => return Err(format!("no job `{name}`").into()),
    })
}

/// One byte there and back between two threads on one processor.
fn ping_pong() -> Outcome {
    let mut allowed = rustix::thread::sched_getaffinity(None)?;
    let first = (0..1024).find(|cpu| allowed.is_set(*cpu)).ok_or("no processor")?;
    allowed.clear();
    allowed.set(first);
    let (mut there_out, mut there_in) = std::io::pipe()?;
    let (mut back_out, mut back_in) = std::io::pipe()?;
    let other = std::thread::spawn(move || -> std::io::Result<()> {
        rustix::thread::sched_setaffinity(None, &allowed)?;
        let mut byte = [0; 1];
        for _ in 0..EXCHANGES {
            there_out.read_exact(&mut byte)?;
            back_in.write_all(&byte)?;
        }
        Ok(())
    });
    let before = rustix::thread::sched_getaffinity(None)?;
    rustix::thread::sched_setaffinity(None, &allowed)?;
    let mut byte = [7; 1];
    for _ in 0..EXCHANGES {
        there_in.write_all(&byte)?;
        back_out.read_exact(&mut byte)?;
    }
    rustix::thread::sched_setaffinity(None, &before)?;
    Ok(other.join().map_err(|_| "the other thread panicked")??)
}

/// Some functions that an optimiser has work with.
fn source() -> String {
    let mut text =
        String::from("#include <stdint.h>\n#include <string.h>\n#include <stdlib.h>\n#include <stdio.h>\n");
    for number in 0..60 {
        text.push_str(&format!(
            "uint32_t f{number}(const uint8_t *p, size_t n) {{\n  uint32_t h = {number}u;\n  for (size_t i = 0; i < n; i++) \
             {{\n    switch (p[i] & 7) {{ case 0: h += p[i]; break; case 1: h ^= h << 5; break; case 2: h -= h >> 3; \
             break; default: h = h * 31u + p[i]; }}\n  }}\n  return h;\n}}\n"
        ));
    }
    text
}

fn ends_well(command: &mut Command) -> Outcome {
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", "/tmp");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
