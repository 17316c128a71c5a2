//! The bits of an SNP report's guest policy and platform information, by name.
//!
//! Source: AMD SEV Secure Nested Paging Firmware ABI Specification (56860), tables "Guest Policy" and
//! "PLATFORM_INFO". A bit without a name here is unknown: later firmware may give it a meaning.

/// Guest policy bits that have a meaning: the ABI version (15:0) and those of [`PolicyBit`].
const POLICY_KNOWN: u64 = 0x03ff_ffff;

/// A bit of the guest policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyBit {
    /// Bit 16: simultaneous multithreading is allowed.
    Smt,
    /// Bit 17: reserved, must be one.
    AlwaysOne,
    /// Bit 18: the guest may be associated with a migration agent.
    MigrationAgent,
    /// Bit 19: the host may debug the guest.
    Debug,
    /// Bit 20: the guest may run on one socket only.
    SingleSocket,
    /// Bit 21: devices and memory on CXL are allowed.
    Cxl,
    /// Bit 22: memory must be encrypted with AES-256 in XTS mode.
    MemAes256Xts,
    /// Bit 23: running average power limit must be disabled.
    RaplDis,
    /// Bit 24: ciphertext hiding for DRAM must be enabled.
    CiphertextHiding,
    /// Bit 25: the guest's pages cannot be moved or swapped.
    PageSwapDisable,
}

impl PolicyBit {
    /// Each of them, lowest first.
    pub const ALL: [Self; 10] = [
        Self::Smt,
        Self::AlwaysOne,
        Self::MigrationAgent,
        Self::Debug,
        Self::SingleSocket,
        Self::Cxl,
        Self::MemAes256Xts,
        Self::RaplDis,
        Self::CiphertextHiding,
        Self::PageSwapDisable,
    ];

    /// Name in policies and claims.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smt => "smt",
            Self::AlwaysOne => "always-one",
            Self::MigrationAgent => "migration-agent",
            Self::Debug => "debug",
            Self::SingleSocket => "single-socket",
            Self::Cxl => "cxl",
            Self::MemAes256Xts => "mem-aes-256-xts",
            Self::RaplDis => "rapl-dis",
            Self::CiphertextHiding => "ciphertext-hiding",
            Self::PageSwapDisable => "page-swap-disable",
        }
    }

    /// The policy with this bit alone.
    #[must_use]
    pub const fn mask(self) -> u64 {
        match self {
            Self::Smt => 1 << 16,
            Self::AlwaysOne => 1 << 17,
            Self::MigrationAgent => 1 << 18,
            Self::Debug => 1 << 19,
            Self::SingleSocket => 1 << 20,
            Self::Cxl => 1 << 21,
            Self::MemAes256Xts => 1 << 22,
            Self::RaplDis => 1 << 23,
            Self::CiphertextHiding => 1 << 24,
            Self::PageSwapDisable => 1 << 25,
        }
    }
}

/// A guest policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Lowest ABI version that the guest asks for: major, minor.
    #[must_use]
    pub const fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }

    /// Whether the bit is set.
    #[must_use]
    pub const fn has(self, bit: PolicyBit) -> bool {
        self.0 & bit.mask() != 0
    }

    /// The bits that are set and have no name here.
    #[must_use]
    pub const fn unknown(self) -> u64 {
        self.0 & !POLICY_KNOWN
    }
}

/// A bit of the platform information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlatformBit {
    /// Bit 0: simultaneous multithreading is on.
    Smt,
    /// Bit 1: all memory is encrypted, the host's too.
    Tsme,
    /// Bit 2: memory has error correction.
    Ecc,
    /// Bit 3: running average power limit is disabled.
    RaplDis,
    /// Bit 4: ciphertext hiding for DRAM is on.
    CiphertextHiding,
    /// Bit 5: no memory address is an alias of another, checked since the last reset (BadRAM).
    AliasCheckComplete,
    /// Bit 7: trusted IO (SEV-TIO) is on.
    Tio,
}

impl PlatformBit {
    /// Each of them, lowest first.
    pub const ALL: [Self; 7] = [
        Self::Smt,
        Self::Tsme,
        Self::Ecc,
        Self::RaplDis,
        Self::CiphertextHiding,
        Self::AliasCheckComplete,
        Self::Tio,
    ];

    /// Name in policies and claims.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smt => "smt",
            Self::Tsme => "tsme",
            Self::Ecc => "ecc",
            Self::RaplDis => "rapl-dis",
            Self::CiphertextHiding => "ciphertext-hiding",
            Self::AliasCheckComplete => "alias-check-complete",
            Self::Tio => "tio",
        }
    }

    /// The platform information with this bit alone.
    #[must_use]
    pub const fn mask(self) -> u64 {
        match self {
            Self::Smt => 1,
            Self::Tsme => 1 << 1,
            Self::Ecc => 1 << 2,
            Self::RaplDis => 1 << 3,
            Self::CiphertextHiding => 1 << 4,
            Self::AliasCheckComplete => 1 << 5,
            Self::Tio => 1 << 7,
        }
    }
}

/// Platform information: what the host's processor has on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

impl PlatformInfo {
    /// Whether the bit is set.
    #[must_use]
    pub const fn has(self, bit: PlatformBit) -> bool {
        self.0 & bit.mask() != 0
    }

    /// The bits that are set and have no name here: 6, and 8 and up.
    #[must_use]
    pub const fn unknown(self) -> u64 {
        self.0 & !0xbf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_bit_and_each_known_bit_one_name() {
        let policy = PolicyBit::ALL.iter().fold(0xffff, |bits, bit| bits + bit.mask());
        assert_eq!(policy, POLICY_KNOWN);
        let platform = PlatformBit::ALL.iter().fold(0, |bits, bit| bits + bit.mask());
        assert_eq!(PlatformInfo(u64::MAX).unknown(), !platform);
        assert_eq!(GuestPolicy(u64::MAX).unknown(), !policy);
        assert!(PolicyBit::ALL.iter().all(|bit| bit.mask().is_power_of_two()));
        assert!(PlatformBit::ALL.iter().all(|bit| bit.mask().is_power_of_two()));
    }

    #[test]
    fn reads_real_values() {
        let azure = GuestPolicy(0x3_001f);
        assert_eq!((azure.abi(), azure.unknown()), ((0, 31), 0));
        let set = |policy: GuestPolicy| PolicyBit::ALL.map(|bit| policy.has(bit)).map(u8::from);
        assert_eq!(set(azure), [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(set(GuestPolicy(0xb_0000)), [1, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        let turin = PlatformInfo(0x65);
        let set = PlatformBit::ALL.map(|bit| turin.has(bit)).map(u8::from);
        assert_eq!((set, turin.unknown()), ([1, 0, 1, 0, 0, 1, 0], 0x40));
    }
}
