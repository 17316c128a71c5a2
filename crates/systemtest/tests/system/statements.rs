//! Raw statements by the command line: told apart, appraised, learned from, results signed. Those of real hardware need
//! the vectors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::offline::without_sockets;
use crate::project::{COMMAND_BOUND, Output, Project, agent, casemate, run_bounded};

/// The folder of vectors, by its whole path: commands run in folders of their own.
fn vectors(test: &str) -> Option<PathBuf> {
    casemate_testkit::vectors::folder(test).map(|folder| folder.canonicalize().unwrap())
}

/// A real quote of a production trust domain, its collateral, and a time in its window.
const QUOTE: &str = "go-tdx-guest/testing/testdata/ccel/cos-113-tdx-quote.dat";
const LOG: &str = "go-tdx-guest/testing/testdata/ccel/ccel_data.dat";
const COLLATERAL: &str = "_assembled/S5-automata-00806f-2025-10.json";
const NOW: &str = "2025-10-25T00:00:00Z";
/// Azure's quote of the same platform family: out of date, SEPT_VE_DISABLE clear.
const AZURE: &str = "trustee/deps/verifier/test_data/az-tdx-vtpm/td-quote.bin";
/// Byte of a version 4 quote where report data begins.
const REPORT_DATA_AT: usize = 48 + 520;

/// A folder with the bundle and the quotes.
struct Desk {
    project: Project,
    report_data: String,
    azure_report_data: String,
}

impl Desk {
    fn new(vectors: &Path) -> Self {
        let project = Project::empty("desk");
        let copy = |from: &str, to: &str| {
            fs::copy(vectors.join(from), project.file(to)).unwrap();
            fs::read(vectors.join(from)).unwrap()
        };
        let report_data_of = |quote: Vec<u8>| hex(&quote[REPORT_DATA_AT..][..64]);
        let report_data = report_data_of(copy(QUOTE, "quote.bin"));
        let azure_report_data = report_data_of(copy(AZURE, "azure.bin"));
        copy(LOG, "ccel.bin");
        let desk = Self { project, report_data, azure_report_data };
        let collateral = vectors.join(COLLATERAL);
        let collateral = ["--collateral", collateral.to_str().unwrap(), "--now", NOW];
        desk.run(&[&["bundle", "create", "-o", "bundle.json"], &collateral[..]].concat()).assert_ok();
        desk
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = casemate(args);
        self.project.place(&mut command);
        run_bounded(&mut command, self.project.dir.path(), COMMAND_BOUND, None)
    }

    /// Writes a policy from a quote.
    fn learn(&self, quote: &str, policy: &str) -> Output {
        let args = ["policy", "write", "--from-evidence", quote, "--bundle", "bundle.json", "--now", NOW];
        self.run(&[&args[..], &["-o", policy]].concat())
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let verify =
            ["verify", "quote.bin", "--policy", "policy.toml", "--bundle", "bundle.json", "--now", NOW];
        [&verify[..], &["--report-data", &self.report_data], more].concat()
    }

    fn verify(&self, more: &[&str]) -> Output {
        self.run(&self.arguments(more))
    }
}

#[test]
fn a_newcomer_with_a_quote_gets_to_a_verdict_and_is_told_what_it_is_worth() {
    let Some(vectors) = vectors("a_newcomer_with_a_quote_gets_to_a_verdict_and_is_told_what_it_is_worth")
    else {
        return;
    };
    let desk = Desk::new(&vectors);
    let learned = desk.learn("quote.bin", "policy.toml");
    learned.assert_ok();
    assert!(learned.stderr.contains("TRUST ON FIRST USE"), "{}", learned.stderr);
    let good = desk.verify(&[]);
    good.assert_ok();
    let first = good.stdout.lines().next().unwrap();
    assert!(
        first.starts_with("quote.bin: TDX quote, version 4, 8000 bytes, ")
            && first.ends_with("bytes of zero padding"),
        "{first}"
    );
    assert!(good.stdout.contains("not covered: any composition"), "{}", good.stdout);
    assert!(good.stdout.ends_with("verdict: affirming\n"), "{}", good.stdout);
    assert!(!good.stdout.contains('\u{1b}'), "colour outside of a terminal");

    // A policy that is there is kept; one learned from another machine refuses this one.
    desk.learn("quote.bin", "policy.toml").assert_fails(2, "there is a policy already", "--force");
    let azure = desk.learn("azure.bin", "azure.toml");
    azure.assert_ok();
    for weakness in ["tdx.tcb-status: OutOfDate", "tdx.advisories: INTEL-SA-", "tdx.sept-ve-disable: "] {
        assert!(azure.stderr.contains(&format!("accepted besides: {weakness}")), "{}", azure.stderr);
    }
    let args = ["verify", "azure.bin", "--policy", "azure.toml", "--bundle", "bundle.json", "--now", NOW];
    let weak = desk.run(&[&args[..], &["--report-data", &desk.azure_report_data]].concat());
    weak.assert_ok();
    assert!(weak.stdout.contains("RTMR1 and RTMR2 are zero"), "{}", weak.stdout);
    assert!(weak.stdout.ends_with("verdict: warning\n"), "{}", weak.stdout);
    desk.run(&[&args[..1], &["quote.bin"], &args[2..], &["--report-data", &desk.report_data]].concat())
        .assert_refused("tdx.mrtd");
}

#[test]
fn what_is_missing_wrong_or_unknown_is_exit_code_2_and_a_refusal_is_1() {
    let Some(vectors) = vectors("what_is_missing_wrong_or_unknown_is_exit_code_2_and_a_refusal_is_1") else {
        return;
    };
    let desk = Desk::new(&vectors);
    desk.learn("quote.bin", "policy.toml").assert_ok();
    let given = ["--policy", "policy.toml", "--bundle", "bundle.json", "--now", NOW];
    let verify = |words: &[&str]| desk.run(&[&["verify"], words, &given].concat());
    verify(&["quote.bin"]).assert_fails(2, "no expected report data is given", "--report-data HEX");
    verify(&["quote.bin", "--report-data", &"00".repeat(32)]).assert_fails(
        2,
        "32 bytes, not 64",
        "append 64 zeros",
    );
    verify(&["quote.bin", "--nonce", "nonce-one"]).assert_fails(
        2,
        "--nonce is given",
        "--report-data for a raw quote",
    );
    fs::write(desk.project.file("strange.bin"), [7; 100]).unwrap();
    verify(&["strange.bin"]).assert_fails(
        2,
        "no statement that is known here: 100 bytes",
        "it looked for evidence",
    );
    desk.verify(&["--max-age", "31d"]).assert_fails(
        2,
        "31 days are more than the 30 of the policy",
        "--max-age 30d",
    );
    desk.verify(&["--max-age", "30"]).assert_fails(2, "invalid value", "--help");
    desk.verify(&["--certificate", "ccel.bin"]).assert_fails(2, "nothing here needs such a file", "SEV-SNP");
    desk.verify(&["--boot-log", "quote.bin"]).assert_fails(2, "not an event log", "CCEL");
    desk.verify(&["--max-age", "30d"]).assert_ok();
    desk.verify(&["--max-age", "1d"]).assert_refused("collateral.age");
    let wrong = "11".repeat(64);
    verify(&["quote.bin", "--report-data", &wrong]).assert_refused("platform.report-data");

    // A byte after a quote that is not zero.
    let mut quote = fs::read(desk.project.file("quote.bin")).unwrap();
    *quote.last_mut().unwrap() = 1;
    fs::write(desk.project.file("trailing.bin"), &quote).unwrap();
    verify(&["trailing.bin", "--report-data", &desk.report_data]).assert_refused("tdx.quote");
}

#[test]
fn of_several_files_each_is_appraised_and_the_highest_exit_code_counts() {
    let Some(vectors) = vectors("of_several_files_each_is_appraised_and_the_highest_exit_code_counts") else {
        return;
    };
    let desk = Desk::new(&vectors);
    desk.learn("quote.bin", "policy.toml").assert_ok();
    fs::write(desk.project.file("strange.bin"), [7; 100]).unwrap();
    let both = desk.verify(&["quote.bin"]);
    both.assert_ok();
    assert_eq!(both.stdout.matches("verdict: affirming").count(), 2, "{}", both.stdout);
    let refused = desk.verify(&["azure.bin"]);
    assert_eq!(refused.status.code(), Some(1), "{}{}", refused.stdout, refused.stderr);
    assert_eq!(refused.stdout.matches("\nverdict: ").count(), 2, "{}", refused.stdout);
    let unusable = desk.verify(&["azure.bin", "strange.bin"]);
    assert_eq!(unusable.status.code(), Some(2), "{}{}", unusable.stdout, unusable.stderr);
    assert!(unusable.stderr.contains("azure.bin is refused") && unusable.stderr.contains("strange.bin: "));
    let lines = desk.run(&[&["--json"], &desk.arguments(&["azure.bin", "strange.bin"])[..]].concat());
    assert_eq!(lines.status.code(), Some(2), "{}", lines.stderr);
    let lines: Vec<Value> = lines.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdicts: Vec<&Value> = lines.iter().map(|line| &line["verdict"]).collect();
    assert_eq!(verdicts, [&json!("affirming"), &json!("contraindicated"), &Value::Null]);
    assert_eq!(lines[0]["layers"][1]["layer"], "firmware");
}

#[test]
fn a_boot_log_beside_a_quote_is_labelled_event_by_event() {
    let Some(vectors) = vectors("a_boot_log_beside_a_quote_is_labelled_event_by_event") else { return };
    let desk = Desk::new(&vectors);
    desk.learn("quote.bin", "policy.toml").assert_ok();
    let shown = desk.verify(&["--boot-log", "ccel.bin"]);
    shown.assert_ok();
    assert!(shown.stdout.contains("boot events"), "{}", shown.stdout);
    let json = desk.run(&[&["--json"], &desk.arguments(&["--boot-log", "ccel.bin"])[..]].concat());
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let events = json["boot-log"].as_array().unwrap();
    assert_eq!(events.len(), 43);
    assert!(events.iter().any(|event| event["label"] == "digest-bound"), "{json}");
}

#[test]
fn a_raw_quote_is_verified_without_network_and_sockets() {
    let Some(vectors) = vectors("a_raw_quote_is_verified_without_network_and_sockets") else { return };
    let desk = Desk::new(&vectors);
    desk.learn("quote.bin", "policy.toml").assert_ok();
    let program = crate::project::dist().join("casemate");
    without_sockets(&desk.project, program.to_str().unwrap(), &desk.arguments(&[])).assert_ok();
}

#[test]
fn a_signed_result_is_checked_by_a_second_party() {
    let Some(vectors) = vectors("a_signed_result_is_checked_by_a_second_party") else { return };
    let desk = Desk::new(&vectors);
    desk.learn("quote.bin", "policy.toml").assert_ok();
    let keygen = desk.run(&["ear", "keygen", "-o", "key.pem"]);
    keygen.assert_ok();
    fs::write(desk.project.file("key.jwk"), &keygen.stdout).unwrap();
    let with_key = ["--ear-key", "key.pem", "--ear"];
    desk.verify(&[&with_key[..], &["good.jwt"]].concat()).assert_ok();
    let token = desk.verify(&[&with_key[..], &["-"]].concat());
    token.assert_ok();
    assert_eq!((token.stdout.lines().count(), token.stdout.matches('.').count()), (1, 2), "{}", token.stdout);
    let bound = ["--policy", "policy.toml", "--report-data", &desk.report_data];
    let check = ["ear", "verify", "good.jwt", "--key", "key.jwk", "--now", NOW];
    desk.run(&check).assert_fails(2, "--policy", "");
    desk.run(&[&check[..], &bound[..2]].concat()).assert_fails(2, "must answer", "--report-data");
    let other = "22".repeat(64);
    desk.run(&[&check[..], &bound[..3], &[&other]].concat()).assert_refused("ear.nonce");
    let none = format!("sha384:{}", "0".repeat(96));
    desk.run(&[&check[..], &bound[2..], &["--policy-id", &none]].concat()).assert_refused("ear.policy");
    let checked = desk.run(&[&check[..], &bound].concat());
    checked.assert_ok();
    assert!(checked.stdout.ends_with("verdict: affirming\n"), "{}", checked.stdout);
    desk.run(&[&check[..6], &["2025-10-25T00:05:00Z"], &bound].concat()).assert_refused("ear.time");

    // A refusal has a token too, which says so and repeats no claim of the quote.
    let wrong = "11".repeat(64);
    let words = ["verify", "quote.bin", "--policy", "policy.toml", "--bundle", "bundle.json", "--now", NOW];
    let words = [&words[..], &["--report-data", &wrong], &with_key[..], &["bad.jwt"]].concat();
    desk.run(&words).assert_refused("platform.report-data");
    let words = ["--json", "ear", "verify", "bad.jwt", "--key", "key.jwk", "--now", NOW];
    let bad = desk.run(&[&words[..], &bound[..3], &[&wrong]].concat());
    assert_eq!(bad.status.code(), Some(1), "{}{}", bad.stdout, bad.stderr);
    let bad: Value = serde_json::from_str(&bad.stdout).unwrap();
    assert_eq!(bad["ear_status"], "contraindicated");
    let platform = &bad["submods"]["platform"];
    assert_eq!(platform["ear_trustworthiness_vector"], json!({"instance-identity": 97}));
    assert!(platform.get("ear_attester_claims").is_none());

    // The key is its owner's alone, and belongs to one file.
    desk.verify(&[&["azure.bin"], &with_key[..], &["x.jwt"]].concat()).assert_fails(
        2,
        "--ear is for one FILE",
        "",
    );
    desk.verify(&["--ear", "x.jwt"]).assert_fails(2, "--ear-key", "");
    let mut chmod = Command::new("chmod");
    chmod.arg("644").arg(desk.project.file("key.pem"));
    run_bounded(&mut chmod, desk.project.dir.path(), COMMAND_BOUND, None).assert_ok();
    desk.verify(&[&with_key[..], &["x.jwt"]].concat()).assert_fails(2, "others than its owner", "chmod 600");
}

/// Where fields of a TD report 1.0 begin in a version 4 quote (Intel TDX DCAP quoting library API, "TD Quote Body").
const MRCONFIGID_AT: usize = 48 + 184;
const RTMR3_AT: usize = 48 + 472;
/// Where report data begins in an SNP report (AMD 56860, table "ATTESTATION_REPORT Structure").
const SNP_REPORT_DATA_AT: usize = 0x50;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The emulator's statement out of evidence, raw, and a policy for platforms alone.
fn raw_statement(tee: &str) -> (Project, String) {
    let project = Project::new(&format!("raw-{tee}"), &agent("one", &["wait"], ""), &[]);
    project.write_policy(&["--platform", tee]);
    project.up_with(&["--platform", tee]);
    project.attest("one", "nonce-one", "e.json").assert_ok();
    project.down();
    let evidence: Value = serde_json::from_slice(&fs::read(project.file("e.json")).unwrap()).unwrap();
    let part = |label: &str| URL_SAFE_NO_PAD.decode(evidence[label][1].as_str().unwrap()).unwrap();
    let policy = fs::read_to_string(project.file("policy.toml")).unwrap();
    let mut policy = policy.split("[composition]").next().unwrap().to_owned();
    let (statement, report_data_at) = if tee == "tdx" {
        let quote = part("tdx-quote");
        for (key, at) in [("mrconfigid", MRCONFIGID_AT), ("rtmr3", RTMR3_AT)] {
            policy.push_str(&format!("{key} = [\"{}\"]\n", hex(&quote[at..][..48])));
        }
        (quote, REPORT_DATA_AT)
    } else {
        ([part("snp-report"), part("snp-certificates")].concat(), SNP_REPORT_DATA_AT)
    };
    fs::write(project.file("platform.toml"), policy).unwrap();
    fs::write(project.file("raw.bin"), &statement).unwrap();
    fs::write(project.file("raw.hex"), hex(&statement)).unwrap();
    fs::write(project.file("raw.b64"), URL_SAFE_NO_PAD.encode(&statement)).unwrap();
    let report_data = hex(&statement[report_data_at..][..64]);
    (project, report_data)
}

#[test]
fn a_raw_statement_of_the_emulator_is_appraised_in_every_spelling() {
    for tee in ["tdx", "snp"] {
        let (project, report_data) = raw_statement(tee);
        let bundle = project.project_dir().join("emulator/bundle.json");
        let given = ["--policy", "platform.toml", "--bundle", bundle.to_str().unwrap()];
        let files = ["verify", "raw.bin", "raw.hex", "raw.b64"];
        let all = project.run(&[&files[..], &given, &["--report-data", &report_data]].concat());
        all.assert_ok();
        assert_eq!(all.stdout.matches("verdict: warning (SIMULATED").count(), 3, "{}", all.stdout);
        assert!(
            all.stdout.contains("in hexadecimal digits") && all.stdout.contains("in base64"),
            "{}",
            all.stdout
        );
        assert!(all.stdout.contains("not covered: any hardware: whoever has"), "{}", all.stdout);
        let one = |more: &[&str]| project.run(&[&["verify", "raw.bin"], &given[..], more].concat());
        one(&[]).assert_fails(2, "no expected report data is given", "--report-data HEX");
        one(&["--report-data", &"00".repeat(64)]).assert_refused("platform.report-data");
        one(&["--report-data", &report_data, "--roots", "production"]).assert_refused("platform.roots");
        // What is learned on first use leads to the vendor's roots, and to no other.
        let learn = ["policy", "write", "--from-evidence", "raw.bin", "-o", "learned.toml", "--bundle"];
        project.run(&[&learn[..], &[bundle.to_str().unwrap()]].concat()).assert_refused("platform.roots");
        assert!(!project.file("learned.toml").exists());
    }
}
