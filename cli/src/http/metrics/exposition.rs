//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use thane_engine::stats::{DURATION_BOUNDS, Durations};

/// What the samples of a family are.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text so far.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
    /// The family whose samples come now.
    family: String,
}

impl Exposition {
    /// Begins a family: its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        name.clone_into(&mut self.family);
        // Memory takes all writes.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the family. `suffix` is empty except in histograms.
    pub(crate) fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(&self.family);
        self.text.push_str(suffix);
        for (place, (name, value)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{name}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// A family of one gauge.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help);
        self.sample("", &[], value);
    }

    /// A family of one counter.
    pub(crate) fn counter(&mut self, name: &str, help: &str, count: u64) {
        self.family(name, Kind::Counter, help);
        self.sample("", &[], count as f64);
    }

    /// A family of one histogram.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, durations: &Durations) {
        self.family(name, Kind::Histogram, help);
        let mut count = 0;
        let bounds = DURATION_BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string());
        for (bound, more) in bounds.chain(["+Inf".to_owned()]).zip(durations.counts()) {
            count += more;
            self.sample("_bucket", &[("le", &bound)], count as f64);
        }
        self.sample("_sum", &[], durations.total().as_secs_f64());
        self.sample("_count", &[], count as f64);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn samples_follow_help_and_type_and_labels_are_escaped() {
        let mut out = Exposition::default();
        out.family("x_total", Kind::Counter, "What x is");
        out.sample("", &[("a", "1"), ("b", "q\"\\\n")], 3.0);
        out.gauge("y", "What y is", 0.5);
        let expected = "# HELP x_total What x is\n# TYPE x_total counter\n\
                        x_total{a=\"1\",b=\"q\\\"\\\\\\n\"} 3\n\
                        # HELP y What y is\n# TYPE y gauge\ny 0.5\n";
        assert_eq!(out.into_text(), expected);
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let mut durations = Durations::default();
        for ms in [1, 1, 7, 60_000] {
            durations.add(Duration::from_millis(ms));
        }
        let mut out = Exposition::default();
        out.histogram("t_seconds", "Time", &durations);
        let text = out.into_text();
        for line in [
            "# TYPE t_seconds histogram",
            "t_seconds_bucket{le=\"0.0001\"} 0",
            "t_seconds_bucket{le=\"0.001\"} 2",
            "t_seconds_bucket{le=\"0.01\"} 3",
            "t_seconds_bucket{le=\"5\"} 3",
            "t_seconds_bucket{le=\"+Inf\"} 4",
            "t_seconds_sum 60.009",
            "t_seconds_count 4",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in:\n{text}");
        }
    }
}
