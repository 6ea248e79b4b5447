//! One figure over several seeds or runs.

use std::fmt;

/// The values that a figure had.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    /// One more.
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// In the order in which they came.
    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    /// The middle and the ends; none without values.
    pub(crate) fn range(&self) -> Option<Range> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Range { median, min, max })
    }
}

/// The middle and the ends of a figure's values.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// The median, with smallest and largest behind it if they differ; nothing without values.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Range { median, min, max }) = self.range() else { return Ok(()) };
        write!(f, "{}", short(median))?;
        if min < max { write!(f, " ({}–{})", short(min), short(max)) } else { Ok(()) }
    }
}

/// Two digits behind the point below a hundred, else none.
pub(crate) fn short(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_as_median_smallest_and_largest() {
        let told = |values: &[f64]| Spread(values.to_vec()).to_string();
        assert_eq!(told(&[]), "");
        assert_eq!(told(&[3.0, 3.0]), "3");
        assert_eq!(told(&[1.25, 9.0, 0.5]), "1.25 (0.50–9)");
        assert_eq!(told(&[4.0, 200.4, 1.0, 3.0]), "3.50 (1–200)");
    }
}
