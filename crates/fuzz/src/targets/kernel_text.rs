//! Text of the guest's kernel of which agents choose parts.

use std::sync::LazyLock;

use casemate_posture::kernel_text::{areas, messages, mounts};

use super::require;
use crate::{Bound, Outcome, Target, Violation};

const BOUND: Bound = Bound {
    input_bytes_max: 64 << 10,
    allocation_bytes: 16 << 10,
    // A line of few bytes becomes six strings.
    allocation_bytes_per_input_byte: 40,
    time_us: 5_000,
    time_ns_per_input_byte: 500,
};

pub(super) fn all() -> Vec<Target> {
    vec![
        Target {
            name: "maps",
            what: "casemate_posture::kernel_text::areas",
            seeds: || vec![OWN_MAPS.clone()],
            words: &[b" r-xp ", b"00000000 00:00 0", b" (deleted)", b"\\012", b"[vdso]", b"-", b"\n"],
            run: |input| Ok(read(areas(&String::from_utf8_lossy(input)).map(|areas| areas.len()))),
            bound: BOUND,
        },
        Target {
            name: "mountinfo",
            what: "casemate_posture::kernel_text::mounts",
            seeds: || vec![OWN_MOUNTS.clone()],
            words: &[b" - ", b" / ", b"0:45", b"\\040", b"lowerdir=", b",", b"\n"],
            run: |input| Ok(read(mounts(&String::from_utf8_lossy(input)).map(|mounts| mounts.len()))),
            bound: BOUND,
        },
        Target {
            name: "kmsg",
            what: "casemate_posture::kernel_text::messages",
            seeds: || {
                vec![b"6,1,100,-;Linux version 6\n SUBSYSTEM=x\n5,2,101,-,caller=T1;two; parts\n".to_vec()]
            },
            words: &[b";", b",-;", b"\n ", b"6,1,2,-;", b"\x1b", b"\n"],
            run: log,
            bound: BOUND,
        },
    ]
}

static OWN_MAPS: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read("/proc/self/maps").unwrap_or_default());
static OWN_MOUNTS: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read("/proc/self/mountinfo").unwrap_or_default());

fn read(count: Option<usize>) -> Outcome {
    Outcome(count.map_or_else(|| "refused".to_owned(), |count| format!("read {count}")))
}

/// A message never holds the end of a record, so nobody can write a second one into his own.
fn log(input: &[u8]) -> Result<Outcome, Violation> {
    let messages = messages(&String::from_utf8_lossy(input));
    let one_line = |message: &String| !message.contains('\n');
    require(messages.iter().flatten().all(one_line), "a message of more than one line")?;
    Ok(read(messages.map(|messages| messages.len())))
}
