//! `casemate verify`: appraises evidence offline, and shows every claim with its voucher and every rule with its result.

use std::path::PathBuf;

use casemate_protocol::Nonce;
use casemate_protocol::cmw::{COLLECTION_BYTES_MAX, Evidence};
use casemate_verifier::{
    Claim, CollateralPart, Policy, RuleResult, UnixTime, VerifiedCollateral, Voucher, appraise,
    collateral_dates,
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::failure::{Failure, Kind, Outcome, one_line};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};

/// Most characters shown of what a rule found where it holds.
const SHOWN_CHARS_MAX: usize = 80;

/// What the last line says, and what the exit code does.
const VERDICTS: &str = "\
Verdicts:
  affirming         every rule holds, on genuine hardware without known weakness; exit code 0
  warning           every rule holds, and the policy accepts a known weakness, or hardware that is SIMULATED:
                    that shows how it works and is worth nothing outside development; exit code 0
  contraindicated   a rule does not hold; exit code 1
To refuse simulated hardware whatever the policy says, give `--roots production`.";

/// What `verify` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate verify evidence.json --nonce 5f2c9e01aa43",
    after_help = VERDICTS
)]
pub(crate) struct VerifyArgs {
    /// Evidence, as `casemate attest` writes it
    evidence: PathBuf,
    /// The nonce that was sent for it
    #[arg(long)]
    nonce: Nonce,
    /// Appraisal policy [default: policy.toml beside the Compose file]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Endorsements [default: the project's emulator's]
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Time of the appraisal [default: now]
    #[arg(long, value_name = "RFC3339")]
    now: Option<jiff::Timestamp>,
    /// Roots to trust in place of those in the policy
    #[arg(long)]
    roots: Option<Roots>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Roots {
    /// The vendors' own roots and no other.
    Production,
}

/// Appraises. Exit code 0 where every rule holds, 1 where one does not, 2 where a file is not usable.
pub(crate) fn run(global: &Global, args: &VerifyArgs) -> Outcome {
    let evidence = read_evidence(&args.evidence)?;
    let policy_path = match &args.policy {
        Some(path) => path.clone(),
        None => inputs::policy_beside(&ComposeFile::find(global)?)?,
    };
    let policy = inputs::read_policy(&policy_path)?;
    let policy = match args.roots {
        Some(Roots::Production) => policy.with_production_roots(),
        None => policy,
    };
    let bundle_path = match &args.bundle {
        Some(path) => path.clone(),
        None => inputs::bundle_file(&Project::find(global)?),
    };
    let collateral = inputs::read_bundle(&bundle_path)?;
    let now = args.now.unwrap_or_else(jiff::Timestamp::now).as_second();
    let now =
        UnixTime(u64::try_from(now).map_err(|_| Failure::input("time before 1970", "give a later `--now`"))?);
    let context = Context { policy: &policy, now, collateral: collateral_dates(&collateral) };
    let mut verified = VerifiedCollateral::verify(&collateral);
    match appraise(&evidence, &args.nonce, &policy, &mut verified, now) {
        Ok(appraisal) => {
            show(global, appraisal.ear().status.name(), &context, appraisal.claims(), appraisal.rules());
            Ok(0)
        }
        Err(refused) => {
            show(global, "contraindicated", &context, &refused.claims, &refused.rules);
            let refusal = refused.first();
            if global.json {
                return Ok(Kind::Refused.code());
            }
            let todo = todo(&refusal.rule);
            Err(Failure::refused(format!("{} is refused", args.evidence.display()), refusal, todo))
        }
    }
}

/// What the verdict was reached with.
struct Context<'a> {
    policy: &'a Policy,
    now: UnixTime,
    collateral: Vec<CollateralPart>,
}

impl Context<'_> {
    const fn roots(&self) -> &'static str {
        match self.policy.values().roots {
            casemate_verifier::Roots::Production => "production",
            casemate_verifier::Roots::Development(_) => "development",
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut out = vec![
            format!("policy      {} with {} roots", self.policy.id(), self.roots()),
            format!("time        {}", self.now),
        ];
        for part in &self.collateral {
            let dates = match &part.dates {
                Ok((from, until)) => format!("{from} to {until}"),
                Err(error) => one_line(&error.to_string()),
            };
            out.push(format!("collateral  {:21}  {dates}", part.name));
        }
        out
    }

    fn collateral_json(&self) -> Vec<Value> {
        let dates = |part: &CollateralPart| match &part.dates {
            Ok((from, until)) => {
                json!({"part": part.name, "from": from.to_string(), "until": until.to_string()})
            }
            Err(error) => json!({"part": part.name, "error": error.to_string()}),
        };
        self.collateral.iter().map(dates).collect()
    }
}

/// Whether the platform is simulated. None where nothing that was verified says so.
fn simulated(claims: &[Claim]) -> Option<bool> {
    let claim = claims.iter().find(|claim| claim.part == "platform" && claim.name == "simulated")?;
    match (claim.voucher, claim.value.as_str()) {
        (Voucher::Simulated, "true") => Some(true),
        (Voucher::Hardware, "false") => Some(false),
        _ => None,
    }
}

fn read_evidence(path: &std::path::Path) -> Outcome<Evidence> {
    let todo = "make it with `casemate attest AGENT --nonce NONCE -o FILE`";
    let bytes = inputs::read_bytes(path, COLLECTION_BYTES_MAX, todo)?;
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        let place = format!("{}:{}:{}", path.display(), error.line().max(1), error.column().max(1));
        return Err(Failure::input(format!("{place}: not JSON: {error}"), todo));
    }
    Evidence::from_json_bytes(&bytes)
        .map_err(|error| Failure::input(format!("{}:1:1: not evidence: {error}", path.display()), todo))
}

/// What to do about a rule that did not hold.
pub(crate) fn todo(rule: &str) -> &'static str {
    if rule.starts_with("image.") {
        "import the image again; where the change is meant, lock and write the policy again"
    } else if rule == "secret.stored" {
        "store it with `casemate secret put NAME`, then start again"
    } else if rule.contains("nonce") {
        "ask for fresh evidence with the nonce that you send now; evidence is good for one nonce"
    } else if rule.contains("root") || rule.contains("simulated") || rule.contains("chain") {
        "use evidence of real hardware, or a policy that names the development root, for development only"
    } else if rule.contains("measurement") || rule.contains("composition") {
        "if the change is meant, write the policy again with `casemate policy write --force`; if not, find who made it"
    } else {
        "compare expected and found; change the box, or the policy if it is the policy that is wrong"
    }
}

const fn voucher(voucher: Voucher) -> &'static str {
    match voucher {
        Voucher::Hardware => "hardware",
        Voucher::MeasuredRuntime => "measured-runtime",
        Voucher::HostClaimed => "host-claimed",
        Voucher::Simulated => "simulated",
    }
}

fn show(global: &Global, verdict: &str, context: &Context<'_>, claims: &[Claim], rules: &[RuleResult]) {
    if global.json {
        lines::print(as_json(verdict, context, claims, rules));
        return;
    }
    let simulated = simulated(claims);
    if simulated == Some(true) {
        lines::print(
            "SIMULATED: signed under a development root. It shows how it works and proves nothing about hardware.",
        );
    }
    for line in context.lines().into_iter().chain(tree(claims, rules)) {
        lines::print(line);
    }
    lines::print(last_line(verdict, simulated));
}

/// The verdict, and what it is worth.
fn last_line(verdict: &str, simulated: Option<bool>) -> String {
    match simulated {
        Some(true) => format!("verdict: {verdict} (SIMULATED: worth nothing outside development)"),
        Some(false) | None => format!("verdict: {verdict}"),
    }
}

fn as_json(verdict: &str, context: &Context<'_>, claims: &[Claim], rules: &[RuleResult]) -> Value {
    let simulated = simulated(claims);
    let claims: Vec<Value> = claims
        .iter()
        .map(|c| json!({"part": c.part, "name": c.name, "value": c.value, "vouched-by": voucher(c.voucher)}))
        .collect();
    let rules: Vec<Value> = rules
        .iter()
        .map(|r| json!({"rule": r.detail.rule, "passed": r.passed, "expected": r.detail.expected, "found": r.detail.found}))
        .collect();
    json!({
        "verdict": verdict, "simulated": simulated,
        "policy": {"id": context.policy.id().to_string(), "roots": context.roots()},
        "time": context.now.to_string(), "collateral": context.collateral_json(),
        "claims": claims, "rules": rules,
    })
}

/// Box and furniture: claims by part in their order, then the rules.
fn tree(claims: &[Claim], rules: &[RuleResult]) -> Vec<String> {
    let mut out = Vec::new();
    let mut parts: Vec<&str> = Vec::new();
    for claim in claims {
        if !parts.contains(&claim.part) {
            parts.push(claim.part);
        }
    }
    let width = claims.iter().map(|claim| claim.name.chars().count()).max().unwrap_or(0).min(40);
    for part in parts {
        out.push(part.to_owned());
        let of_part: Vec<&Claim> = claims.iter().filter(|claim| claim.part == part).collect();
        let last = of_part.len().saturating_sub(1);
        for (index, claim) in of_part.into_iter().enumerate() {
            let branch = if index == last { "\u{2514}" } else { "\u{251c}" };
            let line =
                format!("{branch} {:width$}  {}  [{}]", claim.name, claim.value, voucher(claim.voucher));
            out.push(lines::printable(line.as_bytes()));
        }
    }
    out.push("rules".to_owned());
    for rule in rules {
        let detail = &rule.detail;
        if rule.passed {
            out.push(format!("\u{2713} {}  {}", detail.rule, cut(&detail.found)));
        } else {
            out.push(format!("\u{2717} {}", detail.rule));
            out.push(format!("    expected  {}", detail.expected));
            out.push(format!("    found     {}", detail.found));
        }
    }
    out
}

/// A long value of a rule that holds, cut; `--json` has it whole.
fn cut(text: &str) -> String {
    let short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() { format!("{short}\u{2026}") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_protocol::Refusal;

    #[test]
    fn every_claim_is_shown_with_its_voucher_and_every_failed_rule_with_its_parts() {
        let claim = |part, name: &str, voucher| Claim { part, name: name.into(), value: "v".into(), voucher };
        let claims =
            [claim("platform", "tee", Voucher::Simulated), claim("agent", "name", Voucher::MeasuredRuntime)];
        let rules = [
            RuleResult { passed: true, detail: Refusal::new("box.nonce", "n", "n") },
            RuleResult { passed: false, detail: Refusal::new("platform.root", "intel", "development") },
        ];
        assert_eq!(
            tree(&claims, &rules),
            [
                "platform",
                "\u{2514} tee   v  [simulated]",
                "agent",
                "\u{2514} name  v  [measured-runtime]",
                "rules",
                "\u{2713} box.nonce  n",
                "\u{2717} platform.root",
                "    expected  intel",
                "    found     development",
            ]
        );
    }

    fn policy() -> Policy {
        let zero = "0".repeat(96);
        let text = format!(
            "version = 1\n[platform]\ntee = [\"tdx\"]\nroots = \"production\"\ncollateral-age-max-days = 30\n\
             [platform.tdx]\ntcb-status = [\"UpToDate\"]\nrequire-sept-ve-disable = true\ntcb-evaluation-min = 18\nmrtd = [\"{zero}\"]\n\
             rtmr0 = [\"{zero}\"]\nrtmr1 = [\"{zero}\"]\nrtmr2 = [\"{zero}\"]\n\
             [composition]\ndigest = \"sha384:{zero}\"\n[agents]\n"
        );
        Policy::parse(&text).unwrap()
    }

    #[test]
    fn the_json_form_says_whether_it_is_simulated_and_null_where_nobody_can_tell() {
        let policy = policy();
        let context = Context { policy: &policy, now: UnixTime(0), collateral: Vec::new() };
        let simulated = |claims: &[Claim]| as_json("warning", &context, claims, &[])["simulated"].clone();
        let claim = |name: &str, value: &str, voucher| Claim {
            part: "platform",
            name: name.into(),
            value: value.into(),
            voucher,
        };
        assert_eq!(simulated(&[claim("simulated", "true", Voucher::Simulated)]), json!(true));
        assert_eq!(simulated(&[claim("simulated", "false", Voucher::Hardware)]), json!(false));
        assert_eq!(simulated(&[]), Value::Null);
        assert_eq!(simulated(&[claim("tee", "tdx", Voucher::HostClaimed)]), Value::Null);
        assert_eq!(simulated(&[claim("simulated", "false", Voucher::HostClaimed)]), Value::Null);
    }

    #[test]
    fn the_last_line_says_what_simulated_evidence_is_worth() {
        let simulated = last_line("warning", Some(true));
        assert_eq!(simulated, "verdict: warning (SIMULATED: worth nothing outside development)");
        assert_eq!(last_line("affirming", Some(false)), "verdict: affirming");
    }

    #[test]
    fn policy_time_and_dates_of_collateral_stand_above_the_claims() {
        let policy = policy();
        let sha256 = casemate_canon::Sha256::of(b"");
        let part = CollateralPart { name: "snp.crl", sha256, dates: Ok((UnixTime(0), UnixTime(86_400))) };
        let context = Context { policy: &policy, now: UnixTime(86_400), collateral: vec![part] };
        assert_eq!(
            context.lines(),
            [
                format!("policy      {} with production roots", policy.id()),
                "time        1970-01-02T00:00:00Z".to_owned(),
                "collateral  snp.crl                1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z".to_owned(),
            ]
        );
        assert_eq!(as_json("x", &context, &[], &[])["policy"]["roots"], "production");
    }
}
