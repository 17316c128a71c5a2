//! The time, in seconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now. A clock before 1970 gives 0, at which every certificate is not yet valid: nothing is accepted.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
