//! Every verdict of every check, on trees of files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod cases;
mod host;
mod page;
mod sharing;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use casemate_posture::doctor::{self, Check, Facts, Finding, Verdict};
use casemate_posture::{AgentFacts, Tree};
use casemate_protocol::agent_token::{Control, ControlStatus};

use tempfile::TempDir;

use crate::cases::{CASES, REPORTS, SWITCHES};
use crate::tree::{Entry, Files, Kind, agents, good, set_mode, snp_report, tdx_quote, write};

const LANDLOCK: Option<u32> = Some(9);

fn report_of(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Tdx => tdx_quote(&[]),
        Kind::Snp => snp_report(&[]),
    }
}

fn look(
    files: &Files,
    agents: Option<&[AgentFacts]>,
    report: Option<&[u8]>,
    landlock: Option<u32>,
) -> Vec<Finding> {
    Machine::new(files.clone()).look(files, agents, report, landlock)
}

/// A tree that is changed and put back.
struct Machine {
    folder: TempDir,
    files: Files,
}

impl Machine {
    fn new(files: Files) -> Self {
        Self { folder: write(&files), files }
    }

    fn look(
        &self,
        files: &Files,
        agents: Option<&[AgentFacts]>,
        report: Option<&[u8]>,
        landlock: Option<u32>,
    ) -> Vec<Finding> {
        tree::change(&self.folder, &self.files, files);
        let tree = Tree::open(self.folder.path()).unwrap();
        let findings = doctor::run(&Facts::new(&tree, agents, report, landlock));
        tree::change(&self.folder, files, &self.files);
        findings
    }
}

/// The finding that a change is about: of the first agent or pair.
fn first<'a>(findings: &'a [Finding], id: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.id == id).unwrap_or_else(|| panic!("no check {id}"))
}

fn change(files: &mut Files, path: &str, text: &str) {
    files.retain(|at, _| at != path && !at.starts_with(&format!("{path}/")));
    if !text.is_empty() {
        files.insert(path.to_owned(), Entry::Text(text.to_owned()));
    }
}

/// What each check was seen to say, over all cases here.
#[derive(Default)]
struct Said(BTreeMap<String, BTreeSet<Verdict>>);

impl Said {
    fn add(&mut self, findings: &[Finding]) {
        for finding in findings {
            self.0.entry(finding.id.to_string()).or_default().insert(finding.verdict);
        }
    }
}

#[test]
fn every_verdict_of_every_check_is_seen_and_no_other() {
    let mut said = Said::default();
    let (tdx, snp) = (Machine::new(good(Kind::Tdx)), Machine::new(good(Kind::Snp)));
    let of = |kind| if kind == Kind::Tdx { &tdx } else { &snp };
    for kind in [Kind::Tdx, Kind::Snp] {
        let findings = look(&good(kind), Some(&agents()), Some(&report_of(kind)), LANDLOCK);
        for finding in &findings {
            let fine = matches!(finding.verdict, Verdict::Pass | Verdict::NotApplicable);
            assert!(fine, "{kind:?} {}: {:?} {}", finding.id, finding.verdict, finding.observed);
        }
        said.add(&findings);
    }
    for (id, kind, changes, verdict) in CASES {
        let mut files = good(*kind);
        for (path, text) in *changes {
            change(&mut files, path, text);
        }
        let findings = of(*kind).look(&files, Some(&agents()), Some(&report_of(*kind)), LANDLOCK);
        let finding = first(&findings, id);
        assert_eq!(finding.verdict, *verdict, "{id} {changes:?}: {}", finding.observed);
        said.add(&findings);
    }
    for (id, path, value, verdict) in SWITCHES {
        let mut files = good(Kind::Tdx);
        change(&mut files, &format!("/proc/sys/{path}"), &format!("{value}\n"));
        let findings = tdx.look(&files, Some(&agents()), None, LANDLOCK);
        assert_eq!(
            (first(&findings, id).verdict, first(&findings, id).observed.as_str()),
            (*verdict, *value)
        );
        said.add(&findings);
    }
    for (id, kind, changes, verdict) in REPORTS {
        let report = if *kind == Kind::Tdx { tdx_quote(changes) } else { snp_report(changes) };
        let findings = of(*kind).look(&of(*kind).files, Some(&agents()), Some(&report), LANDLOCK);
        let finding = first(&findings, id);
        assert_eq!(finding.verdict, *verdict, "{id} {changes:?}: {}", finding.observed);
        said.add(&findings);
    }
    vulnerabilities(&mut said, &tdx);
    others(&mut said);
    for Check { id, verdicts, .. } in doctor::checks() {
        let expected: BTreeSet<Verdict> = verdicts.iter().copied().chain([Verdict::Unknown]).collect();
        assert_eq!(said.0.get(id), Some(&expected), "{id}");
    }
}

/// Each file of the kernel's list, with each thing that it can say.
fn vulnerabilities(said: &mut Said, machine: &Machine) {
    for Check { id, place, .. } in doctor::checks() {
        let Some(name) = id.strip_prefix("D13.").filter(|name| *name != "others" && *name != "ibpb") else {
            continue;
        };
        assert!(place.ends_with(name));
        for (text, verdict) in [
            ("Mitigation: x", Verdict::Pass),
            ("KVM: Mitigation: VMX disabled", Verdict::Pass),
            ("Mitigation: x; SMT Host state unknown", Verdict::Warn),
            ("Unknown: No mitigations", Verdict::Warn),
            ("Mitigation: x; SMT vulnerable", Verdict::Fail),
            ("Vulnerable: no microcode", Verdict::Fail),
            ("Not aff", Verdict::Unknown),
        ] {
            let mut files = good(Kind::Tdx);
            change(&mut files, place, &format!("{text}\n"));
            let findings = machine.look(&files, None, None, None);
            assert_eq!(first(&findings, id).verdict, verdict, "{id} {text}");
            said.add(&findings);
        }
    }
}

/// What no text of a file changes: agents, modes, links, and nothing at all.
fn others(said: &mut Said) {
    let report = report_of(Kind::Tdx);
    let mut see = |files: &Files, agents: Option<&[AgentFacts]>, landlock, id: &str, verdict: Verdict| {
        let findings = look(files, agents, Some(&report), landlock);
        assert_eq!(first(&findings, id).verdict, verdict, "{id}: {}", first(&findings, id).observed);
        said.add(&findings);
    };
    let files = good(Kind::Tdx);
    see(&files, Some(&[]), LANDLOCK, "D15.seccomp", Verdict::NotApplicable);
    see(&files, Some(&agents()[..1]), LANDLOCK, "D15.namespaces", Verdict::NotApplicable);
    see(&files, Some(&agents()), Some(7), "D24.landlock-version", Verdict::Warn);
    see(&files, Some(&agents()), Some(5), "D24.landlock-version", Verdict::Fail);
    let with = |change: fn(&mut AgentFacts)| {
        let mut agents = agents();
        agents.iter_mut().for_each(change);
        agents
    };
    let gone = with(|agent| agent.pids.clear());
    see(&files, Some(&gone), LANDLOCK, "D15.capabilities", Verdict::Unknown);
    let untold = with(|agent| agent.controls.clear());
    see(&files, Some(&untold), LANDLOCK, "D15.cookie", Verdict::Unknown);
    let plain = with(|agent| {
        agent.controls.insert(Control::CoreScheduling, ControlStatus::NotEnforced);
    });
    see(&files, Some(&plain), LANDLOCK, "D15.cookie", Verdict::NotApplicable);
    let mut smt = good(Kind::Tdx);
    change(&mut smt, "/sys/devices/system/cpu/smt/active", "1\n");
    see(&smt, Some(&plain), LANDLOCK, "D15.cookie", Verdict::Fail);
    let mut common = good(Kind::Tdx);
    common.insert("/proc/12/ns/net".into(), Entry::Link("net:[4026531838]".into()));
    see(&common, Some(&agents()), LANDLOCK, "D15.namespaces", Verdict::Fail);
    let mut mapped = good(Kind::Tdx);
    change(&mut mapped, "/proc/12/maps", "1-2 r-xp 0 00:28 7 /lib/libc.so.6\n");
    // A file that no agent has mounted is the box's own where it is the program of all that have it mapped; else it was
    // handed from one to the other.
    let mut own = good(Kind::Tdx);
    for pid in ["11", "12"] {
        change(&mut own, &format!("/proc/{pid}/maps"), "1-2 r-xp 0 fe:00 9 /launcher\n");
    }
    see(&own, Some(&agents()), LANDLOCK, "D17.files", Verdict::Fail);
    own.insert("/proc/11/exe".into(), Entry::Link("/launcher".into()));
    see(&own, Some(&agents()), LANDLOCK, "D17.files", Verdict::Fail);
    own.insert("/proc/12/exe".into(), Entry::Link("/launcher".into()));
    see(&own, Some(&agents()), LANDLOCK, "D17.files", Verdict::Pass);
    let one_trust = with(|agent| agent.trust = "t".into());
    see(&mapped, Some(&one_trust), LANDLOCK, "D17.files", Verdict::Warn);
    let sharing = with(|agent| (agent.trust, agent.share) = ("t".into(), Some("g".into())));
    see(&mapped, Some(&sharing), LANDLOCK, "D17.files", Verdict::NotApplicable);
    let mut bare = good(Kind::Tdx);
    bare.retain(|path, _| !path.starts_with("/dev/tpm") && !path.starts_with("/sys/kernel/config/tsm"));
    bare.insert("/sys/kernel/config/other".into(), Entry::Folder);
    see(&bare, None, None, "D03.tsm", Verdict::NotApplicable);
    see(&bare, None, None, "D03.tpm", Verdict::NotApplicable);
    see(&bare, None, None, "D01.provider", Verdict::Fail);
    said.add(&look(&Files::new(), Some(&agents()), None, None));
    said.add(&devices("tdx_guest", Kind::Tdx));
    said.add(&devices("sev-guest", Kind::Snp));
    said.add(&devices("tpmrm0", Kind::Tdx));
}

/// A device that others may open.
fn devices(name: &str, kind: Kind) -> Vec<Finding> {
    let folder = write(&good(kind));
    let tree = Tree::open(folder.path()).unwrap();
    let before = doctor::run(&Facts::new(&tree, None, None, None));
    set_mode(&folder.path().join("dev").join(name), 0o660);
    set_mode(&folder.path().join("sys/kernel/config/tsm"), 0o777);
    let after = doctor::run(&Facts::new(&tree, None, None, None));
    let id = match name {
        "tdx_guest" => "D03.tdx",
        "sev-guest" => "D03.sev",
        _ => "D03.tpm",
    };
    assert_eq!((first(&before, id).verdict, first(&after, id).verdict), (Verdict::Pass, Verdict::Fail));
    assert_eq!(first(&after, "D03.tsm").verdict, Verdict::Fail);
    before.into_iter().chain(after).collect()
}

#[test]
fn an_empty_tree_passes_nothing() {
    // What the warden says of an agent's controls is not read from the tree.
    let mut untold = agents();
    untold.iter_mut().for_each(|agent| agent.controls.clear());
    for agents in [None, Some(&untold[..])] {
        for finding in look(&Files::new(), agents, None, None) {
            assert_eq!(finding.verdict, Verdict::Unknown, "{}: {}", finding.id, finding.observed);
        }
    }
}

#[test]
fn what_is_taken_away_cut_or_garbage_passes_nothing() {
    // Words and names that can be anything: garbage that is text is one.
    const ANY_TEXT: [&str; 2] = ["/proc/cmdline", "/proc/sys/kernel/core_pattern"];
    let verdicts = |machine: &Machine, files: &Files, kind| -> BTreeMap<(String, Option<String>), Verdict> {
        let report = report_of(kind);
        let findings = machine.look(files, Some(&agents()), Some(&report), LANDLOCK);
        findings.into_iter().map(|f| ((f.id.into_owned(), f.about), f.verdict)).collect()
    };
    let tdx = good(Kind::Tdx);
    for kind in [Kind::Tdx, Kind::Snp] {
        let files = good(kind);
        let machine = Machine::new(files.clone());
        let whole = verdicts(&machine, &files, kind);
        for (path, entry) in &files {
            let Entry::Text(text) = entry else { continue };
            // What both trees have was looked at in the first.
            if kind == Kind::Snp && tdx.get(path) == Some(entry) {
                continue;
            }
            let mut without = files.clone();
            without.remove(path);
            // The checks that need this file: they pass with it and not without it.
            let without = verdicts(&machine, &without, kind);
            let needing = |key: &&(String, Option<String>)| {
                whole.get(key) == Some(&Verdict::Pass) && without.get(*key) != Some(&Verdict::Pass)
            };
            let needing: Vec<_> = whole.keys().filter(needing).collect();
            let cut = &text[..text.len() - 1];
            let half = &text[..text.len() / 2];
            for (what, bad) in [
                ("cut", cut.as_bytes()),
                ("half", half.as_bytes()),
                ("empty", &b""[..]),
                ("binary", &b"\xff\xfe\0\n"[..]),
                ("garbage", &b"garbage\n"[..]),
            ] {
                let is_whole = matches!(what, "cut" | "half") && bad.last() == Some(&b'\n');
                // The list of security modules ends without a line end.
                let loose = path.ends_with("/lsm") && what == "cut";
                if is_whole || loose || (what == "garbage" && ANY_TEXT.contains(&path.as_str())) {
                    continue;
                }
                let mut files = files.clone();
                files.insert(path.clone(), Entry::Bytes(bad.to_vec()));
                let after = verdicts(&machine, &files, kind);
                for key in &needing {
                    assert_ne!(after.get(*key), Some(&Verdict::Pass), "{path} {what}: {key:?}");
                }
            }
        }
    }
}

#[test]
fn a_report_that_is_cut_says_nothing() {
    for report in [snp_report(&[]), tdx_quote(&[])] {
        for length in [0, 1, 48, report.len() / 2, report.len() - 1] {
            for finding in look(&Files::new(), None, Some(&report[..length]), None) {
                assert_eq!(finding.verdict, Verdict::Unknown, "{} {length}", finding.id);
            }
        }
    }
}

#[test]
fn identifiers_are_unique_and_every_group_has_one() {
    let checks = doctor::checks();
    let ids: BTreeSet<&str> = checks.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), checks.len());
    let groups: BTreeSet<&str> = ids.iter().filter_map(|id| id.split('.').next()).collect();
    let wanted: BTreeSet<String> = (1..=27).map(|number| format!("D{number:02}")).collect();
    assert_eq!(groups.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), wanted);
    for check in checks {
        for text in [check.what, check.place, check.expected, check.attack, check.fix] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", check.id);
        }
    }
}

#[test]
fn findings_are_read_back_from_json() {
    let findings = look(&good(Kind::Tdx), Some(&agents()), None, None);
    let text = serde_json::to_string(&findings).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Finding>>(&text).unwrap(), findings);
}
