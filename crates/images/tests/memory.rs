//! Memory does not grow with the size of a layer: the same import, small and large, in processes of
//! their own whose peak is compared.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use casemate_images::{ImportRequest, Store};

/// Tells the child below what to import, into which store, and where to write its peak.
const SOURCE: &str = "CASEMATE_TEST_SOURCE";
const DIR: &str = "CASEMATE_TEST_DIR";

/// A zstd frame of raw blocks (RFC 8878, section 3.1.1.2) with a window of 8 MiB.
struct RawZstd<W: Write>(W);

impl<W: Write> Write for RawZstd<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let part = &buffer[..buffer.len().min(64 << 10)];
        self.0.write_all(&(u32::try_from(part.len()).unwrap() << 3).to_le_bytes()[..3])?;
        self.0.write_all(part)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A tar with one file of so many MiB.
fn write_tar(out: impl Write, mib: u64) {
    let mut tar = tar::Builder::new(out);
    let mut header = tar::Header::new_gnu();
    header.set_path("large").unwrap();
    header.set_size(mib << 20);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    tar.append(&header, std::io::Read::take(std::io::repeat(0x5a), mib << 20)).unwrap();
    tar.into_inner().unwrap().flush().unwrap();
}

/// Peak of resident memory of a process that imports `source`, in KiB.
fn peak_kib(source: &Path) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("timeout")
        .arg("120")
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_imports"])
        .env(SOURCE, source)
        .env(DIR, dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    fs::read_to_string(dir.path().join("peak")).unwrap().parse().unwrap()
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child_that_imports() {
    let (Some(source), Some(dir)) = (std::env::var_os(SOURCE), std::env::var_os(DIR)) else { return };
    let store = Store::open(&Path::new(&dir).join("store")).unwrap();
    let request = ImportRequest { name: Some("large".to_owned()), ..ImportRequest::default() };
    let info = store.import(Path::new(&source), &request, &mut |_| {}).unwrap().info;
    store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    fs::write(Path::new(&dir).join("peak"), peak.trim().trim_end_matches(" kB")).unwrap();
}

#[test]
fn a_layer_sixteen_times_as_large_takes_no_more_memory() {
    const MORE_KIB_MAX: u64 = 2 << 10;
    let dir = tempfile::tempdir().unwrap();
    let mut peaks = Vec::new();
    for mib in [16, 256] {
        let plain = dir.path().join("plain.tar");
        write_tar(BufWriter::new(File::create(&plain).unwrap()), mib);
        let zstd = dir.path().join("zstd.tar");
        let mut file = BufWriter::new(File::create(&zstd).unwrap());
        file.write_all(&[0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3]).unwrap();
        write_tar(RawZstd(&mut file), mib);
        // The last block, empty.
        file.write_all(&[1, 0, 0]).unwrap();
        file.flush().unwrap();
        peaks.push([peak_kib(&plain), peak_kib(&zstd)]);
    }
    println!("peak KiB of 16 and 256 MiB, plain and zstd: {peaks:?}");
    for (small, large) in peaks[0].iter().zip(peaks[1]) {
        assert!(large <= small + MORE_KIB_MAX, "{peaks:?}");
    }
}
