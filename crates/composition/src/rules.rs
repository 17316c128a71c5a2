//! The rule data of each backend, and its digests: what the launcher applies is what an agent's measurement names.

use casemate_canon::Sha384;

/// System call rules of the native backend.
pub const SECCOMP_RULES: &str = include_str!("../rules/native.seccomp");
/// System call rules of gateway and courier. Part of those programs, and measured with them.
pub const NETWORK_SECCOMP_RULES: &str = include_str!("../rules/network.seccomp");
/// File rules of the native backend.
pub const LANDLOCK_RULES: &str = include_str!("../rules/native.landlock");

/// Digest of [`SECCOMP_RULES`].
#[must_use]
pub fn seccomp_rules_digest() -> Sha384 {
    Sha384::of_parts(&[b"casemate:seccomp-rules/1\x00", SECCOMP_RULES.as_bytes()])
}

/// Digest of [`LANDLOCK_RULES`].
#[must_use]
pub fn landlock_rules_digest() -> Sha384 {
    Sha384::of_parts(&[b"casemate:landlock-rules/1\x00", LANDLOCK_RULES.as_bytes()])
}
