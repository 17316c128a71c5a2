//! Endorsements as files: bundles of what a verification needs, where they come from, and reference values.
//!
//! What it is: the file form of [`Collateral`], signed or not, read and written here; a summary of it for people; the
//! vendors' services asked for its parts; reference values out of a CoRIM. What it is not: verification: whatever a
//! bundle holds or a service answers is untrusted until the verifier has checked its signatures.
//! Who trusts it: nobody; broker and command line hand what they get here to the verifier.

mod bundle;
mod forms;
mod inspect;
mod keys;
mod qvl;
mod reference_values;
pub mod services;
mod signature;
mod wanted;

pub use bundle::{BUNDLE_BYTES_MAX, BUNDLE_VERSION, Bundle, BundleError, read, write};
pub use forms::{CrlForm, certificate_der, crl_der, snp_chain_der};
pub use inspect::{Inspection, inspect};
pub use keys::{KEY_BYTES_MAX, KeyError, PublicKey, read_public_key, read_signing_key, signing_key_pem};
pub use qvl::{QVL_BYTES_MAX, QvlError, read_qvl};
pub use reference_values::{CORIM_BYTES_MAX, CorimError, CorimSigner, ReferenceValues, read_corim};
pub use signature::{BundleSignature, SignatureError, sign, signer_id};
pub use wanted::{WantedError, WantedSnp, WantedTdx, wanted_by_quote, wanted_by_report};

pub use casemate_verifier::{Collateral, SnpCollateral, TdxCollateral};
