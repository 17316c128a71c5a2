//! `verify`: evidence verified by ours and by its peers, in one interleaved run on one thread, with the same inputs.
//!
//! What a verification costs is nearly all signature checks, so each line also says how many it makes, and what they
//! alone would cost with the fastest library measured in the same run: its floor. Thread processor time throughout.

mod floor;
mod inputs;
mod scaling;

use std::hint::black_box;
use std::time::Duration;

use casemate_peers::{amd, intel};
use casemate_verifier::VerifiedCollateral;

use crate::machine::{self, Watch};
use crate::measure::{Candidate, interleave, thread_time};
use floor::Signatures;
use inputs::{Case, CrlAlone, Snp, Tdx};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Batches of each candidate.
const ROUNDS: usize = 200;

const DCAP_QVL: &str = "dcap-qvl";
const SEV_CHAIN: &str = "sev, chain and report";
const SEV_AMD: &str = "sev, AMD's own chain and report";
const SEV_REPORT: &str = "sev, report alone";

/// One of our cases: signature checks, and what it is measured against.
struct Line {
    name: &'static str,
    /// P-256, P-384, RSA-4096.
    checks: [u32; 3],
    peer: &'static str,
    /// How many times as fast as the peer it is to be.
    peer_target: f64,
    /// Checks of the floor that it is to stay near, and how near.
    floor_target: Option<([u32; 3], f64)>,
}

const LINES: [Line; 7] = [
    Line {
        name: "TDX, everything parsed and verified",
        // That the root signed the certificates of its two CAs is known: they are the same bytes since years.
        checks: [7, 0, 0],
        peer: DCAP_QVL,
        peer_target: 1.2,
        floor_target: Some(([9, 0, 0], 1.15)),
    },
    Line {
        name: "TDX, collateral verified before",
        checks: [3, 0, 0],
        peer: DCAP_QVL,
        peer_target: 3.5,
        floor_target: None,
    },
    Line {
        name: "TDX, platform and QE binding known",
        checks: [1, 0, 0],
        peer: DCAP_QVL,
        peer_target: 9.0,
        floor_target: None,
    },
    Line {
        name: "SNP, everything parsed and verified",
        checks: [0, 1, 4],
        peer: SEV_CHAIN,
        peer_target: 3.0,
        floor_target: None,
    },
    Line {
        name: "SNP, AMD's own chain, but for its CRL",
        // ARK and ASK are certificates of AMD's that are known.
        checks: [0, 1, 1],
        peer: SEV_AMD,
        peer_target: 3.0,
        floor_target: None,
    },
    Line {
        name: "SNP, AMD's own chain, and a CRL",
        // The CRL is one of the development root, checked beside it: a stand-in for AMD's.
        checks: [0, 1, 2],
        peer: SEV_AMD,
        peer_target: 3.0,
        floor_target: None,
    },
    Line {
        name: "SNP, VCEK known",
        checks: [0, 1, 0],
        peer: SEV_REPORT,
        peer_target: 3.0,
        floor_target: Some(([0, 1, 0], 1.1)),
    },
];

/// Runs everything.
pub(crate) fn run() -> Outcome<()> {
    println!("{}", machine::describe());
    let tdx = Tdx::load()?;
    let snp = Snp::make()?;
    let signatures = Signatures::make()?;
    let vek = amd::Vek::read(&snp.vek)?;
    let input = sev_input(&snp);
    let amd_own = Snp::of_amd()?;
    let amd_input = sev_input(&amd_own);
    check_amd(&amd_own)?;
    let crl = CrlAlone::of(&snp)?;
    let mut candidates = signatures.candidates();
    check(&tdx, &snp, &vek)?;
    let [cold, handle, known, snp_cold, snp_amd, snp_amd_crl, snp_known] = &LINES;
    candidates.push(Candidate::new(DCAP_QVL, || {
        let _verdict = black_box(intel::verify(&tdx.quote, &tdx.set.peer, tdx.now));
    }));
    candidates.push(Candidate::new(cold.name, || once(&tdx.case)));
    candidates.push(Candidate::prepared(handle.name, |count| with_fresh_handles(&tdx.case, count)));
    candidates.push(with_one_handle(known.name, &tdx.case)?);
    candidates.push(Candidate::new(SEV_CHAIN, || {
        let _verdict = black_box(amd::verify(&input));
    }));
    candidates.push(Candidate::new(SEV_REPORT, || {
        let _verdict = black_box(vek.verify(&snp.report));
    }));
    candidates.push(Candidate::new(snp_cold.name, || once(&snp.case)));
    candidates.push(Candidate::new(SEV_AMD, || {
        let _verdict = black_box(amd::verify(&amd_input));
    }));
    candidates.push(Candidate::new(snp_amd.name, || once(&amd_own.case)));
    candidates.push(Candidate::new(snp_amd_crl.name, || {
        once(&amd_own.case);
        crl.verify();
    }));
    candidates.push(with_one_handle(snp_known.name, &snp.case)?);
    let watch = Watch::begin();
    interleave(&mut candidates, ROUNDS);
    let disturbed = watch.tell();
    print_all(&candidates);
    println!("{disturbed}");
    scaling::run(&tdx.case)
}

/// One case again and again, for a profiler.
pub(crate) fn repeat(case: &str, count: &str) -> Outcome<()> {
    let count: u32 = count.parse()?;
    let (snp, tdx) = (case.starts_with("snp"), case.starts_with("tdx"));
    let case_of = if snp {
        Snp::make()?.case
    } else if tdx {
        Tdx::load()?.case
    } else {
        return Err("tdx-… or snp-…".into());
    };
    let fresh = case_of.handle();
    let mut handle = fresh.clone();
    case_of.appraise(&mut handle)?;
    match case.split_once('-').map(|(_, what)| what) {
        Some("cold") => (0..count).for_each(|_| once(&case_of)),
        Some("known") => (0..count).for_each(|_| drop(black_box(case_of.appraise(&mut handle)))),
        Some("handle") => (0..count).for_each(|_| drop(black_box(case_of.appraise(&mut fresh.clone())))),
        _ => return Err("…-cold, …-handle or …-known".into()),
    }
    Ok(())
}

/// That everyone accepts what is measured: a refusal would be fast.
fn check(tdx: &Tdx, snp: &Snp, vek: &amd::Vek) -> Outcome<()> {
    let (status, _) = intel::verify(&tdx.quote, &tdx.set.peer, tdx.now)?;
    if status != "UpToDate" {
        return Err(format!("dcap-qvl says {status}").into());
    }
    amd::verify(&sev_input(snp))?;
    vek.verify(&snp.report)?;
    tdx.case.appraise(&mut tdx.case.handle())?;
    Ok(snp.case.appraise(&mut snp.case.handle())?)
}

/// That nothing but the CRL is missed: what is measured goes to its end.
fn check_amd(snp: &Snp) -> Outcome<()> {
    amd::verify(&sev_input(snp))?;
    match snp.case.failed().as_slice() {
        [only] if only == "platform.crl" => Ok(()),
        other => Err(format!("the report of AMD's chain fails {other:?}").into()),
    }
}

fn sev_input(snp: &Snp) -> amd::Input<'_> {
    amd::Input { ark: &snp.collateral.ark, ask: &snp.collateral.ask, vek: &snp.vek, report: &snp.report }
}

/// Endorsements and evidence, from bytes.
fn once(case: &Case) {
    let mut handle = case.handle();
    let _verdict = black_box(case.appraise(&mut handle));
}

/// Each appraisal with a handle that has seen no platform yet. Making the handles is not counted; there are few at a
/// time, so that an appraisal finds its handle in the processor's caches, as one of many with the same handle would.
fn with_fresh_handles(case: &Case, count: u32) -> Duration {
    const AT_A_TIME: u32 = 8;
    let mut time = Duration::ZERO;
    for start in (0..count).step_by(AT_A_TIME as usize) {
        let now = AT_A_TIME.min(count.saturating_sub(start));
        let mut handles: Vec<VerifiedCollateral> = (0..now).map(|_| case.handle()).collect();
        let began = thread_time();
        for handle in &mut handles {
            let _verdict = black_box(case.appraise(handle));
        }
        time += thread_time().saturating_sub(began);
    }
    time
}

/// Every appraisal with one handle, which has seen this platform.
fn with_one_handle<'a>(name: &'static str, case: &'a Case) -> Outcome<Candidate<'a>> {
    let mut handle = case.handle();
    case.appraise(&mut handle)?;
    Ok(Candidate::new(name, move || {
        let _verdict = black_box(case.appraise(&mut handle));
    }))
}

fn print_all(candidates: &[Candidate<'_>]) {
    let median = |name: &str| {
        candidates.iter().find(|candidate| candidate.name == name).map_or(f64::NAN, |found| found.us(0.5))
    };
    println!("\nthread processor time of one, in us: median of {ROUNDS} interleaved batches");
    println!("{:<40} {:>9} {:>9} {:>9}", "", "min", "median", "p90");
    for candidate in candidates {
        let [min, middle, p90] = [0.0, 0.5, 0.9].map(|q| candidate.us(q));
        println!("{:<40} {min:>9.1} {middle:>9.1} {p90:>9.1}", candidate.name);
    }
    let unit = [floor::P256, floor::P384, floor::RSA].map(|[aws, ring]| median(aws).min(median(ring)));
    let floor =
        |checks: [u32; 3]| checks.iter().zip(unit).map(|(count, us)| f64::from(*count) * us).sum::<f64>();
    println!("\n{:<40} {:>8} {:>18} {:>8} {:>8} {:>8}", "", "us", "checks", "floor", "/ floor", "peer /");
    for line in &LINES {
        let us = median(line.name);
        let of_floor = floor(line.checks);
        let ratio = median(line.peer) / us;
        println!(
            "{:<40} {us:>8.1} {:>18} {of_floor:>8.1} {:>8.2} {ratio:>8.2}",
            line.name,
            checks(line.checks),
            us / of_floor
        );
    }
    println!("\ntargets");
    for line in &LINES {
        let us = median(line.name);
        let ratio = median(line.peer) / us;
        let met = verdict(ratio >= line.peer_target);
        println!("{:<40} {ratio:.2}x {}, at least {}x: {met}", line.name, line.peer, line.peer_target);
        if let Some((count, most)) = line.floor_target {
            let of = us / floor(count);
            let met = verdict(of <= most);
            println!("{:<40} {of:.2}x the floor of {}, at most {most}x: {met}", "", checks(count));
        }
    }
    println!("sev was built with {}", amd::BACKEND);
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn checks(count: [u32; 3]) -> String {
    let named = count.into_iter().zip(["P-256", "P-384", "RSA"]).filter(|(count, _)| *count > 0);
    named.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(" + ")
}
