//! `images`: an image of some 300 MB in three layers, taken in by ours and by `skopeo` and `umoci`; hashing against
//! OpenSSL; what a second start reads; a lock of 100 services; memory of an import by the size of its layer.
//!
//! Ours ends with an EROFS file whose digest is known and which can be mounted, all of it on disk; theirs with a tree of
//! files. Both copy the blobs and verify every digest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use casemate_composition::lock::{ImagePin, User};
use casemate_composition::{ImageFacts, compose};
use casemate_images::{ImportRequest, Store};

use crate::machine;
use crate::measure::thread_time;
use crate::statistics::quantile;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Runs of the comparison.
const ROUNDS: usize = 5;
/// What is hashed at once, by us and by `openssl speed`.
const HASH_BYTES: usize = 256 << 10;
/// Services of the lock.
const SERVICES: usize = 100;
/// Sizes of the one layer whose import is watched.
const LAYER_MB: [u64; 2] = [10, 1000];

/// Measures with the OCI layout in `layout`, whose image is called `bench`.
pub(crate) fn run(layout: &Path) -> Outcome<()> {
    let watch = machine::Watch::begin();
    println!("{}", machine::describe());
    let dir = tempfile::Builder::new().prefix("casemate-bench-images").tempdir()?;
    unpack(layout, dir.path())?;
    hash()?;
    lock()?;
    memory(dir.path())?;
    println!("{}", watch.tell());
    Ok(())
}

fn unpack(layout: &Path, dir: &Path) -> Outcome<()> {
    let (mut ours, mut theirs, mut unpacked) = (Vec::new(), Vec::new(), Vec::new());
    let store_dir = dir.join("store");
    for _ in 0..ROUNDS {
        let _ = fs::remove_dir_all(&store_dir);
        let began = Instant::now();
        let store = Store::open(&store_dir)?;
        let request = ImportRequest { name: Some("bench".into()), ..ImportRequest::default() };
        let info = store.import(layout, &request, &mut |_| {})?.info;
        ours.push(ms(began.elapsed()));
        println!(
            "  ours: {:.0} ms, root file system of {:.1} MB",
            ms(began.elapsed()),
            mb(info.rootfs_bytes)
        );

        let (copy, bundle) = (dir.join("copy"), dir.join("bundle"));
        for old in [&copy, &bundle] {
            let _ = fs::remove_dir_all(old);
        }
        let began = Instant::now();
        let source = format!("oci:{}:bench", layout.display());
        quiet(Command::new("skopeo").args(["copy", &source]).arg(format!("oci:{}:bench", copy.display())))?;
        let copied = began.elapsed();
        quiet(
            Command::new("umoci")
                .args(["unpack", "--image"])
                .arg(format!("{}:bench", copy.display()))
                .arg(&bundle),
        )?;
        theirs.push(ms(began.elapsed()));
        unpacked.push(ms(began.elapsed() - copied));
        println!("  skopeo and umoci: {:.0} ms", ms(began.elapsed()));
    }
    let median = |series: &[f64]| quantile(series, 0.5).unwrap_or(f64::NAN);
    let (ours, theirs) = (median(&ours), median(&theirs));
    println!(
        "import, median of {ROUNDS}, interleaved: ours {ours:.0} ms; skopeo copy and umoci unpack {theirs:.0} ms, of them unpack {:.0}",
        median(&unpacked)
    );
    println!("  they take {:.2} times as long as ours", theirs / ours);
    second_use(&Store::open(&store_dir)?)
}

/// What the second resolution and the second start read.
fn second_use(store: &Store) -> Outcome<()> {
    let before = bytes_read()?;
    let began = Instant::now();
    let info = store.info("bench")?;
    let (resolved, read) = (began.elapsed(), bytes_read()? - before);
    let before = bytes_read()?;
    let began = Instant::now();
    store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {})?;
    let (verified, read_again) = (began.elapsed(), bytes_read()? - before);
    println!(
        "second resolution: {:.2} ms, {read} bytes read; layers have {}",
        ms(resolved),
        info.layers_bytes
    );
    println!(
        "second start, verification: {:.0} ms, {read_again} bytes read, {} of them not of the root file system; {:.0} MB/s",
        ms(verified),
        read_again.saturating_sub(info.rootfs_bytes),
        mb(info.rootfs_bytes) / verified.as_secs_f64()
    );
    Ok(())
}

/// Bytes that this process has read (proc_pid_io(5), `rchar`).
fn bytes_read() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: ")).ok_or("no rchar")?;
    Ok(line.parse()?)
}

/// Ours and `openssl speed` in turn, by processor time.
fn hash() -> Outcome<()> {
    let buffer = vec![0x5a; HASH_BYTES];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let began = thread_time();
        let mut bytes = 0_u64;
        let mut context = Context::new(&SHA256);
        while thread_time() - began < Duration::from_secs(1) {
            for _ in 0..16 {
                context.update(&buffer);
                bytes += buffer.len() as u64;
            }
        }
        ours.push(mb(bytes) / (thread_time() - began).as_secs_f64());
        let _ = context.finish();
        let output = Command::new("openssl")
            .args(["speed", "-seconds", "1", "-bytes", &HASH_BYTES.to_string(), "-evp", "sha256"])
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = text.split_whitespace().last().and_then(|word| word.strip_suffix('k'));
        // In thousands of bytes a second.
        theirs.push(rate.ok_or("openssl speed says no rate")?.parse::<f64>()? / 1e3);
    }
    let median = |series: &[f64]| quantile(series, 0.5).unwrap_or(f64::NAN);
    let (ours, theirs) = (median(&ours), median(&theirs));
    println!(
        "SHA-256: ours {ours:.0} MB/s, openssl speed {theirs:.0} MB/s, openssl / ours {:.3}",
        theirs / ours
    );
    Ok(())
}

/// From the text of a Compose file to the bytes of its lock and its digest.
fn lock() -> Outcome<()> {
    let mut text = String::from("name: bench\nservices:\n");
    for place in 0..SERVICES {
        let next = (place + 1) % SERVICES;
        text.push_str(&format!(
            "  s{place}:\n    image: i:1\n    command: [\"run\", \"{place}\"]\n    environment: {{ A: \"1\", B: \"two\" }}\n    expose: [\"{}\"]\n    mem_limit: 64m\n    x-casemate:\n      talks-to: [\"s{next}:{}\"]\n      egress: [\"api{place}.example:443\"]\n",
            place + 1,
            next + 1
        ));
    }
    let digest = casemate_canon::Sha256::of(b"bench");
    let facts = ImageFacts {
        pin: ImagePin { manifest: digest, config: digest, rootfs: digest },
        entrypoint: vec!["/bin/agent".into()],
        command: Vec::new(),
        environment: BTreeMap::new(),
        working_dir: "/".into(),
        user: User { uid: 1000, gid: 1000 },
    };
    let images = BTreeMap::from([("i:1".to_owned(), facts)]);
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        let composition = compose::parse("compose.yaml", &text, &BTreeMap::new())?;
        let lock = composition.resolve(&images)?;
        let bytes = lock.to_json()?;
        let digest = lock.digest()?;
        times.push(ms(began.elapsed()));
        std::hint::black_box((bytes, digest));
    }
    println!("lock of {SERVICES} services: median {:.1} ms", quantile(&times, 0.5).unwrap_or(f64::NAN));
    Ok(())
}

/// Largest memory of a process that imports one layer.
fn memory(dir: &Path) -> Outcome<()> {
    for megabytes in LAYER_MB {
        let tar = dir.join("layer.tar");
        write_tar(&tar, megabytes)?;
        let store = dir.join("memory");
        let output = Command::new("/proc/self/exe")
            .arg("images-import")
            .args([&tar, &store])
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            return Err(format!("import: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        println!("import of a layer of {megabytes} MB: {said}");
        fs::remove_dir_all(&store)?;
        fs::remove_file(&tar)?;
    }
    Ok(())
}

/// The life of the process whose memory is measured: `images-import TAR STORE`.
pub(crate) fn import(tar: &str, store: &str) -> Outcome<()> {
    let began = Instant::now();
    let request = ImportRequest { name: Some("layer".into()), ..ImportRequest::default() };
    Store::open(Path::new(store))?.import(Path::new(tar), &request, &mut |_| {})?;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    println!("{:.0} ms, at most{peak} of memory", ms(began.elapsed()));
    Ok(())
}

/// A tar with one file of this many megabytes.
fn write_tar(path: &Path, megabytes: u64) -> Outcome<()> {
    let bytes = megabytes * 1_000_000;
    let mut header = [0_u8; 512];
    let mut field = |at: usize, text: &[u8]| {
        for (slot, byte) in header.iter_mut().skip(at).zip(text) {
            *slot = *byte;
        }
    };
    // Fields of a ustar header (POSIX.1-2017, pax): name, mode, uid, gid, size, mtime, checksum, type, magic.
    field(0, b"large");
    field(100, b"0000644\0");
    field(108, b"0000000\0");
    field(116, b"0000000\0");
    field(124, format!("{bytes:011o}\0").as_bytes());
    field(136, b"00000000000\0");
    field(148, b"        0");
    field(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    for (slot, byte) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *slot = byte;
    }
    let mut file = std::io::BufWriter::new(File::create(path)?);
    file.write_all(&header)?;
    std::io::copy(&mut std::io::repeat(0xa5).take(bytes.next_multiple_of(512)), &mut file)?;
    file.write_all(&[0; 1024])?;
    Ok(file.flush()?)
}

fn quiet(command: &mut Command) -> Outcome<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a size")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
