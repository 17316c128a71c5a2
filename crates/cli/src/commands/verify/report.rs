//! One appraisal as text and as JSON: what was given, with what it was judged, the tree, the rules, the verdict.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use casemate_verifier::{BootLogRow, Claim, CollateralPart, Policy, Roots, RuleResult, UnixTime, Voucher};
use serde_json::{Value, json};

use super::coverage::{Compared, Layer, Subject, layers};
use crate::failure::one_line;
use crate::lines;

/// Widest column of names.
const NAME_CHARS_MAX: usize = 40;

/// What every verdict of one call is reached with.
pub(super) struct Context<'a> {
    pub(super) policy: &'a Policy,
    pub(super) now: UnixTime,
    pub(super) collateral: Vec<CollateralPart>,
}

/// One appraisal, whatever came of it.
pub(super) struct Report<'a> {
    pub(super) file: String,
    pub(super) what: &'a str,
    pub(super) subject: Subject,
    pub(super) verdict: &'static str,
    pub(super) claims: &'a [Claim],
    pub(super) rules: &'a [RuleResult],
    pub(super) boot_log: &'a [BootLogRow],
    /// AR4SI trust vector of each part: why the verdict is not better where every rule holds.
    pub(super) trust_vectors: BTreeMap<&'a str, &'a BTreeMap<String, i8>>,
}

/// Whether marks are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// On a terminal.
    Marks,
    /// Elsewhere.
    None,
}

impl Colour {
    /// Colour on a terminal, unless `NO_COLOR` is set.
    pub(super) fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && std::io::stdout().is_terminal() { Self::Marks } else { Self::None }
    }

    fn paint(self, code: u8, text: &str) -> String {
        match self {
            Self::Marks => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::None => text.to_owned(),
        }
    }

    fn good(self, text: &str) -> String {
        self.paint(32, text)
    }

    fn bad(self, text: &str) -> String {
        self.paint(31, text)
    }

    fn open(self, text: &str) -> String {
        self.paint(33, text)
    }
}

impl Context<'_> {
    const fn roots(&self) -> &'static str {
        match self.policy.values().roots {
            Roots::Production => "production",
            Roots::Development(_) => "development",
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
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
        let parts = self.collateral.iter().map(|part| {
            let sha256 = part.sha256.to_string();
            match &part.dates {
                Ok((from, until)) => {
                    json!({"part": part.name, "sha256": sha256, "from": from.to_string(), "until": until.to_string()})
                }
                Err(error) => json!({"part": part.name, "sha256": sha256, "error": error.to_string()}),
            }
        });
        parts.collect()
    }
}

impl Report<'_> {
    /// Everything as one JSON object.
    pub(super) fn json(&self, context: &Context<'_>) -> Value {
        let claims = self.claims.iter().map(|claim| {
            json!({"part": claim.part, "name": claim.name, "value": claim.value, "vouched-by": claim.voucher.name()})
        });
        let rules = self.rules.iter().map(|rule| {
            let detail = &rule.detail;
            json!({"rule": detail.rule, "passed": rule.passed, "expected": detail.expected, "found": detail.found})
        });
        let layers = layers(self.subject, self.claims, self.rules, self.boot_log);
        json!({
            "file": self.file, "what": self.what,
            "verdict": self.verdict, "simulated": simulated(self.claims),
            "trust-vectors": self.trust_vectors,
            "policy": {
                "id": context.policy.id().to_string(), "roots": context.roots(),
                "collateral-age-max-days": context.policy.values().collateral_age_max_days,
            },
            "time": context.now.to_string(), "collateral": context.collateral_json(),
            "layers": layers.iter().map(layer_json).collect::<Vec<_>>(),
            "boot-log": self.boot_log.iter().map(boot_event_json).collect::<Vec<_>>(),
            "claims": claims.collect::<Vec<_>>(), "rules": rules.collect::<Vec<_>>(),
        })
    }

    /// Everything as lines.
    pub(super) fn lines(&self, context: &Context<'_>, colour: Colour) -> Vec<String> {
        let simulated = simulated(self.claims);
        let mut out = vec![format!("{}: {}", self.file, one_line(self.what))];
        if simulated == Some(true) {
            let text = "SIMULATED: signed under a development root. It shows how it works and proves nothing about \
                        hardware.";
            out.push(colour.open(text));
        }
        out.extend(context.lines());
        out.extend(tree(&layers(self.subject, self.claims, self.rules, self.boot_log), colour));
        out.extend(rule_lines(self.rules, colour));
        out.push(last_line(self.verdict, simulated, colour));
        out
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

fn layer_json(layer: &Layer<'_>) -> Value {
    let covered = layer.covered.iter().map(|one| {
        let claim = one.claim;
        json!({
            "part": claim.part, "name": claim.name, "value": claim.value, "vouched-by": claim.voucher.name(),
            "compared": one.compared.name(),
        })
    });
    json!({"layer": layer.name, "covered": covered.collect::<Vec<_>>(), "not-covered": layer.not_covered})
}

/// One event of the firmware's log; type and text are the host's word, whatever the label.
fn boot_event_json(row: &BootLogRow) -> Value {
    let digest: String = row.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "number": row.number, "register": row.register.map(|register| register.to_string()),
        "type": row.event_type.to_string(), "bank": row.bank.map(|bank| bank.name()), "digest": digest,
        "label": row.label.name(), "text": row.text,
    })
}

fn tree(layers: &[Layer<'_>], colour: Colour) -> Vec<String> {
    let names = layers.iter().flat_map(|layer| &layer.covered).map(|one| one.claim.name.chars().count());
    let width = names.max().unwrap_or(0).min(NAME_CHARS_MAX);
    let mut out = Vec::new();
    for layer in layers {
        out.push(layer.name.to_owned());
        let covered = layer.covered.iter().map(|one| {
            let mark = match one.compared {
                Compared::Holds => colour.good("\u{2713}"),
                Compared::Fails => colour.bad("\u{2717}"),
                Compared::ReadOnly => "\u{b7}".to_owned(),
            };
            let claim = one.claim;
            let text = format!("{:width$}  {}  [{}]", claim.name, claim.value, claim.voucher.name());
            format!("{mark} {}", lines::printable(text.as_bytes()))
        });
        let not_covered = layer
            .not_covered
            .iter()
            .map(|gap| format!("{} {}", colour.open("not covered:"), lines::printable(gap.as_bytes())));
        let all: Vec<String> = covered.chain(not_covered).collect();
        let last = all.len().saturating_sub(1);
        for (index, line) in all.into_iter().enumerate() {
            out.push(format!("{} {line}", if index == last { "\u{2514}" } else { "\u{251c}" }));
        }
    }
    out
}

/// The rules that do not hold, whole, and how many do: `--json` has those too.
fn rule_lines(rules: &[RuleResult], colour: Colour) -> Vec<String> {
    let held = rules.iter().filter(|rule| rule.passed).count();
    let mut out = vec![match rules.len().saturating_sub(held) {
        0 => format!("rules: all {held} hold"),
        failed => format!("rules: {held} hold, {failed} do not"),
    }];
    for rule in rules.iter().filter(|rule| !rule.passed) {
        out.push(format!("{} {}", colour.bad("\u{2717}"), rule.detail.rule));
        out.push(format!("    expected  {}", rule.detail.expected));
        out.push(format!("    found     {}", rule.detail.found));
    }
    out
}

/// The verdict, and what it is worth.
fn last_line(verdict: &str, simulated: Option<bool>, colour: Colour) -> String {
    let shown = match verdict {
        "affirming" => colour.good(verdict),
        "contraindicated" => colour.bad(verdict),
        _ => colour.open(verdict),
    };
    match simulated {
        Some(true) => format!("verdict: {shown} (SIMULATED: worth nothing outside development)"),
        Some(false) | None => format!("verdict: {shown}"),
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
