//! Collateral bundles: the endorsements that a verification needs, as one file.
//!
//! What it is: the file form of [`Collateral`] (version 1: JSON with base64 members), read and written here, and a
//! summary of its dates for people. What it is not: verification: whatever a bundle holds is untrusted until the
//! verifier has checked its signatures, so a bundle may come from anywhere.
//! Who trusts it: nobody; broker and command line hand its content to the verifier.

mod bundle;
mod inspect;

pub use bundle::{BUNDLE_BYTES_MAX, BUNDLE_VERSION, BundleError, read, write};

pub use inspect::{Inspection, inspect};

pub use casemate_verifier::{Collateral, SnpCollateral, TdxCollateral};
