//! What Intel's certificate chains have in common: names, roles, and the root.

use casemate_canon::Sha256;

use crate::ledger::{Failed, Ledger};
use crate::roots::{Roots, VendorRoot, production_root_named};
use crate::x509::{Certificate, X509Error};

pub(super) const PCK_LEAF: &str = "Intel SGX PCK Certificate";
pub(super) const PCK_ISSUERS: [&str; 2] = ["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"];
pub(super) const TCB_SIGNER: &str = "Intel SGX TCB Signing";

/// Records rule `platform.roots`: that the root's key is one the policy accepts.
pub(crate) fn require_root_key(
    ledger: &mut Ledger,
    name: &str,
    key: &Sha256,
    roots: &Roots,
    vendor: VendorRoot,
) -> Result<(), Failed> {
    let kind = match production_root_named(key) {
        Some(_) => "production root",
        None => "development root (no vendor's)",
    };
    ledger.require(
        "platform.roots",
        roots.accept(vendor, key),
        roots.describe(vendor),
        format_args!("{kind} `{name}` with key {key}"),
    )
}

/// That a root's certificate is what its key signed.
pub(crate) fn require_self_signed(root: &Certificate<'_>) -> Result<(), X509Error> {
    root.require_issued_by(root)?;
    root.require_issuer_role(1)
}

/// That `root` issued `issuer`, which may issue leaves.
pub(super) fn require_signed_issuer(
    issuer: &Certificate<'_>,
    root: &Certificate<'_>,
) -> Result<(), X509Error> {
    issuer.require_issued_by(root)?;
    issuer.require_issuer_role(0)
}
