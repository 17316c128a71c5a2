//! What a box shows of its own posture: `doctor` checks, and the ledger of what agents share.
//!
//! What it is: pure reading below a root folder, so that a tree of files says what a machine would say. Everything read
//! is an observation of the guest, a claim of the host, or a field of a hardware report, and each finding says which.
//! What it is not: a judge of evidence (the verifier checks signatures), and no attack is tried here (the probe does).
//! Who trusts it: `casemate doctor`, and the warden, whose evidence carries a digest of the findings.

pub mod agents;
pub mod doctor;
pub mod host;
pub mod kernel_text;
pub mod report;
pub mod sharing;
pub mod sources;
pub mod tree;

pub use agents::AgentFacts;
pub use tree::{Tree, Unread};
