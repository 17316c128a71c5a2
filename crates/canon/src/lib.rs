//! Canonical JSON (RFC 8785) and the digest types that everything here is measured with.
//!
//! What it is: the one way in which a value becomes bytes to be hashed, its one readable form for files, the one spelling
//! of a digest (`sha384:<hex>`), and the refusal of JSON whose objects have a member twice. What it is not: a general JSON
//! library: numbers that are not integers below 2^53 are refused, because no measured structure has one.
//! Who trusts it: every measurement, the event log, evidence and its verifier.

mod digest;
mod json;
mod unique;

pub use digest::{DigestParseError, Sha256, Sha384, Sha512};
pub use json::{CanonicalError, to_canonical_json, value_to_canonical_json, value_to_readable_json};
pub use unique::{from_slice_exact, from_slice_unique, require_unique};
