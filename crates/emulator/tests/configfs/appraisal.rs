//! Evidence of the running emulator before the real verifier: the hardware's part of an appraisal.
//!
//! The agent's part (token, log, configuration) is the warden's to make: here it is empty, so every appraisal ends at
//! `agent.token`, after all rules of platform, box and composition.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use casemate_attester::Tsm;
use casemate_canon::{Sha384, to_canonical_json};
use casemate_protocol::Nonce;
use casemate_protocol::box_claims::{BOX_CLAIMS_TAG, BoxClaims};
use casemate_protocol::cmw::{Evidence, Platform};
use casemate_protocol::jwk::{ALG_ES256, EcJwk};
use casemate_testkit::{CollateralParts, CollateralSpec, DevPki, Revoked, Tee};
use casemate_verifier::{
    Collateral, Policy, Refused, SnpCollateral, TdxCollateral, UnixTime, VerifiedCollateral, Voucher,
    appraise,
};

use crate::emulator::{COMPOSITION, Emulator, in_mount_namespace};

/// Where an appraisal without an agent ends when nothing else is wrong.
const END: &str = "agent.token";

struct Case {
    evidence: Evidence,
    nonce: Nonce,
    policy: Policy,
    collateral: Collateral,
    pki: DevPki,
    now: u64,
}

impl Case {
    fn of(emulator: &Emulator) -> Self {
        let nonce: Nonce = serde_json::from_value("A".repeat(43).into()).unwrap();
        let claims = BoxClaims {
            casemate: BOX_CLAIMS_TAG.into(),
            nonce: nonce.clone(),
            box_key: EcJwk::from_point(ALG_ES256, &[4; 65]).unwrap(),
            composition: Sha384(COMPOSITION),
            log_head: Sha384::ZERO,
        };
        let report = Tsm::at(&emulator.report()).unwrap().report(&claims.report_data().unwrap().0).unwrap();
        let platform = match report.provider {
            casemate_attester::Provider::TdxGuest => Platform::Tdx { quote: report.outblob },
            casemate_attester::Provider::SevGuest => {
                Platform::Snp { report: report.outblob, certificates: report.auxblob }
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Self {
            evidence: Evidence {
                platform,
                box_claims: to_canonical_json(&claims).unwrap(),
                event_log: vec![],
                agent_token: vec![],
                agent_config: vec![],
                posture: vec![],
            },
            nonce,
            policy: policy(emulator),
            collateral: casemate_endorsements::read(&fs::read(emulator.state().join("bundle.json")).unwrap())
                .unwrap()
                .accept(&[])
                .unwrap(),
            pki: DevPki::load(&emulator.pki(), now).unwrap(),
            now,
        }
    }

    fn appraise(&self, policy: &Policy, collateral: &Collateral, now: u64) -> Refused {
        let mut collateral = VerifiedCollateral::verify(collateral);
        appraise(&self.evidence, &self.nonce, policy, &mut collateral, UnixTime(now)).unwrap_err()
    }

    fn assert_platform_and_box_pass(&self) {
        let refused = self.appraise(&self.policy, &self.collateral, self.now);
        let failed: Vec<&str> =
            refused.rules.iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule.as_str()).collect();
        assert_eq!(failed, [END], "{:?}", refused.first());
        for rule in ["platform.roots", "platform.signature", "box.report-data", "composition.launch-binding"]
        {
            assert!(refused.rules.iter().any(|tried| tried.detail.rule == rule), "{rule} was not tried");
        }
        // No part of it may claim to come from hardware.
        assert!(refused.claims.iter().any(|claim| claim.voucher == Voucher::Simulated));
        assert!(refused.claims.iter().all(|claim| claim.voucher != Voucher::Hardware));
    }

    /// Production roots, another development root, and thirty-one days later.
    fn assert_refused_under_production_roots_and_other_keys(&self) {
        let production = self.policy.clone().with_production_roots();
        let refused = self.appraise(&production, &self.collateral, self.now);
        assert_eq!(refused.first().rule, "platform.roots");

        let other = DevPki::generate(self.pki.tee(), self.now).unwrap();
        let refused = self.appraise(&self.policy, &collateral(other.collateral()), self.now);
        // TDX carries its chain in the quote, so the CRLs are strangers; the ARK comes with the collateral.
        let expected = if self.pki.tee() == Tee::Tdx { "platform.crl" } else { "platform.roots" };
        assert_eq!(refused.first().rule, expected);

        let later = self.appraise(&self.policy, &self.collateral, self.now + 31 * 24 * 3600);
        assert_eq!(later.first().rule, "platform.crl");
    }

    /// The first rule that fails under collateral issued in another way.
    fn first_with(&self, spec: &CollateralSpec) -> String {
        let collateral = collateral(self.pki.collateral_with(spec).unwrap());
        self.appraise(&self.policy, &collateral, self.now).first().rule
    }
}

/// The policy that follows from the emulator's own reference values.
fn policy(emulator: &Emulator) -> Policy {
    let values: serde_json::Value =
        serde_json::from_slice(&fs::read(emulator.state().join("reference-values.json")).unwrap()).unwrap();
    let platform = if values["tee"] == "tdx" {
        let list = |name: &str| format!("{name} = [{}]\n", values[name]);
        let registers = ["mrtd", "rtmr0", "rtmr1", "rtmr2"].map(list).concat();
        format!(
            "[platform.tdx]\ntcb-status = [\"UpToDate\"]\nrequire-sept-ve-disable = true\n\
             tcb-evaluation-min = 18\n{registers}"
        )
    } else {
        format!(
            "[platform.snp]\nmeasurement = [{}]\nvmpl = {}\nallow-smt = true\ncrl-age-max-days = 30\n\
             [platform.snp.products.{}]\n\
             tcb-min = {{ bootloader = 10, tee = 0, snp = 23, microcode = 84 }}\n",
            values["measurement"],
            values["vmpl"],
            values["product"].as_str().unwrap()
        )
    };
    let text = format!(
        "version = 1\n[platform]\ntee = [{}]\nroots = \"development\"\ndevelopment-roots = [{}]\n\
         collateral-age-max-days = 30\n{platform}[composition]\ndigest = \"{}\"\n\
         [agents.a]\nmeasurement = \"{}\"\nbackends = [\"native\"]\nsecrets = []\nallow-weaker = []\nallow-tainted = false\n",
        values["tee"],
        values["development-root"],
        Sha384(COMPOSITION),
        Sha384::ZERO
    );
    Policy::parse(&text).unwrap()
}

fn collateral(parts: CollateralParts) -> Collateral {
    match parts {
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

#[test]
fn tdx_evidence_passes_every_rule_of_platform_and_box_under_its_own_root_alone() {
    in_mount_namespace(
        "appraisal::tdx_evidence_passes_every_rule_of_platform_and_box_under_its_own_root_alone",
        || {
            let case = Case::of(&Emulator::start("tdx"));
            case.assert_platform_and_box_pass();
            case.assert_refused_under_production_roots_and_other_keys();
            let good = CollateralSpec::at(case.now);
            assert_eq!(case.first_with(&good), END);
            for (revoked, rule) in [
                (Revoked::Leaf, "platform.crl"),
                (Revoked::Intermediate, "platform.crl"),
                (Revoked::CollateralSigner, "tdx.tcb-info"),
            ] {
                let spec = CollateralSpec { revoked, ..good.clone() };
                assert_eq!(case.first_with(&spec), rule, "{revoked:?}");
            }
            let old = || "OutOfDate".to_owned();
            for spec in [
                CollateralSpec { platform_status: old(), ..good.clone() },
                CollateralSpec { module_status: old(), ..good.clone() },
                CollateralSpec { qe_status: old(), ..good },
            ] {
                assert_eq!(case.first_with(&spec), "tdx.tcb-status", "{spec:?}");
            }
        },
    );
}

#[test]
fn snp_evidence_passes_every_rule_of_platform_and_box_under_its_own_root_alone() {
    in_mount_namespace(
        "appraisal::snp_evidence_passes_every_rule_of_platform_and_box_under_its_own_root_alone",
        || {
            let case = Case::of(&Emulator::start("snp"));
            case.assert_platform_and_box_pass();
            case.assert_refused_under_production_roots_and_other_keys();
            let good = CollateralSpec::at(case.now);
            assert_eq!(case.first_with(&good), END);
            let revoked = Revoked::Intermediate;
            assert_eq!(case.first_with(&CollateralSpec { revoked, ..good }), "platform.crl");
        },
    );
}
