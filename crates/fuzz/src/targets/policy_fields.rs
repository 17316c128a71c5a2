//! A policy with one expectation changed, as text: what it must then refuse.

use casemate_testkit::Tee;

use crate::choices::Choices;

/// A line of a policy and another one in its place.
pub(super) struct Row {
    /// How the line begins, up to its value.
    key: &'static str,
    /// The value instead.
    value: &'static str,
    /// Under which table's heading it is added where the policy does not have it.
    add_to: Option<&'static str>,
    /// Whether the verdict must turn (`Some(false)`), must stay (`Some(true)`), or may be either.
    pub(super) accepted: Option<bool>,
}

const fn row(key: &'static str, value: &'static str, accepted: Option<bool>) -> Row {
    Row { key, value, add_to: None, accepted }
}

const fn added(key: &'static str, value: &'static str, accepted: Option<bool>) -> Row {
    Row { key, value, add_to: Some("[platform.tdx]"), accepted }
}

const OTHER: &str =
    "[\"5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d\"]";
const OTHER_DIGEST: &str = "\"sha384:5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d\"";
const OTHER_ROOT: &str = "[\"sha256:5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d\"]";
const NO: Option<bool> = Some(false);
const YES: Option<bool> = Some(true);

/// For either platform.
const COMMON: [Row; 9] = [
    row("development-roots = ", OTHER_ROOT, NO),
    row("digest = ", OTHER_DIGEST, NO),
    row("measurement = \"", OTHER_DIGEST, NO),
    row("[agents.", "[agents.planner]", NO),
    row("backends = ", "[\"gvisor\"]", NO),
    row("secrets = ", "[]", YES),
    row("allow-weaker = ", "[\"cgroup-cpu\"]", YES),
    row("allow-tainted = ", "true", YES),
    row("collateral-age-max-days = ", "1", YES),
];

const TDX: [Row; 18] = [
    row("tcb-status = ", "[\"OutOfDate\"]", NO),
    row("tcb-evaluation-min = ", "19", NO),
    row("require-sept-ve-disable = ", "false", YES),
    row("mrtd = ", OTHER, NO),
    row("rtmr0 = ", OTHER, NO),
    row("rtmr1 = ", OTHER, NO),
    row("rtmr2 = ", OTHER, NO),
    added("rtmr3 = ", OTHER, YES),
    added("mrconfigid = ", OTHER, YES),
    added("mrowner = ", OTHER, NO),
    added("mrownerconfig = ", OTHER, NO),
    added("mrservicetd = ", OTHER, None),
    added("mrseam = ", OTHER, NO),
    added("fmspc = ", "[\"000000000001\"]", NO),
    added("ppid = ", "[\"00000000000000000000000000000001\"]", NO),
    added("tcb-date-min = ", "\"2027-01-01T00:00:00Z\"", NO),
    added("refuse-platform = ", "[\"smt\", \"cached-keys\", \"dynamic-platform\"]", None),
    added("allow-advisories = ", "[\"INTEL-SA-00001\"]", YES),
];

const SNP: [Row; 6] = [
    row("measurement = [", OTHER, NO),
    row("vmpl = ", "1", NO),
    row("products = ", "[\"Milan\"]", NO),
    row("tcb-min = ", "{ bootloader = 255, tee = 0, snp = 0, microcode = 0 }", NO),
    row("allow-smt = ", "false", NO),
    row("crl-age-max-days = ", "1", YES),
];

/// Every row for this platform.
pub(super) fn rows(tee: Tee) -> Vec<&'static Row> {
    let own = match tee {
        Tee::Tdx => TDX.as_slice(),
        Tee::Snp => SNP.as_slice(),
    };
    COMMON.iter().chain(own).collect()
}

/// One of the rows, and the policy with it. None where the policy has no such line.
pub(super) fn change(policy: &str, tee: Tee, choices: &mut Choices<'_>) -> Option<(&'static Row, String)> {
    let row = *choices.pick(&rows(tee))?;
    row.apply(policy).map(|text| (row, text))
}

impl Row {
    /// Its key, for people.
    pub(super) fn name(&self) -> &'static str {
        self.key.trim_end_matches([' ', '=', '[', '"'])
    }

    /// The policy with this line instead.
    pub(super) fn apply(&self, policy: &str) -> Option<String> {
        let heading = self.key.starts_with('[');
        let line = match self.key.split_once('=') {
            Some((key, _)) if !heading => format!("{key}= {}", self.value),
            _ => self.value.to_owned(),
        };
        let is_line = |old: &&str| old.starts_with(self.key);
        if let Some(old) = policy.lines().find(is_line) {
            return Some(policy.replacen(&format!("\n{old}\n"), &format!("\n{line}\n"), 1));
        }
        let table = self.add_to?;
        policy.contains(table).then(|| policy.replacen(table, &format!("{table}\n{line}"), 1))
    }
}
