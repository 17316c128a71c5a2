//! How a figure is judged: against what was asked, as a ratio.

/// What a ratio must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    AtMost(f64),
    AtLeast(f64),
}

impl Asked {
    /// The ratio, what was asked, and whether that is met.
    pub(super) fn judge(self, ratio: f64) -> String {
        let (sign, limit, met) = match self {
            Self::AtMost(limit) => ("<=", limit, ratio <= limit),
            Self::AtLeast(limit) => (">=", limit, ratio >= limit),
        };
        let verdict = match (ratio.is_nan(), met) {
            (true, _) => "not measured",
            (false, true) => "met",
            (false, false) => "MISSED",
        };
        format!("{ratio:>7.3}   asked {sign} {limit}: {verdict}")
    }
}

/// The line that stands for what could not be measured.
pub(super) fn not_run(name: &str, reason: impl std::fmt::Display) {
    let reason = reason.to_string();
    println!("not run: {name}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_judged_by_its_side_of_the_limit() {
        assert!(Asked::AtMost(1.1).judge(1.1).ends_with("1.1: met"));
        assert!(Asked::AtMost(1.1).judge(1.2).ends_with("MISSED"));
        assert!(Asked::AtLeast(0.8).judge(0.7).ends_with("MISSED"));
        assert!(Asked::AtLeast(0.8).judge(f64::NAN).ends_with("not measured"));
    }
}
