//! stub
use super::{Comparison, Report};
/// stub
#[must_use]
pub fn html(_report: &Report, _rows: &[Comparison]) -> String {
    String::new()
}
