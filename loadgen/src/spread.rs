//! One figure over several seeds or runs.

use std::fmt;

/// The values of a figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// These values.
    pub fn of(values: Vec<f64>) -> Spread {
        Spread(values)
    }

    /// Adds one.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The values in the order in which they were added.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Median, smallest and largest; none without values.
    pub fn range(&self) -> Option<Range> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Range { median, min, max })
    }
}

/// Median, smallest and largest of some values.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Range {
    /// The middle value; the mean of the two middle ones if their number is even.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// The median, then smallest and largest if they differ; nothing without values.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Range { median, min, max }) = self.range() else { return Ok(()) };
        write!(f, "{}", short(median))?;
        if min < max { write!(f, " ({}–{})", short(min), short(max)) } else { Ok(()) }
    }
}

/// A number with about three digits: no decimals for whole numbers and from 100 on, two from 0.1 on, else three
/// significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if value.fract() == 0.0 || size >= 100.0 => format!("{value:.0}"),
        size if size >= 0.1 => format!("{value:.2}"),
        size => {
            let decimals = (2 - size.log10().floor() as i32).clamp(3, 12) as usize;
            format!("{value:.decimals$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_shows_median_smallest_and_largest() {
        let shown = |values: &[f64]| Spread(values.to_vec()).to_string();
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&[3.0, 3.0]), "3");
        assert_eq!(shown(&[1.25, 9.0, 0.5]), "1.25 (0.50–9)");
        assert_eq!(shown(&[4.0, 200.4, 1.0, 3.0]), "3.50 (1–200)");
        assert_eq!(shown(&[0.0046]), "0.00460");
    }
}
