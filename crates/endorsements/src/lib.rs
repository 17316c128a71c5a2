//! Endorsements as files: bundles of what a verification needs, where they come from, and reference values.
//!
//! What it is: the file form of [`Collateral`], signed or not, read and written here; a summary of it for people; the
//! vendors' services asked for its parts; reference values out of a CoRIM. What it is not: verification: whatever a bundle
//! holds or a service answers is untrusted until the verifier has checked its signatures.
//! Who trusts it: nobody; broker and command line hand what they get here to the verifier.

mod bundle;
mod inspect;
mod signature;

pub use bundle::{BUNDLE_BYTES_MAX, BUNDLE_VERSION, Bundle, BundleError, read, write};
pub use inspect::{Inspection, inspect};
pub use signature::{BundleSignature, SignatureError, sign, signer_id};

pub use casemate_verifier::{Collateral, SnpCollateral, TdxCollateral};
