//! Files that come out of a compartment: items, as `casemate cp` reads them.

use casemate_sys::transfer::{Item, TransferError};

use super::require;
use crate::{Bound, Outcome, Target, Violation};

const BOUND: Bound = Bound {
    input_bytes_max: 80 << 10,
    // The longest item, and the text or content that it gives.
    allocation_bytes: 160 << 10,
    allocation_bytes_per_input_byte: 8,
    time_us: 5_000,
    time_ns_per_input_byte: 500,
};

pub(super) fn all() -> Vec<Target> {
    vec![Target {
        name: "transfer",
        what: "casemate_sys::transfer::Item, one after the other",
        seeds,
        words: &[&[1], &[2], &[3], &[6], &[0xff; 4], &[0, 0, 1, 0], b"../x", b"/"],
        run,
        bound: BOUND,
    }]
}

fn seeds() -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    for item in [
        Item::Folder { path: "a".into(), mode: 0o755 },
        Item::File { path: "a/b".into(), mode: 0o644 },
        Item::Data(b"content".to_vec()),
        Item::Skipped { path: "a/c".into(), reason: "a symbolic link".into() },
        Item::End,
    ] {
        // A vector takes everything.
        let _ = item.write(&mut stream);
    }
    vec![stream]
}

/// Every item that is read is written as the same bytes.
fn run(input: &[u8]) -> Result<Outcome, Violation> {
    let mut rest = input;
    let mut count = 0_u32;
    loop {
        let before = rest;
        match Item::read(&mut rest) {
            Ok(item) => {
                let mut again = Vec::new();
                let _ = item.write(&mut again);
                let read = before.len().saturating_sub(rest.len());
                require(
                    before.get(..read) == Some(again.as_slice()),
                    "an item is written otherwise than read",
                )?;
                count = count.saturating_add(1);
                if item == Item::End {
                    return Ok(Outcome(format!("read to the end, {} items", count.min(4))));
                }
            }
            // The system's words for the end of a stream are not ours to compare.
            Err(TransferError::Stream(_)) => return Ok(Outcome(format!("{} items, cut", count.min(4)))),
            Err(error) => return Ok(Outcome(format!("{} items, {error}", count.min(4)))),
        }
    }
}
