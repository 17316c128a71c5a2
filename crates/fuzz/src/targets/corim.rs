//! Reference values as CoRIM, in CBOR.

use casemate_endorsements::{CorimSigner, read_corim};
use casemate_verifier::UnixTime;
use corim::builder::{ComidBuilder, CorimBuilder};
use corim::types::common::{MeasuredElement, TagIdChoice};
use corim::types::corim::CorimId;
use corim::types::environment::EnvironmentMap;
use corim::types::measurement::{Digest, MeasurementMap, MeasurementValuesMap};
use corim::types::triples::ReferenceTriple;

use super::outcome;
use crate::seeds::NOW;
use crate::{Bound, Target};

pub(super) fn all() -> Vec<Target> {
    vec![Target {
        name: "corim",
        what: "casemate_endorsements::read_corim",
        seeds: || whole().into_iter().collect(),
        // Openings, and lengths of more than there can be.
        words: &[
            &[0x81],
            &[0xa1, 1],
            &[0xd9, 1, 0xf5],
            &[0x9f],
            &[0xbf],
            &[0xff],
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x9a, 0x0f, 0xff, 0xff, 0xff],
            &[0xba, 0x0f, 0xff, 0xff, 0xff],
            &[0x7a, 0x0f, 0xff, 0xff, 0xff],
            &[0x58, 0x30],
            &[0xf6],
        ],
        run: |input| {
            let result = read_corim(input, &CorimSigner::Unsigned, UnixTime(NOW));
            Ok(outcome(result, |_| String::new()))
        },
        bound: Bound {
            input_bytes_max: 64 << 10,
            // The library makes room for what an array announces, up to a bound of its own at each level.
            allocation_bytes: 4 << 20,
            allocation_bytes_per_input_byte: 256,
            time_us: 10_000,
            time_ns_per_input_byte: 2_000,
        },
    }]
}

/// Reference values of a TDX box.
fn whole() -> Option<Vec<u8>> {
    let measured = |(name, byte): (&str, u8)| {
        let mut mval = MeasurementValuesMap::new();
        mval.digests = Some(vec![Digest::new(7, vec![byte; 48])]);
        MeasurementMap { mkey: Some(MeasuredElement::Text(name.into())), mval, authorized_by: None }
    };
    let registers = ["mrtd", "rtmr0", "rtmr1", "rtmr2"].into_iter().zip(1..).map(measured).collect();
    let triple = ReferenceTriple::new(EnvironmentMap::for_class("Intel", "TDX"), registers);
    let comid =
        ComidBuilder::new(TagIdChoice::Text("tag".into())).add_reference_triple(triple).build().ok()?;
    CorimBuilder::new(CorimId::Text("test".into())).add_comid_tag(comid).ok()?.build_bytes().ok()
}
