//! Canonical JSON (RFC 8785) and the digest types that everything here is measured with.
//!
//! What it is: the one way in which a value becomes bytes to be hashed, its one readable form for files, and the one
//! spelling of a digest (`sha384:<hex>`). What it is not: a general JSON library: numbers that are not integers
//! below 2^53 are refused, because no measured structure has one.
//! Who trusts it: every measurement, the event log, evidence and its verifier.

mod digest;
mod json;

pub use digest::{DigestParseError, Sha256, Sha384, Sha512};
pub use json::{CanonicalError, to_canonical_json, value_to_canonical_json, value_to_readable_json};
