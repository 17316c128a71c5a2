//! Appraises evidence in a process that can do nothing but compute, allocate memory, write what it has open, and end.
//!
//! What it is: it reads the inputs first, then lets the kernel kill it at every other system call, then appraises. With
//! `--then-open` or `--then-connect` in place of a nonce it opens a file or a socket instead: the control that shows
//! that the filter kills. What it is not: shipped. Who trusts it: the system tests.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use casemate_protocol::Nonce;
use casemate_protocol::cmw::Evidence;
use casemate_verifier::{Policy, UnixTime, VerifiedCollateral, appraise};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// What an appraisal may ask of the kernel, by number (Linux, arch/x86/entry/syscalls/syscall_64.tbl): memory, what is
/// open already, the locks of its own threads, and the end.
const ALLOWED: [(i64, &str); 11] = [
    (1, "write"),
    (9, "mmap"),
    (10, "mprotect"),
    (11, "munmap"),
    (12, "brk"),
    (25, "mremap"),
    (28, "madvise"),
    (60, "exit"),
    (131, "sigaltstack"),
    (202, "futex"),
    (231, "exit_group"),
];

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sealed-appraisal: {error}");
            ExitCode::from(99)
        }
    }
}

/// Words: evidence, policy, bundle, seconds since 1970, nonce.
fn run() -> Result<ExitCode, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [evidence, policy, bundle, now, nonce] = words.as_slice() else { return Err("five words".into()) };
    let evidence = Evidence::from_json_bytes(&std::fs::read(evidence)?)?;
    let policy = Policy::parse(&std::fs::read_to_string(policy)?)?;
    let collateral = casemate_endorsements::read(&std::fs::read(bundle)?)?.accept(&[])?;
    let now = UnixTime(now.parse()?);
    if nonce == "--then-open" {
        seal()?;
        let _ = std::fs::File::open("/dev/null");
        return Err("a file was opened".into());
    }
    if nonce == "--then-connect" {
        seal()?;
        let _ = std::net::UdpSocket::bind("127.0.0.1:0");
        return Err("a socket was opened".into());
    }
    let nonce: Nonce = nonce.parse()?;
    seal()?;
    Ok(match appraise(&evidence, &nonce, &policy, &mut VerifiedCollateral::verify(&collateral), now) {
        Ok(appraisal) => {
            println!("{} {} rules", appraisal.ear().status.name(), appraisal.rules().len());
            ExitCode::SUCCESS
        }
        Err(refused) => {
            println!("refused {}", refused.first().rule);
            ExitCode::FAILURE
        }
    })
}

fn seal() -> Result<(), Box<dyn Error>> {
    let filter = SeccompFilter::new(
        ALLOWED.iter().map(|(number, _)| (*number, Vec::new())).collect::<BTreeMap<_, _>>(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    apply_filter(&filter)?;
    Ok(())
}
