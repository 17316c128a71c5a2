//! `roots`: seven ways to give two agents a root file system of one image, and `share`: what leaks between them, what they
//! cost in disk and memory, and how long a start takes.
//!
//! Two processes play the agents: a sender, which touches a page or a name of its root for each bit that is 1, and a
//! receiver, which tells the bits by time. They have nothing but their roots in common; a compartment's other walls make
//! no difference to the page cache. A positive control, where both have one root, shows that the receiver can tell: where
//! it cannot, the run is inconclusive. Needs root and a mount namespace of its own.

mod channels;
mod idle;
mod layouts;

use std::path::Path;

use crate::machine;
use crate::roots::channels::{CHANNELS, Heard};
use crate::roots::layouts::{LAYOUTS, Layout};

pub(crate) use channels::send;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Runs of each channel over each layout.
const ROUNDS: usize = 3;

/// Measures with the root file system in `tar`.
pub(crate) fn run(tar: &Path) -> Outcome<()> {
    let watch = machine::Watch::begin();
    println!("{}", machine::describe());
    let dir = tempfile::Builder::new().prefix("casemate-bench-roots").tempdir()?;
    leaks(dir.path())?;
    println!();
    idle::run(dir.path(), tar)?;
    println!("{}", watch.tell());
    Ok(())
}

fn leaks(dir: &Path) -> Outcome<()> {
    let image = layouts::probe_image(&dir.join("probe"))?;
    let mut heard: Vec<Vec<Vec<Heard>>> = vec![vec![Vec::new(); LAYOUTS.len()]; CHANNELS.len()];
    for _ in 0..ROUNDS {
        for (place, layout) in LAYOUTS.iter().enumerate() {
            let pair = layout.prepare(&image, 2)?;
            for (channel, of_channel) in CHANNELS.iter().zip(&mut heard) {
                let heard = channels::measure(*channel, &pair)?;
                of_channel.get_mut(place).ok_or("a layout without a place")?.push(heard);
            }
        }
    }
    println!(
        "What leaks; median of {ROUNDS} interleaved runs. Touched and idle: time that the receiver sees where the"
    );
    println!(
        "sender touched and did not; wrong: share of bits told wrongly; bit/s: capacity, 0 where a third is wrong."
    );
    for (channel, of_channel) in CHANNELS.iter().zip(&heard) {
        println!("\n{:<52} {:>9} {:>9} {:>8} {:>8}", channel.title(), "touched", "idle", "wrong", "bit/s");
        let control = LAYOUTS.iter().position(|layout| *layout == channel.control());
        let control = control.and_then(|place| of_channel.get(place));
        let control = Heard::median(control.map_or(&[], Vec::as_slice));
        for (layout, runs) in LAYOUTS.iter().zip(of_channel) {
            let heard = Heard::median(runs);
            println!(
                "{:<52} {:>6.1} {unit} {:>6.1} {unit} {:>6.1} % {:>8.0}",
                layout.title(),
                heard.touched,
                heard.idle,
                heard.wrong * 100.0,
                heard.bits_a_second(),
                unit = channel.unit(),
            );
        }
        if control.bits_a_second() == 0.0 {
            println!(
                "INCONCLUSIVE: the positive control ({}) does not hear the sender",
                channel.control().title()
            );
        }
    }
    Ok(())
}

/// The layouts of which costs are measured: all but the positive control.
fn real_layouts() -> impl Iterator<Item = Layout> {
    LAYOUTS.into_iter().filter(|layout| *layout != Layout::SameDirectory)
}
