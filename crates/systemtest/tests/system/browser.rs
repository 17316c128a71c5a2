//! A headless browser, to look at a page that is a file, and a proxy that counts whatever the browser asks for elsewhere.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::project::run_bounded;

/// What `cargo xtask setup` installs.
const PROGRAM: &str = "/usr/bin/chromium-headless-shell";
/// Time for one page, on a machine that does much else.
const PAGE_BOUND: Duration = Duration::from_secs(60);

/// What a page came to.
pub(crate) struct Seen {
    /// The document, as the browser understood it.
    pub(crate) dom: String,
    /// Where its picture is.
    pub(crate) picture: PathBuf,
    /// Connections that the browser asked the proxy for.
    pub(crate) requests: u32,
}

/// Opens a page, prints its document, and takes a picture of it.
pub(crate) fn open(page: &Path, dir: &Path, name: &str, more: &[&str]) -> Seen {
    let requests = Arc::new(AtomicU32::new(0));
    let proxy = count_into(Arc::clone(&requests));
    let picture = dir.join(format!("{name}.png"));
    let browser = |what: &str| {
        let mut command = Command::new(PROGRAM);
        // The test is root, in namespaces of nobody: the browser's own sandbox does not start there.
        command.args(["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-component-update"]);
        command.args(["--disable-default-apps", "--disable-sync", "--no-pings", "--window-size=1100,4000"]);
        command.arg(format!("--user-data-dir={}", dir.join(format!("{name}-browser")).display()));
        command.arg(format!("--proxy-server=127.0.0.1:{proxy}")).arg("--proxy-bypass-list=<-loopback>");
        command.args(more).arg(what).arg(format!("file://{}", page.display()));
        command.env("HOME", dir);
        let output = run_bounded(&mut command, dir, PAGE_BOUND, None);
        assert!(output.status.success(), "{}", output.stderr);
        output.stdout
    };
    browser(&format!("--screenshot={}", picture.display()));
    let dom = browser("--dump-dom");
    Seen { dom, picture, requests: requests.load(Ordering::SeqCst) }
}

/// A listener that counts who connects, and ends with the test.
fn count_into(requests: Arc<AtomicU32>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            requests.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    port
}

/// Width and height of a PNG, and how many of its lines differ from the one above (PNG specification, chapters 9 and 11).
pub(crate) fn picture(path: &Path) -> (u32, u32, usize) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let (width, height) = (number(16), number(20));
    let (mut at, mut data) = (8, Vec::new());
    while at + 12 <= bytes.len() {
        let length = usize::try_from(number(at)).unwrap();
        if &bytes[at + 4..at + 8] == b"IDAT" {
            data.extend_from_slice(&bytes[at + 8..at + 8 + length]);
        }
        at += length + 12;
    }
    let mut pixels = Vec::new();
    flate2::read::ZlibDecoder::new(data.as_slice()).read_to_end(&mut pixels).unwrap();
    let line = pixels.len() / usize::try_from(height).unwrap();
    let lines: Vec<&[u8]> = pixels.chunks(line).collect();
    (width, height, lines.windows(2).filter(|two| two[0] != two[1]).count())
}
