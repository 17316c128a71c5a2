//! Medians and quantiles of a series.

/// The `q`-quantile (0 to 1) of a series, by the nearest rank; none for an empty one.
pub(crate) fn quantile(series: &[f64], q: f64) -> Option<f64> {
    let mut sorted = series.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank"
    )]
    let rank = (q * last as f64).round() as usize;
    sorted.get(rank).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ends_and_middle() {
        let series = [5.0, 1.0, 3.0];
        assert_eq!(quantile(&series, 0.0), Some(1.0));
        assert_eq!(quantile(&series, 0.5), Some(3.0));
        assert_eq!(quantile(&series, 1.0), Some(5.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
