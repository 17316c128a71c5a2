//! Claims and rules as they come up: the record that every verdict is built from.

use std::fmt;

use casemate_protocol::Refusal;

use crate::platform::Standing;
use crate::record::Record;
use crate::time::UnixTime;

/// Who vouches for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The hardware's signed statement.
    Hardware,
    /// The measured warden, by the box key.
    MeasuredRuntime,
    /// The host said so, or nothing that was verified.
    HostClaimed,
    /// A development root: worth nothing outside development.
    Simulated,
}

impl Voucher {
    /// The name used in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::MeasuredRuntime => "measured-runtime",
            Self::HostClaimed => "host-claimed",
            Self::Simulated => "simulated",
        }
    }
}

/// A statement taken from evidence, and who vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which part: `platform`, `box`, `agent`.
    pub part: &'static str,
    /// Name.
    pub name: String,
    /// Value as text.
    pub value: String,
    /// Who vouches.
    pub voucher: Voucher,
}

/// How one rule came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleResult {
    /// Whether it holds.
    pub passed: bool,
    /// Rule, expected, found.
    pub detail: Refusal,
}

/// Shows that a rule that did not hold stands in the ledger. Only the ledger makes one.
#[derive(Debug)]
pub(crate) struct Failed(());

/// Rules and claims in the order in which they came up.
#[derive(Debug)]
pub(crate) struct Ledger {
    record: Record,
    standing: Standing,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { record: Record::new(), standing: Standing::Unverified }
    }

    /// Records the rule; it holds where `holds` is true.
    pub(crate) fn require(
        &mut self,
        rule: &'static str,
        holds: bool,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Result<(), Failed> {
        self.record.rule(rule, holds, expected, found);
        if holds { Ok(()) } else { Err(Failed(())) }
    }

    /// Records the rule; it holds where both values are equal.
    pub(crate) fn equal<T: PartialEq + fmt::Display + ?Sized>(
        &mut self,
        rule: &'static str,
        expected: &T,
        found: &T,
    ) -> Result<(), Failed> {
        if expected != found {
            return Err(self.fail(rule, expected, found));
        }
        self.record.rule_of_equals(rule, found);
        Ok(())
    }

    /// Records a rule that does not hold.
    pub(crate) fn fail(
        &mut self,
        rule: &'static str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Failed {
        self.record.rule(rule, false, expected, found);
        Failed(())
    }

    /// The value, or the rule recorded as not held because of the error.
    pub(crate) fn accept<T, E: fmt::Display>(
        &mut self,
        rule: &'static str,
        expected: impl fmt::Display,
        result: Result<T, E>,
    ) -> Result<T, Failed> {
        result.map_err(|error| self.fail(rule, expected, error))
    }

    /// Records rule `collateral.age`: whether endorsements are young enough.
    pub(crate) fn require_age(
        &mut self,
        name: &str,
        issued: UnixTime,
        age_max_days: u32,
        now: UnixTime,
    ) -> Result<(), Failed> {
        self.require(
            "collateral.age",
            !now.is_later_by_more_than(age_max_days, issued),
            format_args!("{name} issued at most {age_max_days} days ago"),
            format_args!("{name} issued {} days ago", now.days_since(issued)),
        )
    }

    pub(crate) fn claim(
        &mut self,
        part: &'static str,
        name: &str,
        value: impl fmt::Display,
        voucher: Voucher,
    ) {
        self.record.claim(part, name, value, voucher);
    }

    /// Records what stands behind the platform's statement.
    pub(crate) fn stand(&mut self, standing: Standing) {
        self.standing = standing;
    }

    pub(crate) const fn standing(&self) -> Standing {
        self.standing
    }

    pub(crate) fn any_failed(&self) -> bool {
        self.record.any_failed()
    }

    pub(crate) fn into_record(self) -> Record {
        self.record
    }

    pub(crate) fn into_parts(self) -> (Vec<Claim>, Vec<RuleResult>) {
        (self.record.claims(), self.record.rules())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_does_not_hold_is_never_lost() {
        let mut ledger = Ledger::new();
        assert!(ledger.equal("a", &1, &1).is_ok());
        assert!(!ledger.any_failed());
        assert!(ledger.equal("b", &1, &2).is_err());
        assert!(ledger.accept("c", "a number", "x".parse::<u8>()).is_err());
        assert!(ledger.any_failed());
        let (_, rules) = ledger.into_parts();
        assert_eq!(rules.iter().map(|rule| rule.passed).collect::<Vec<_>>(), [true, false, false]);
    }
}
