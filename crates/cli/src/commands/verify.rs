//! `casemate verify`: appraises evidence offline, and shows what is covered, by whom, and what is not.

mod coverage;
mod ear;
mod gather;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;

use casemate_protocol::Refusal;
use casemate_protocol::cmw::Platform;
use casemate_protocol::ear::Ear;
use casemate_verifier::{
    Binding, BootLogRow, Challenge, Claim, Policy, Refused, RuleResult, UnixTime, VerifiedCollateral,
    appraise, appraise_platform, collateral_dates, name_collateral, require_not_contraindicated,
};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::Global;
use crate::failure::{Failure, Kind, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};
use crate::statement::Statement;
use coverage::Subject;
pub(crate) use gather::Expected;
use gather::{Beside, Gathered};
pub(crate) use gather::{read_statement, read_vek, with_certificate};
use report::{Colour, Context, Report};

/// Our evidence, and anybody's quote.
const EXAMPLES: &str = "\
Example: casemate verify evidence.json --nonce 5f2c9e01aa43
         casemate verify quote.bin --report-data HEX --policy policy.toml --bundle bundle.json";

/// What the last line says, what the exit code does, and what is told from what.
const HELP: &str = "\
Verdicts:
  affirming         every rule holds, on genuine hardware without known weakness; exit code 0
  warning           every rule holds, and the policy accepts a known weakness, or a TPM stands
                    alone, or the hardware is SIMULATED: that shows how it works and is worth
                    nothing outside development; exit code 0
  contraindicated   a rule does not hold, or all hold under a policy that permits debugging or
                    profiling, with which the host looks into the guest; exit code 1
A file, an argument or a policy that is not usable ends with exit code 2. Of several files each is
appraised by itself, and the highest exit code counts. To refuse simulated hardware whatever the
policy says, give `--roots production`.

Files are told by their content: evidence of `casemate attest`; a TDX quote of version 4 or 5 or an
SEV-SNP report (bytes, hexadecimal digits or base64; a report with or without its certificate
table); a TPM's statement as JSON (Azure's evidence, a plain TPM's, or ours); an Azure HCL report.
Nothing is fetched, and no socket is opened.";

/// What `verify` takes.
#[derive(Args, Debug)]
#[command(before_help = EXAMPLES, after_help = HELP)]
pub(crate) struct VerifyArgs {
    /// Evidence of `casemate attest`, or a raw quote, report or TPM statement
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    expected: Expected,
    /// VCEK or VLEK of an SEV-SNP report that comes without it, PEM or DER
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Event log of the firmware (CCEL beside a TDX quote, TCG2 log beside a TPM's statement)
    #[arg(long, value_name = "FILE")]
    boot_log: Option<PathBuf>,
    /// Appraisal policy [default: `x-casemate: policy` of the Compose file, or policy.toml beside it]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Endorsements [default: the project's emulator's]
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Use the endorsements only if this key signed their file (`sha256:...`, as `bundle keygen` prints it). Repeat for each
    #[arg(long, value_name = "SHA256")]
    bundle_signer: Vec<casemate_canon::Sha256>,
    /// Time of the appraisal [default: now]
    #[arg(long, value_name = "RFC3339")]
    now: Option<jiff::Timestamp>,
    /// Oldest endorsements to accept, in days as `30d`; never more than the policy says [default: `x-casemate:
    /// collateral-age` of the Compose file that names the policy, or what the policy says]
    #[arg(long, value_name = "DAYS", value_parser = days)]
    max_age: Option<u32>,
    /// Roots to trust in place of those in the policy
    #[arg(long)]
    roots: Option<Roots>,
    #[command(flatten)]
    ear: ear::EarArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Roots {
    /// The vendors' own roots and no other.
    Production,
}

/// A number of days, written as `30d`.
fn days(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('d').and_then(|number| number.parse().ok()).filter(|days| *days > 0);
    number.ok_or_else(|| "write a number of days as `30d`".to_owned())
}

/// Appraises. Exit code 0 where every rule holds, 1 where one does not, 2 where a file is not usable.
pub(crate) fn run(global: &Global, args: &VerifyArgs) -> Outcome {
    let writer = args.ear.writer(args.files.len())?;
    let files = gather::read_all(&args.files);
    args.expected.require_use(&files)?;
    let beside = Beside::read(args.certificate.as_deref(), args.boot_log.as_deref(), &files)?;
    let policy = read_policy(global, args)?;
    let collateral = read_collateral(global, args, &files, &policy)?;
    let context = Context { policy: &policy, now: now(args.now)?, collateral: collateral_dates(&collateral) };
    let mut verified = VerifiedCollateral::verify(&collateral);
    let [file] = files.as_slice() else {
        return Ok(all(global, args, &files, &beside, &context, &mut verified));
    };
    let (report, ear) = one(file, args, &beside, &context, &mut verified)?;
    match writer.as_ref().map(|writer| writer.write(&ear)).transpose()? {
        Some(ear::Written::ToStandardOutput) => {}
        Some(ear::Written::ToFile) | None => report.show(global, &context),
    }
    match report.failure() {
        Some(failure) if !global.json => Err(failure),
        Some(failure) => Ok(failure.kind.code()),
        None => Ok(0),
    }
}

/// Several files, each by itself; the highest exit code.
fn all(
    global: &Global,
    args: &VerifyArgs,
    files: &[Gathered],
    beside: &Beside,
    context: &Context<'_>,
    verified: &mut VerifiedCollateral,
) -> u8 {
    let mut worst = 0;
    for (index, file) in files.iter().enumerate() {
        if index > 0 && !global.json {
            lines::print("");
        }
        let failure = match one(file, args, beside, context, verified) {
            Ok((report, _ear)) => {
                report.show(global, context);
                report.failure().filter(|_| !global.json).map_or(report.code(), |failure| tell(&failure))
            }
            Err(failure) if global.json => {
                lines::print(json!({
                    "file": file.path.display().to_string(), "verdict": null,
                    "error": failure.what, "to-do": failure.todo,
                }));
                failure.kind.code()
            }
            Err(failure) => tell(&failure),
        };
        worst = worst.max(failure);
    }
    worst
}

/// Says on standard error what failed, and goes on.
fn tell(failure: &Failure) -> u8 {
    let _said = failure.report();
    failure.kind.code()
}

/// One file's appraisal, whatever comes of it.
fn one<'a>(
    file: &'a Gathered,
    args: &VerifyArgs,
    beside: &Beside,
    context: &Context<'_>,
    verified: &mut VerifiedCollateral,
) -> Outcome<(Appraised<'a>, Ear)> {
    let recognised = file.recognised.as_ref().map_err(Clone::clone)?;
    let (policy, now) = (context.policy, context.now);
    let refused = |refused: Refused, challenge| {
        let ear = refused.ear(policy, challenge, now);
        let first = Some(refused.first());
        let Refused { claims, rules, boot_log, .. } = refused;
        Judged { refused: first, claims, rules, boot_log, ear }
    };
    let (subject, mut judged) = match &recognised.statement {
        Statement::Agent(evidence) => {
            let nonce = args.expected.nonce(&file.path)?;
            let judged = match appraise(evidence, nonce, policy, verified, now) {
                Ok(passed) => {
                    let (claims, rules) = (passed.claims().to_vec(), passed.rules().to_vec());
                    Judged::passed(claims, rules, passed.ear().clone())
                }
                Err(error) => refused(error, Challenge::Nonce(nonce)),
            };
            (Subject::Agent, judged)
        }
        Statement::Platform(platform) => {
            let platform = gather::with_certificate(platform, beside.certificate.as_deref());
            let (subject, binding) = match &platform {
                Platform::Vtpm(_) => {
                    (Subject::Vtpm, Binding::ExtraData(args.expected.extra_data(&file.path)?))
                }
                _ => (Subject::Hardware, Binding::ReportData(args.expected.report_data(&file.path)?)),
            };
            let challenge = match &binding {
                Binding::ReportData(data) => Challenge::ReportData(data),
                Binding::ExtraData(data) => Challenge::ExtraData(data),
            };
            let boot_log = beside.boot_log.as_deref();
            let judged = match appraise_platform(&platform, boot_log, &binding, policy, verified, now) {
                Ok(passed) => {
                    let ear = passed.ear(policy, challenge, now);
                    let boot_log = passed.boot_log().to_vec();
                    Judged { boot_log, ..Judged::passed(passed.claims(), passed.rules(), ear) }
                }
                Err(error) => refused(error, challenge),
            };
            (subject, judged)
        }
    };
    name_collateral(&mut judged.ear, &context.collateral);
    let path = file.path.display().to_string();
    let Judged { refused, claims, rules, boot_log, ear } = judged;
    let refused = refusal_of(refused, &ear);
    let appraised = Appraised {
        path,
        what: &recognised.what,
        subject,
        verdict: ear.status.name(),
        refused,
        claims,
        rules,
        boot_log,
        trust_vectors: trust_vectors(&ear),
    };
    Ok((appraised, ear))
}

/// The trust vector of each part.
fn trust_vectors(ear: &Ear) -> BTreeMap<String, BTreeMap<String, i8>> {
    ear.submods.iter().map(|(part, result)| (part.clone(), result.trustworthiness.clone())).collect()
}

/// Why a result is worth nothing: the first rule that did not hold, or what makes it contraindicated although all hold.
fn refusal_of(failed: Option<Refusal>, ear: &Ear) -> Option<Refusal> {
    failed.or_else(|| require_not_contraindicated(ear).err())
}

/// A verdict of either kind.
struct Judged {
    refused: Option<Refusal>,
    claims: Vec<Claim>,
    rules: Vec<RuleResult>,
    boot_log: Vec<BootLogRow>,
    ear: Ear,
}

impl Judged {
    fn passed(claims: Vec<Claim>, rules: Vec<RuleResult>, ear: Ear) -> Self {
        Self { refused: None, claims, rules, boot_log: Vec::new(), ear }
    }
}

/// What came of one file.
struct Appraised<'a> {
    path: String,
    what: &'a str,
    subject: Subject,
    verdict: &'static str,
    /// The first rule that did not hold, or that the result is contraindicated although all hold.
    refused: Option<Refusal>,
    claims: Vec<Claim>,
    rules: Vec<RuleResult>,
    boot_log: Vec<BootLogRow>,
    trust_vectors: BTreeMap<String, BTreeMap<String, i8>>,
}

impl Appraised<'_> {
    fn show(&self, global: &Global, context: &Context<'_>) {
        let report = Report {
            file: self.path.clone(),
            what: self.what,
            subject: self.subject,
            verdict: self.verdict,
            claims: &self.claims,
            rules: &self.rules,
            boot_log: &self.boot_log,
            trust_vectors: self.trust_vectors.iter().map(|(part, vector)| (part.as_str(), vector)).collect(),
        };
        if global.json {
            lines::print(report.json(context));
            return;
        }
        report.lines(context, Colour::of_stdout()).into_iter().for_each(lines::print);
    }

    const fn code(&self) -> u8 {
        match self.refused {
            Some(_) => Kind::Refused.code(),
            None => 0,
        }
    }

    fn failure(&self) -> Option<Failure> {
        let refusal = self.refused.clone()?;
        let todo = todo(&refusal.rule);
        Some(Failure::refused(format!("{} is refused", self.path), refusal, todo))
    }
}

fn read_policy(global: &Global, args: &VerifyArgs) -> Outcome<Policy> {
    let (path, age_of_file) = match &args.policy {
        Some(path) => (path.clone(), None),
        None => {
            let file = beside(ComposeFile::find(global), "policy", "--policy FILE")?;
            (inputs::policy_beside(&file)?, inputs::relying_party(&file)?.collateral_days_max)
        }
    };
    let mut policy = inputs::read_policy(&path)?;
    if args.roots == Some(Roots::Production) {
        policy = policy.with_production_roots();
    }
    let (days, option, written) = match (args.max_age, age_of_file) {
        (Some(days), _) => (days, "--max-age ", "give"),
        (None, Some(days)) => (days, "collateral-age: ", "write"),
        (None, None) => return Ok(policy),
    };
    policy.with_collateral_age_max(days).map_err(|error| {
        let todo = format!("{written} at most `{option}{}d`, or change the policy", error.expected);
        Failure::input(format!("{option}{days}d: {error}"), todo)
    })
}

fn read_collateral(
    global: &Global,
    args: &VerifyArgs,
    files: &[Gathered],
    policy: &Policy,
) -> Outcome<casemate_verifier::Collateral> {
    let path = match &args.bundle {
        Some(path) => path.clone(),
        None if files.iter().all(Gathered::is_of_a_tpm_alone) => {
            if args.max_age.is_some() || !args.bundle_signer.is_empty() {
                return Err(Failure::input(
                    "`--max-age` or `--bundle-signer` is given, and no endorsements are read for a TPM alone",
                    "leave it out",
                ));
            }
            return Ok(casemate_verifier::Collateral { tdx: None, snp: None });
        }
        None => inputs::bundle_file(&beside(Project::find(global), "endorsements", "--bundle FILE")?),
    };
    inputs::read_bundle(&path, &args.bundle_signer, policy)
}

/// Where there is no Compose file either, what to give.
fn beside<T>(found: Outcome<T>, what: &str, option: &str) -> Outcome<T> {
    found.map_err(|error| {
        let todo = format!("give {what} with `{option}`; or {}", error.todo);
        Failure::input(format!("{}, and no {what} given", error.what), todo)
    })
}

/// The time of the appraisal.
pub(crate) fn now(given: Option<jiff::Timestamp>) -> Outcome<UnixTime> {
    let seconds = given.unwrap_or_else(jiff::Timestamp::now).as_second();
    let seconds = u64::try_from(seconds);
    seconds.map(UnixTime).map_err(|_| Failure::input("time before 1970", "give a later `--now`"))
}

/// What to do about a rule that did not hold.
pub(crate) fn todo(rule: &str) -> &'static str {
    if rule.starts_with("image.") {
        "import the image again; where the change is meant, lock and write the policy again"
    } else if rule == "mount.target" {
        "add it to the image, or mount at a folder that the image has; a config can also lie below /run or a tmpfs"
    } else if rule == "agent.taint" {
        "`casemate up --force-recreate` starts a clean box; a policy accepts a tainted agent with `allow-tainted = true`"
    } else if rule == "agent.edges" {
        "close the edge with `casemate deny AGENT HOST:PORT`; a policy accepts it with `allow-added-edges = true`"
    } else if rule == "posture.inode" {
        "take away what both mount (`share`, a common volume), or name other agents in `no-shared-inode-with`"
    } else if rule == "posture.check" {
        "`casemate doctor` says what to do about the check; the box looks every ten seconds, so ask for evidence again then"
    } else if rule == "posture.probe" {
        "run `casemate probe` in the box and ask for evidence again; a policy accepts attacks that it names in `allow-attacks`"
    } else if rule == "secret.stored" {
        "store it with `casemate secret put NAME`, then start again"
    } else if rule.ends_with("report-data") || rule.ends_with("extra-data") {
        "compare with what the guest was asked to bind in: a statement made for another question proves nothing now"
    } else if rule.contains("nonce") {
        "ask for fresh evidence with the nonce that you send now; evidence is good for one nonce"
    } else if rule == "platform.chain" || rule == "vtpm.chain" {
        "a certificate was changed, is another chip's, or is outside its dates: get the evidence again, and check the clock"
    } else if matches!(
        rule,
        "tdx.quote" | "snp.report" | "vtpm.quote" | "platform.signature" | "vtpm.signature"
    ) {
        "get the statement again, whole and unchanged: nothing in it can be relied on"
    } else if rule == "boot-log.present" {
        "give the log with `--boot-log FILE`"
    } else if rule.contains("root") || rule.contains("simulated") {
        "use evidence of real hardware, or a policy that names the development root, for development only"
    } else if rule == "platform.contraindicated" {
        "the policy permits it, and nothing is to be trusted to such a guest: have it started without debugging and profiling"
    } else if rule.starts_with("collateral.")
        || matches!(
            rule,
            "platform.crl" | "tdx.fmspc" | "tdx.tcb-info" | "tdx.qe-identity" | "tdx.tcb-evaluation"
        )
    {
        "get endorsements of now with `casemate bundle create`"
    } else if rule.contains("measurement") || rule.contains("composition") {
        "if the change is meant, write the policy again with `casemate policy write --force`; if not, find who made it"
    } else {
        "compare expected and found; change the box, or the policy if it is the policy that is wrong"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_written_in_days() {
        assert_eq!(days("30d"), Ok(30));
        for bad in ["30", "d", "0d", "-1d", "1.5d", "30 d", "30h", "4294967296d"] {
            assert!(days(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_contraindicated_result_ends_with_1_although_every_rule_holds() {
        let appraised = |tier: &str, value: i8, failed: Option<Refusal>| {
            let part = json!({
                "ear_status": tier, "ear_trustworthiness_vector": {"runtime-opaque": value},
                "ear_appraisal_policy_ids": ["p"],
            });
            let ear: Ear = serde_json::from_value(json!({
                "eat_profile": "p", "ear_status": tier, "iat": 1, "exp": 2, "submods": {"platform": part},
                "ear_verifier_id": {"developer": "d", "build": "b"},
            }))
            .unwrap();
            Appraised {
                path: "f".into(),
                what: "a report",
                subject: Subject::Hardware,
                verdict: ear.status.name(),
                refused: refusal_of(failed, &ear),
                claims: vec![],
                rules: vec![],
                boot_log: vec![],
                trust_vectors: trust_vectors(&ear),
            }
        };
        let open = appraised("contraindicated", 96, None);
        assert_eq!(open.code(), 1);
        let failure = open.failure().unwrap();
        assert_eq!(failure.kind.code(), 1);
        assert!(failure.to_string().contains("platform.contraindicated"), "{failure}");
        assert!(failure.todo.contains("without debugging"), "{}", failure.todo);
        // What failed first is what is told.
        let first = appraised("contraindicated", 96, Some(Refusal::new("snp.vmpl", "0", "1")));
        assert!(first.failure().unwrap().to_string().contains("snp.vmpl"));
        for (tier, value) in [("warning", 32), ("affirming", 2)] {
            let fine = appraised(tier, value, None);
            assert_eq!((fine.code(), fine.failure()), (0, None), "{tier}");
        }
    }
}
