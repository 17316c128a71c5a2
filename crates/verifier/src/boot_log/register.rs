//! Registers that firmware extends, and the values that evidence states for them.

use std::fmt;

use casemate_evidence::TpmHash;

/// Which registers a log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterKind {
    /// Run-time measurement registers of a TDX trust domain, SHA-384; the log is a CCEL.
    Rtmr,
    /// Platform configuration registers of a TPM, in one or more banks; the log is a TCG2 log.
    Pcr,
}

impl RegisterKind {
    /// How many registers there are: RTMR0 to RTMR3, PCR0 to PCR23.
    #[must_use]
    pub const fn count(self) -> u8 {
        match self {
            Self::Rtmr => 4,
            Self::Pcr => 24,
        }
    }

    /// The register at this index of a log. In a CCEL index 0 is MRTD, which nothing extends after launch, and
    /// index `n + 1` is RTMR `n` (UEFI specification 2.10, section 38.4.1).
    pub(super) fn at(self, index: u32) -> Option<Register> {
        let number = match self {
            Self::Rtmr => index.checked_sub(1)?,
            Self::Pcr => index,
        };
        Register::new(self, u8::try_from(number).ok()?)
    }
}

/// One register. It exists: its number is below [`RegisterKind::count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register {
    kind: RegisterKind,
    number: u8,
}

impl Register {
    /// The register of this kind and number, where there is one.
    #[must_use]
    pub fn new(kind: RegisterKind, number: u8) -> Option<Self> {
        (number < kind.count()).then_some(Self { kind, number })
    }

    /// The register of this name: `rtmr0` to `rtmr3`, `pcr0` to `pcr23`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let (kind, number) = match name.strip_prefix("rtmr") {
            Some(number) => (RegisterKind::Rtmr, number),
            None => (RegisterKind::Pcr, name.strip_prefix("pcr")?),
        };
        let register = Self::new(kind, number.parse().ok()?)?;
        // No sign, no leading zero: one spelling each.
        (register.to_string() == name).then_some(register)
    }

    /// Which kind of register.
    #[must_use]
    pub const fn kind(self) -> RegisterKind {
        self.kind
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.number
    }

    /// The rule that the log replays to its value.
    pub(super) fn rule(self) -> &'static str {
        let rules: &[&'static str] = match self.kind {
            RegisterKind::Rtmr => &RTMR_RULES,
            RegisterKind::Pcr => &PCR_RULES,
        };
        rules.get(usize::from(self.number)).copied().unwrap_or("boot-log.register")
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RegisterKind::Rtmr => write!(f, "rtmr{}", self.number),
            RegisterKind::Pcr => write!(f, "pcr{}", self.number),
        }
    }
}

/// What evidence states for one register, after its signature held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterValue<'a> {
    /// Number of the register.
    pub number: u8,
    /// Its bank; RTMRs are SHA-384.
    pub bank: TpmHash,
    /// Its value.
    pub value: &'a [u8],
}

/// The registers that evidence states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured<'a> {
    /// Which kind all of them are.
    pub kind: RegisterKind,
    /// Each value.
    pub values: &'a [RegisterValue<'a>],
}

const RTMR_RULES: [&str; 4] = ["boot-log.rtmr0", "boot-log.rtmr1", "boot-log.rtmr2", "boot-log.rtmr3"];
const PCR_RULES: [&str; 24] = [
    "boot-log.pcr0",
    "boot-log.pcr1",
    "boot-log.pcr2",
    "boot-log.pcr3",
    "boot-log.pcr4",
    "boot-log.pcr5",
    "boot-log.pcr6",
    "boot-log.pcr7",
    "boot-log.pcr8",
    "boot-log.pcr9",
    "boot-log.pcr10",
    "boot-log.pcr11",
    "boot-log.pcr12",
    "boot-log.pcr13",
    "boot-log.pcr14",
    "boot-log.pcr15",
    "boot-log.pcr16",
    "boot-log.pcr17",
    "boot-log.pcr18",
    "boot-log.pcr19",
    "boot-log.pcr20",
    "boot-log.pcr21",
    "boot-log.pcr22",
    "boot-log.pcr23",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_has_one_name_and_its_own_rule() {
        for kind in [RegisterKind::Rtmr, RegisterKind::Pcr] {
            for number in 0..kind.count() {
                let register = Register::new(kind, number).unwrap();
                assert_eq!(Register::from_name(&register.to_string()), Some(register));
                assert_eq!(register.rule(), format!("boot-log.{register}"));
            }
            assert_eq!(Register::new(kind, kind.count()), None);
        }
        for name in ["rtmr4", "pcr24", "pcr07", "pcr+7", "pcr", "mrtd", "PCR7", "rtmr256", ""] {
            assert_eq!(Register::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn index_0_of_a_ccel_is_no_run_time_register() {
        assert_eq!(RegisterKind::Rtmr.at(0), None);
        assert_eq!(RegisterKind::Rtmr.at(1), Register::new(RegisterKind::Rtmr, 0));
        assert_eq!(RegisterKind::Rtmr.at(4), Register::new(RegisterKind::Rtmr, 3));
        assert_eq!(RegisterKind::Rtmr.at(5), None);
        assert_eq!(RegisterKind::Rtmr.at(u32::MAX), None);
        assert_eq!(RegisterKind::Pcr.at(0), Register::new(RegisterKind::Pcr, 0));
        assert_eq!(RegisterKind::Pcr.at(23), Register::new(RegisterKind::Pcr, 23));
        assert_eq!(RegisterKind::Pcr.at(24), None);
        assert_eq!(RegisterKind::Pcr.at(0x100), None);
    }
}
