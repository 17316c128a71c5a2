//! What the emulator leaves in its state directory for policy and verifier.

use std::fs;
use std::io;
use std::path::Path;

use casemate_testkit::{CollateralParts, DevPki, PRODUCT, Tee};
use casemate_verifier::{Collateral, SnpCollateral, TdxCollateral};
use serde_json::{Value, json};

use crate::launch::LaunchMeasurements;

/// What a policy should expect of this machine.
pub(crate) fn reference_values(pki: &DevPki, launch: &LaunchMeasurements) -> Value {
    let root = pki.root_spki_sha256().to_string();
    match pki.tee() {
        Tee::Tdx => json!({
            "tee": "tdx",
            "mrtd": launch.mrtd().to_hex(),
            "rtmr0": launch.rtmr0().to_hex(),
            "rtmr1": launch.rtmr1().to_hex(),
            "rtmr2": launch.rtmr2().to_hex(),
            "development-root": root,
        }),
        Tee::Snp => json!({
            "tee": "snp",
            "measurement": launch.snp_measurement().to_hex(),
            "vmpl": 0,
            "product": PRODUCT,
            "development-root": root,
        }),
    }
}

/// Writes `reference-values.json` and `bundle.json`.
pub(crate) fn write(state: &Path, reference_values: &Value, pki: &DevPki) -> io::Result<()> {
    write_whole(state, "reference-values.json", format!("{reference_values:#}\n").as_bytes())?;
    write_whole(state, "bundle.json", &casemate_endorsements::write(&collateral(pki)))
}

fn collateral(pki: &DevPki) -> Collateral {
    match pki.collateral() {
        CollateralParts::Tdx(parts) => Collateral {
            tdx: Some(TdxCollateral {
                root_ca_crl: parts.root_ca_crl,
                pck_crl: parts.pck_crl,
                pck_crl_chain: parts.pck_crl_chain,
                tcb_info: parts.tcb_info,
                tcb_info_chain: parts.tcb_info_chain,
                qe_identity: parts.qe_identity,
                qe_identity_chain: parts.qe_identity_chain,
            }),
            snp: None,
        },
        CollateralParts::Snp(parts) => Collateral {
            tdx: None,
            snp: Some(SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: Some(parts.vek) }),
        },
    }
}

/// Written beside its place and renamed, so that no reader sees half of it.
fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    fs::write(&fresh, bytes)?;
    fs::rename(&fresh, dir.join(name))
}
