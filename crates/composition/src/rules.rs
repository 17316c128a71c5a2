//! The rule data of each backend, and its digests: what the launcher applies is what an agent's measurement names.

use casemate_canon::Sha384;

use crate::lock::Backend;

/// System call rules of the native backend.
pub const SECCOMP_RULES: &str = include_str!("../rules/native.seccomp");
/// System call rules of gateway and courier. Part of those programs, and measured with them.
pub const NETWORK_SECCOMP_RULES: &str = include_str!("../rules/network.seccomp");
/// File rules of the native backend.
pub const LANDLOCK_RULES: &str = include_str!("../rules/native.landlock");

/// System call rules of the gVisor backend, for the sandbox's own processes.
pub const GVISOR_SECCOMP_RULES: &str = include_str!("../rules/gvisor.seccomp");
/// File rules of the gVisor backend: none, and why.
pub const GVISOR_LANDLOCK_RULES: &str = include_str!("../rules/gvisor.landlock");

/// The digests of one backend's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// Of its system call rules.
    pub seccomp: Sha384,
    /// Of its file rules.
    pub landlock: Sha384,
}

/// The digests of the rules that a backend applies.
#[must_use]
pub fn digests(backend: Backend) -> Digests {
    match backend {
        Backend::Native => Digests { seccomp: seccomp_rules_digest(), landlock: landlock_rules_digest() },
        Backend::Gvisor { .. } => Digests {
            seccomp: seccomp_digest(GVISOR_SECCOMP_RULES),
            landlock: landlock_digest(GVISOR_LANDLOCK_RULES),
        },
    }
}

/// Digest of [`SECCOMP_RULES`].
#[must_use]
pub fn seccomp_rules_digest() -> Sha384 {
    seccomp_digest(SECCOMP_RULES)
}

/// Digest of [`LANDLOCK_RULES`].
#[must_use]
pub fn landlock_rules_digest() -> Sha384 {
    landlock_digest(LANDLOCK_RULES)
}

fn seccomp_digest(rules: &str) -> Sha384 {
    Sha384::of_parts(&[b"casemate:seccomp-rules/1\x00", rules.as_bytes()])
}

fn landlock_digest(rules: &str) -> Sha384 {
    Sha384::of_parts(&[b"casemate:landlock-rules/1\x00", rules.as_bytes()])
}
