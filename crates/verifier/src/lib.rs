//! Appraisal of evidence: pure, offline; time, nonce and expectations are arguments and mandatory.
//!
//! What it is: verification of TDX quotes and SEV-SNP reports up to a root that the policy names, and of everything
//! that hangs on them: box claims, event log, agent token, agent configuration. What it is not: IO; it fetches
//! nothing, has no clock and no randomness, and it releases nothing: it gives a [`Grant`] or a [`Refused`].
//! Who trusts it: broker, command line, and whoever reads their results.
//!
//! Every rule has a name, and every refusal says which rule, what it expected and what it found.

mod appraisal;
mod appraise;
mod asn1;
mod boot_log;
mod cache;
mod collateral;
mod collateral_check;
mod crl;
mod dates;
mod ear;
mod facts;
mod hex_text;
mod jwt;
mod known_signatures;
mod ledger;
mod platform;
mod policy;
mod record;
mod roots;
mod snp;
mod tdx;
mod time;
mod verified_collateral;
mod vtpm;
mod x509;

pub use appraisal::{Appraisal, Grant, PlatformAppraisal, Refused};
pub use appraise::{Binding, appraise, appraise_platform};
pub use boot_log::{BootLogRow, EventLabel, Measured, Register, RegisterKind, RegisterValue, boot_log_rows};
pub use collateral::{Collateral, SnpCollateral, TdxCollateral};
pub use collateral_check::check_collateral;
pub use dates::{CollateralPart, DatesError, collateral_dates};
pub use ear::{Challenge, name_collateral, require_not_contraindicated};
pub use facts::{
    CollateralFact, FactsError, PckCa, PckFacts, SnpSecurityVersions, collateral_facts, pck_facts,
    product_of_processor, security_versions, vek_product,
};
pub use jwt::{JWT_BYTES_MAX, verify_jwt};
pub use ledger::{Claim, RuleResult, Voucher};
pub use policy::{
    AddedEdges, AgentExpectations, Apart, BootLogExpectations, BootLogPresence, CompositionExpectations,
    DataMismatch, ExpectedEvents, GoogleExpectations, KeyUsage, Measurement, OwnerExpectations,
    POLICY_BYTES_MAX, PcrBank, PlatformProperty, Policy, PolicyError, PolicyValues, PostureExpectations,
    SeptVeDisable, Smt, SnpAllowance, SnpAllowances, SnpChip, SnpExpectations, SnpFirmware, SnpRequirements,
    SnpTcbMin, Taint, TdxExpectations, VtpmExpectations, WiderAge,
};
pub use roots::Roots;
pub use snp::SnpProduct;
pub use tdx::{TcbStatus, TdAttributes};
pub use time::UnixTime;
pub use verified_collateral::VerifiedCollateral;
