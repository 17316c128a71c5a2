//! Attributes and features of a trust domain, as bits.
//!
//! Source: Intel TDX module ABI specification 348551-008, tables TD_ATTRIBUTES and XFAM.

use std::fmt;

/// Bits of TD_ATTRIBUTES.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TdAttributes(pub u64);

/// Bits that are no reason to refuse: LASS, SEPT_VE_DISABLE, protection keys, key locker.
const HARMLESS: TdAttributes = TdAttributes(1 << 27 | 1 << 28 | 1 << 30 | 1 << 31);

/// Names in a policy. Bits 6:4 let the host profile the guest.
const NAMED: [(&str, TdAttributes); 4] = [
    ("debug", TdAttributes(1)),
    ("profiling", TdAttributes(0x70)),
    ("migratable", TdAttributes(1 << 29)),
    ("perfmon", TdAttributes(1 << 63)),
];

/// XFAM bits that are always set, and those that the specification knows.
const XFAM_FIXED_1: u64 = 0x3;
const XFAM_KNOWN: u64 = 0x6_dbe7;

impl TdAttributes {
    /// No bit.
    pub const NONE: Self = Self(0);
    /// The host may debug the guest: nothing in it is secret.
    pub const DEBUG: Self = Self(1);
    /// Bits 7:0: any of them means that the host can look into the guest, which is then not to be trusted.
    pub const UNTRUSTED: Self = Self(0xff);
    /// No virtualization exception where the host takes a page away.
    pub const SEPT_VE_DISABLE: Self = Self(1 << 28);
    /// A migration trust domain may move it.
    pub const MIGRATABLE: Self = Self(1 << 29);

    /// From its name in a policy: `debug`, `profiling`, `migratable`, `perfmon`, or `bit-<number>` for any single bit.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some((_, bits)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Some(*bits);
        }
        let number = name.strip_prefix("bit-")?;
        let bits = Self(1_u64.checked_shl(number.parse().ok()?)?);
        // One name for one thing: no leading zeros, no number for what has a name.
        (bits.names() == [name]).then_some(bits)
    }

    /// Names of what is set.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let mut names = Vec::new();
        let mut rest = self.0;
        for (name, Self(bits)) in NAMED {
            if self.0 & bits == bits {
                names.push(name.to_owned());
                rest &= !bits;
            }
        }
        names.extend((0..64).filter(|bit| rest & (1 << bit) != 0).map(|bit| format!("bit-{bit}")));
        names
    }

    /// All bits of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is set and neither harmless nor allowed.
    pub(crate) const fn beyond(self, allowed: Self) -> Self {
        Self(self.0 & !HARMLESS.0 & !allowed.0)
    }
}

impl fmt::Display for TdAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// What is wrong with XFAM, if anything: bits that are missing, and bits that are neither known nor allowed.
pub(crate) const fn xfam_defects(xfam: u64, allowed: u64) -> Option<(u64, u64)> {
    let missing = XFAM_FIXED_1 & !xfam;
    let beyond = xfam & !(XFAM_KNOWN | allowed);
    if missing == 0 && beyond == 0 { None } else { Some((missing, beyond)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_has_one_name_that_reads_back() {
        for bit in 0..64 {
            let bits = TdAttributes(1 << bit);
            if (4..=6).contains(&bit) {
                continue;
            }
            let [name] = bits.names().try_into().unwrap();
            assert_eq!(TdAttributes::from_name(&name), Some(bits), "{name}");
        }
        for bad in ["bit-0", "bit-64", "bit-07", "bit-", "Debug", "bit-29", ""] {
            assert_eq!(TdAttributes::from_name(bad), None, "{bad}");
        }
        assert_eq!(TdAttributes::from_name("profiling"), Some(TdAttributes(0x70)));
    }

    #[test]
    fn each_bit_but_the_harmless_ones_must_be_allowed() {
        for bit in 0..64 {
            let bits = TdAttributes(1 << bit);
            let harmless = [27, 28, 30, 31].contains(&bit);
            assert_eq!(bits.beyond(TdAttributes::NONE) == TdAttributes::NONE, harmless, "{bit}");
            assert_eq!(bits.beyond(bits), TdAttributes::NONE);
        }
    }

    #[test]
    fn xfam_has_its_two_fixed_bits_and_no_unknown_one() {
        assert_eq!(xfam_defects(0x6_1ae7, 0), None);
        assert_eq!(xfam_defects(0x1, 0), Some((2, 0)));
        assert_eq!(xfam_defects(0x3 | 1 << 62, 0), Some((0, 1 << 62)));
        assert_eq!(xfam_defects(0x3 | 1 << 62, 1 << 62), None);
    }
}
