//! `cargo xtask bench`: measurements.

/// Runs a measurement.
pub(crate) fn run(_args: &[&str]) -> Result<(), String> {
    Err("no measurement is written yet".into())
}
