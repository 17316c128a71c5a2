//! Large pipes without end.
//!
//! Mechanism: each user has 64 MiB of pipe buffers; past that, pipes have one or two pages. Source: pipe(7). Stopped by: `user-namespace`.

use rustix::pipe::fcntl_setpipe_size;

use crate::attack::{Args, Attack, Kind, Length, Need, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "exhaust-pipes",
    title: "exhaustion: memory of pipes",
    stopped_by: &["user-namespace"],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Exhaust { need, take },
};

/// Size that is asked for.
const BYTES: usize = 1 << 20;

fn need(_: &Args) -> Result<Need, Why> {
    Ok(Box::new(|| {
        let (read, _write) = std::io::pipe()?;
        fcntl_setpipe_size(&read, BYTES / 16)?;
        Ok(())
    }))
}

fn take(_: &Args) -> Result<Offer, Why> {
    let mut all = Vec::new();
    let mut why = String::new();
    // Down to the last page.
    for bytes in [BYTES, BYTES >> 2, BYTES >> 4, BYTES >> 6, BYTES >> 8] {
        why = loop {
            let made = std::io::pipe().map_err(Why::from).and_then(|(read, write)| {
                fcntl_setpipe_size(&read, bytes)?;
                Ok((read, write))
            });
            match made {
                Ok(one) => all.push(one),
                Err(Why(why)) => break why,
            }
        };
    }
    Ok(Offer { told: format!("{} pipes: {why}", all.len()), kept: Box::new(all) })
}
