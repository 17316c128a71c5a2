//! AMD's processor products, and the layout of their security versions.

use std::fmt;

use casemate_evidence::snp::Cpuid;

use crate::roots::VendorRoot;

/// A processor product with a root key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnpProduct {
    /// Zen 3 servers.
    Milan,
    /// Zen 4 servers; Bergamo and Siena count as Genoa.
    Genoa,
    /// Zen 5 servers.
    Turin,
}

impl SnpProduct {
    /// Each of them, oldest first.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// AMD's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// Why a policy that accepts this product must say so explicitly, where there is a reason.
    #[must_use]
    pub const fn weakness(self) -> Option<&'static str> {
        match self {
            Self::Milan => Some("published attacks reach the seed of its VCEK (arXiv 2605.12990)"),
            Self::Genoa | Self::Turin => None,
        }
    }

    /// Common name of its root.
    pub(crate) const fn root_name(self) -> &'static str {
        match self {
            Self::Milan => "ARK-Milan",
            Self::Genoa => "ARK-Genoa",
            Self::Turin => "ARK-Turin",
        }
    }

    pub(crate) const fn root(self) -> VendorRoot {
        match self {
            Self::Milan => VendorRoot::AmdMilan,
            Self::Genoa => VendorRoot::AmdGenoa,
            Self::Turin => VendorRoot::AmdTurin,
        }
    }

    /// The product with this processor, by family and model as CPUID gives them: Milan (0x00 to 0x0f), Genoa (0x10 to
    /// 0x1f) with Bergamo and Siena (0xa0 to 0xaf), and Turin.
    pub(crate) const fn from_cpuid(cpuid: Cpuid) -> Option<Self> {
        match (cpuid.family, cpuid.model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }
}

impl fmt::Display for SnpProduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Security versions of a platform, each by itself (56860, table "TCB_VERSION").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcbVersion {
    /// Turin only; zero elsewhere.
    pub(crate) fmc: u8,
    pub(crate) bootloader: u8,
    pub(crate) tee: u8,
    pub(crate) snp: u8,
    pub(crate) microcode: u8,
}

impl TcbVersion {
    /// From the bytes of a report; none where reserved bytes are set.
    pub(crate) const fn read(bytes: [u8; 8], product: SnpProduct) -> Option<Self> {
        match (product, bytes) {
            (SnpProduct::Milan | SnpProduct::Genoa, [bootloader, tee, 0, 0, 0, 0, snp, microcode]) => {
                Some(Self { fmc: 0, bootloader, tee, snp, microcode })
            }
            (SnpProduct::Turin, [fmc, bootloader, tee, snp, 0, 0, 0, microcode]) => {
                Some(Self { fmc, bootloader, tee, snp, microcode })
            }
            _ => None,
        }
    }

    /// Whether each component is at least that of `other`.
    pub(crate) const fn reaches(&self, other: &Self) -> bool {
        self.fmc >= other.fmc
            && self.bootloader >= other.bootloader
            && self.tee >= other.tee
            && self.snp >= other.snp
            && self.microcode >= other.microcode
    }
}

impl fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        write!(f, "fmc {fmc} bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_processors_of_each_product_and_no_other() {
        let product = |family, model| SnpProduct::from_cpuid(Cpuid { family, model, stepping: 0 });
        for model in 0..=u8::MAX {
            let zen4 = (0x10..=0x1f).contains(&model) || (0xa0..=0xaf).contains(&model);
            let expected = if model <= 0x0f {
                Some(SnpProduct::Milan)
            } else if zen4 {
                Some(SnpProduct::Genoa)
            } else {
                None
            };
            assert_eq!(product(0x19, model), expected, "{model:#x}");
            assert_eq!(product(0x1a, model), (model <= 0x11).then_some(SnpProduct::Turin), "{model:#x}");
            for family in [0, 0x17, 0x18, 0x1b, 0xff] {
                assert_eq!(product(family, model), None);
            }
        }
    }

    #[test]
    fn reads_each_layout_and_refuses_its_reserved_bytes() {
        for product in SnpProduct::ALL {
            let reserved: &[usize] = if product == SnpProduct::Turin { &[4, 5, 6] } else { &[2, 3, 4, 5] };
            let mut bytes = [1, 2, 3, 4, 5, 6, 7, 8];
            for offset in reserved {
                bytes[*offset] = 0;
            }
            let read = TcbVersion::read(bytes, product).unwrap();
            let TcbVersion { fmc, bootloader, tee, snp, microcode } = read;
            let expected = if product == SnpProduct::Turin { [1, 2, 3, 4, 8] } else { [0, 1, 2, 7, 8] };
            assert_eq!([fmc, bootloader, tee, snp, microcode], expected);
            for offset in reserved {
                let mut set = bytes;
                set[*offset] = 1;
                assert_eq!(TcbVersion::read(set, product), None, "{product} {offset}");
            }
        }
    }

    #[test]
    fn past_bug_16_versions_are_compared_one_by_one_and_never_as_a_number() {
        let low = TcbVersion { fmc: 1, bootloader: 1, tee: 1, snp: 1, microcode: 1 };
        assert!(low.reaches(&low));
        let components: [fn(&mut TcbVersion) -> &mut u8; 5] = [
            |tcb| &mut tcb.fmc,
            |tcb| &mut tcb.bootloader,
            |tcb| &mut tcb.tee,
            |tcb| &mut tcb.snp,
            |tcb| &mut tcb.microcode,
        ];
        for component in components {
            // One component is too low, and all others are as high as they can be.
            let mut found = TcbVersion { fmc: 255, bootloader: 255, tee: 255, snp: 255, microcode: 255 };
            *component(&mut found) = 0;
            assert!(!found.reaches(&low), "{found}");
        }
    }
}
