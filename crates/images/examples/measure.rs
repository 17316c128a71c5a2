//! Times of one image: import, description, verification, and the build of its root file system.
//!
//! `cargo run -p casemate-images --example measure -- ROOTFS.tar` (needs root). Uses a store of its
//! own below the system's temporary directory and removes it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::time::Instant;

use casemate_composition::lock::User;
use casemate_images::{ImportOptions, Progress, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let tar = std::env::args().nth(1).ok_or("usage: measure ROOTFS.tar")?;
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let options = ImportOptions {
        entrypoint: vec!["/usr/bin/python3".to_owned()],
        command: Vec::new(),
        environment: BTreeMap::new(),
        working_dir: "/".to_owned(),
        user: User { uid: 1000, gid: 1000 },
    };
    let start = Instant::now();
    let mut last = None;
    let mut show = |progress: Progress| {
        if last != Some(progress.step) {
            last = Some(progress.step);
            println!("{:>8.1} ms  {:?}", start.elapsed().as_secs_f64() * 1e3, progress.step);
        }
    };
    let info = store.import_rootfs("measured", &mut File::open(&tar)?, &options, &mut show)?;
    println!("{:>8.1} ms  imported", start.elapsed().as_secs_f64() * 1e3);
    println!("layers {} bytes, rootfs {} bytes, {}", info.layers_bytes, info.rootfs_bytes, info.rootfs);

    let timed =
        |what: &str, run: &mut dyn FnMut() -> Result<(), Box<dyn Error>>| -> Result<(), Box<dyn Error>> {
            let mut times = Vec::new();
            for _ in 0..5 {
                let start = Instant::now();
                run()?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            println!("{:>8.1} ms  {what} (median of 5)", times.get(2).copied().unwrap_or_default());
            Ok(())
        };
    timed("info", &mut || Ok(store.info("measured").map(drop)?))?;
    timed("verified_rootfs", &mut || {
        Ok(store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).map(drop)?)
    })?;
    let erofs = dir.path().join(format!("erofs/{}.data", info.rootfs.to_hex()));
    timed("verified_rootfs with a build", &mut || {
        std::fs::remove_file(&erofs)?;
        Ok(store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).map(drop)?)
    })
}
