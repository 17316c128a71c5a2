//! What a bundle's parts say of themselves, for people. Nothing here is verified.

use casemate_verifier::{
    Collateral, CollateralFact, CollateralPart, UnixTime, collateral_dates, collateral_facts,
};

/// The dates of every part of a bundle, and until when all of them hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Part by part, in the order of the file.
    pub parts: Vec<CollateralPart>,
    /// What the parts say besides: numbers, counts, names.
    pub facts: Vec<CollateralFact>,
    /// From when all parts hold; none where a part cannot be read.
    pub usable_from: Option<UnixTime>,
    /// Time after which the first part no longer holds; none where a part cannot be read.
    pub usable_until: Option<UnixTime>,
    /// The part that is the first to no longer hold; none where a part cannot be read.
    pub first_to_expire: Option<&'static str>,
}

/// Looks at every part of a bundle.
#[must_use]
pub fn inspect(collateral: &Collateral) -> Inspection {
    let parts = collateral_dates(collateral);
    let dates: Result<Vec<(&'static str, UnixTime, UnixTime)>, _> = parts
        .iter()
        .map(|part| part.dates.as_ref().map(|(from, until)| (part.name, *from, *until)))
        .collect();
    let dates = dates.unwrap_or_default();
    let first = dates.iter().min_by_key(|(_, _, until)| *until);
    Inspection {
        facts: collateral_facts(collateral),
        usable_from: dates.iter().map(|(_, from, _)| *from).max(),
        usable_until: first.map(|(_, _, until)| *until),
        first_to_expire: first.map(|(name, _, _)| *name),
        parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_testkit::{COLLATERAL_SECONDS, CollateralParts, DevPki, Tee};
    use casemate_verifier::TdxCollateral;

    const NOW: u64 = 1_780_272_000;

    fn bundle() -> Collateral {
        let pki = DevPki::generate(Tee::Tdx, NOW).unwrap();
        let CollateralParts::Tdx(parts) = pki.collateral() else { panic!() };
        let tdx = TdxCollateral {
            root_ca_crl: parts.root_ca_crl,
            pck_crl: parts.pck_crl,
            pck_crl_chain: parts.pck_crl_chain,
            tcb_info: parts.tcb_info,
            tcb_info_chain: parts.tcb_info_chain,
            qe_identity: parts.qe_identity,
            qe_identity_chain: parts.qe_identity_chain,
        };
        Collateral { tdx: Some(tdx), snp: None }
    }

    #[test]
    fn tells_until_when_a_bundle_holds() {
        let inspection = inspect(&bundle());
        assert_eq!(inspection.parts.len(), 7);
        assert!(inspection.parts.iter().all(|part| part.dates.is_ok()), "{inspection:?}");
        assert_eq!(inspection.usable_from, Some(UnixTime(NOW - 3600)));
        assert_eq!(inspection.usable_until, Some(UnixTime(NOW + COLLATERAL_SECONDS)));
        assert_eq!(inspection.first_to_expire, Some("tdx.root_ca_crl"));
        assert!(inspection.facts.iter().any(|fact| fact.part == "tdx.tcb_info" && fact.name == "fmspc"));
    }

    #[test]
    fn names_the_part_that_cannot_be_read() {
        let mut bundle = bundle();
        if let Some(tdx) = &mut bundle.tdx {
            tdx.pck_crl.truncate(10);
        }
        let inspection = inspect(&bundle);
        let unread: Vec<_> = inspection.parts.iter().filter(|part| part.dates.is_err()).collect();
        assert_eq!(unread.iter().map(|part| part.name).collect::<Vec<_>>(), ["tdx.pck_crl"]);
        assert_eq!((inspection.usable_from, inspection.usable_until), (None, None));
        assert_eq!(inspection.first_to_expire, None);
    }
}
