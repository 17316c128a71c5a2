//! `memory`: what a verification needs at most, and that many of them leave nothing behind.
//!
//! A program of its own, because a counting allocator costs time. It counts what Rust allocates; what the cryptographic
//! library allocates in C shows in the resident size of the process alone.

#[path = "../verify/inputs.rs"]
mod inputs;

use std::process::ExitCode;

use casemate_peers::tdx_cases::bind;
use casemate_testkit::{DevPki, TdBody, Tee};
use peak_alloc::PeakAlloc;

use inputs::{Case, Snp, Tdx};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Verifications between the two looks at what is allocated.
const VERIFICATIONS: usize = 100_000;
/// Verifications before: everything that is made once is made.
const BEFORE: usize = 10_000;
/// Quotes with different QE bindings, more than a handle remembers.
const BINDINGS: usize = 2_500;
/// Growth of the resident size that is no growth: the allocator keeps pages in hand.
const RESIDENT_KIB_MAX: u64 = 512;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let tdx = Tdx::load()?;
    let snp = Snp::make()?;
    println!("memory, as Rust allocates it");
    for (name, case) in [("TDX", &tdx.case), ("SNP", &snp.case)] {
        let mut handle = None;
        let made = peak(|| handle = Some(case.handle()));
        let Some(mut handle) = handle else { return Err("no handle".into()) };
        let mut verdict = Ok(());
        let first = peak(|| verdict = case.appraise(&mut handle));
        verdict?;
        let mut verdict = Ok(());
        let known = peak(|| verdict = case.appraise(&mut handle));
        verdict?;
        println!(
            "{name}: handle {} KiB at most and {} KiB kept; appraisal {} KiB at most, {} KiB where the platform is known",
            kib(made.most),
            kib(made.kept),
            kib(first.most),
            kib(known.most)
        );
    }
    let peer = peak(|| {
        let _verdict = casemate_peers::intel::verify(&tdx.quote, &tdx.set.peer, tdx.now);
    });
    println!("dcap-qvl: {} KiB at most", kib(peer.most));
    growth("one platform again and again", std::slice::from_ref(&tdx.case))?;
    let cases = distinct()?;
    growth(&format!("{BINDINGS} QE bindings in turn"), &cases)
}

/// Bytes allocated at most while something runs, and afterwards, both beyond what was before.
struct Peak {
    most: usize,
    kept: usize,
}

fn peak(run: impl FnOnce()) -> Peak {
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    run();
    Peak {
        most: ALLOCATED.peak_usage().saturating_sub(before),
        kept: ALLOCATED.current_usage().saturating_sub(before),
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

/// Quotes of the development PKI, which differ in their QE's authentication data and so in their binding.
fn distinct() -> Outcome<Vec<Case>> {
    let pki = DevPki::generate(Tee::Tdx, inputs::NOW)?;
    let case = inputs::development(&pki)?;
    let pki = pki.tdx()?;
    let quotes = (0..BINDINGS).map(|number| {
        pki.quote_with(&TdBody::new(), |parts| {
            parts.qe_auth_data = [number.to_le_bytes().as_slice(), &[0; 24]].concat();
            bind(parts);
        })
    });
    quotes.map(|quote| Ok(case.with_quote(quote?))).collect()
}

fn growth(name: &str, cases: &[Case]) -> Outcome<()> {
    let mut handle = cases.first().ok_or("no case")?.handle();
    let mut turn = cases.iter().cycle();
    let mut verify = |count: usize| -> Outcome<()> {
        for case in turn.by_ref().take(count) {
            case.appraise(&mut handle)?;
        }
        Ok(())
    };
    // A whole number of turns, so that the handle remembers the same at both looks.
    let whole = |count: usize| count.div_ceil(cases.len()) * cases.len();
    verify(whole(BEFORE))?;
    let (before, resident_before) = (ALLOCATED.current_usage(), resident_kib()?);
    verify(whole(VERIFICATIONS))?;
    let (after, resident_after) = (ALLOCATED.current_usage(), resident_kib()?);
    let grown = resident_after.saturating_sub(resident_before);
    let met = if after <= before && grown <= RESIDENT_KIB_MAX { "met" } else { "MISSED" };
    println!(
        "{} verifications, {name}: allocated {before} -> {after} bytes, resident {resident_before} -> {resident_after} KiB; no growth: {met}",
        whole(VERIFICATIONS)
    );
    Ok(())
}

/// Resident size of this process.
fn resident_kib() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
