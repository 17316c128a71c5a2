//! Intel's endorsements by themselves: what a quote would be verified with, without one.

use super::chains::require_root_key;
use super::endorsed::{Crls, Document, DocumentError, Endorsed};
use super::quote::{QE_IDENTITY, TCB_INFO};
use crate::ledger::{Failed, Ledger};
use crate::roots::{Roots, VendorRoot};
use crate::time::UnixTime;
use crate::x509::X509Error;

impl Endorsed {
    /// Records, for both CRLs and each document, whether it leads to an accepted root and holds at `now`.
    pub(crate) fn check(&self, ledger: &mut Ledger, roots: &Roots, now: UnixTime) {
        // Whatever fails is in the ledger.
        let crls = self.crls.as_ref();
        let _recorded = check_crls(ledger, crls, roots, now);
        let crls = crls.ok();
        let _recorded = check_document(ledger, &TCB_INFO, self.tcb_info.as_ref(), crls, roots, now);
        let _recorded = check_document(ledger, &QE_IDENTITY, self.qe_identity.as_ref(), crls, roots, now);
    }
}

fn check_crls(
    ledger: &mut Ledger,
    crls: Result<&Crls, &X509Error>,
    roots: &Roots,
    now: UnixTime,
) -> Result<(), Failed> {
    const RULE: &str = "platform.crl";
    const EXPECTED: &str = "CRLs of the root and of the PCK CA that are current";
    let crls = ledger.accept(RULE, EXPECTED, crls)?;
    require_root_key(ledger, &crls.root.common_name, &crls.root.key_digest, roots, VendorRoot::Intel)?;
    ledger.accept(RULE, EXPECTED, crls.require_current(now))?;
    ledger.require(RULE, true, EXPECTED, &crls.by_pck_ca)
}

fn check_document<T>(
    ledger: &mut Ledger,
    rule: &super::quote::DocumentRule,
    document: Result<&Document<T>, &DocumentError>,
    crls: Option<&Crls>,
    roots: &Roots,
    now: UnixTime,
) -> Result<(), Failed> {
    let document = ledger.accept(rule.name, rule.expected, document)?;
    let root = &document.root;
    require_root_key(ledger, &root.common_name, &root.key_digest, roots, VendorRoot::Intel)?;
    let holds = || -> Result<(), DocumentError> {
        // Without CRLs, rule `platform.crl` failed already.
        if let Some(crls) = crls {
            if root.key_digest != crls.root.key_digest {
                let (subject, issuer) = (root.common_name.clone(), "the root of the CRLs".to_owned());
                return Err(X509Error::Issuer { subject, issuer }.into());
            }
            crls.by_root.require_unnamed(&document.signer)?;
        }
        document.require_current(now)
    };
    ledger.accept(rule.name, rule.expected, holds())?;
    ledger.require(rule.name, true, rule.expected, format_args!("one of {}", document.window))
}
