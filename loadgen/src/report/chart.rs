//! One chart as inline SVG, and the table beneath it.

use std::fmt::Write;

use super::page::escaped;
use super::schema::{Curve, Line, Mark, Scale};
use crate::spread::short;

/// The size of a chart, and of the space around its plot: left, right, top, bottom.
const SIZE: (f64, f64) = (900.0, 340.0);
const MARGINS: [f64; 4] = [64.0, 16.0, 14.0, 44.0];
/// Rows of the table beneath.
const ROWS: usize = 12;
/// Columns of that table, at most.
const COLUMNS_MAX: usize = 16;
/// Colours and patterns of lines that the page's style defines.
const COLOURS: usize = 8;
const PATTERNS: usize = 6;
/// Curves with ids of this ending are distributions: drawn as steps.
const STEPS: &str = "-reach";
/// Lines of these names stand for the whole and are drawn strong.
const WHOLES: [&str; 4] = ["all", "total", "all events", "rss"];

/// All curves of one kind, laid over each other.
pub(super) struct Chart<'a> {
    pub(super) curves: Vec<Drawn<'a>>,
    pub(super) marks: Vec<&'a Mark>,
}

/// A curve of a subject.
pub(super) struct Drawn<'a> {
    /// The place of the subject, which chooses the colour.
    pub(super) subject: usize,
    pub(super) name: &'a str,
    /// How many runs the subject has.
    pub(super) runs: usize,
    /// Whether it is the only subject: then colours tell its lines apart, else patterns.
    pub(super) alone: bool,
    pub(super) curve: &'a Curve,
}

impl Drawn<'_> {
    fn label(&self, line: &Line) -> String {
        let run = if self.runs > 1 { format!(", run {}", self.curve.run + 1) } else { String::new() };
        match self.alone {
            true => format!("{}{run}", line.name),
            false => format!("{}: {}{run}", self.name, line.name),
        }
    }

    /// The classes of the line at that place: colour, pattern, strength, and whether it is off at first.
    fn style(&self, place: usize, line: &Line) -> String {
        let (colour, pattern) = if self.alone { (place, 0) } else { (self.subject, place) };
        let whole = WHOLES.contains(&line.name.as_str()) || self.curve.lines.len() == 1;
        let strong = if whole { " strong" } else { "" };
        let later = if self.curve.run > 0 { " later" } else { "" };
        // The parts of one run are enough at first.
        let off = if whole || self.alone && self.curve.run == 0 { "" } else { " off" };
        format!("c{} d{}{strong}{later}{off}", colour % COLOURS, pattern % PATTERNS)
    }
}

impl Chart<'_> {
    /// The heading, the SVG, the legend, the values.
    pub(super) fn html(&self) -> String {
        let Some(first) = self.curves.first().map(|drawn| drawn.curve) else { return String::new() };
        let axes = Axes::of(self);
        let mut html = format!("<section class=\"chart\"><h3>{}</h3>\n", escaped(&first.title));
        let _ = write!(
            html,
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}",
            SIZE.0,
            SIZE.1,
            escaped(&first.title),
            axes.svg(&first.x, &first.y)
        );
        self.marks.iter().for_each(|mark| html.push_str(&axes.mark(mark)));
        let mut legend = String::new();
        for drawn in &self.curves {
            for (place, line) in
                drawn.curve.lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty())
            {
                let label = escaped(&drawn.label(line));
                let style = drawn.style(place, line);
                let steps = drawn.curve.id.ends_with(STEPS);
                let _ = writeln!(
                    html,
                    "<path class=\"line {style}\" data-label=\"{label}\" data-points=\"{}\" d=\"{}\"><title>{label}</title></path>",
                    points(&line.points),
                    axes.path(&line.points, steps)
                );
                let sample =
                    format!("<svg viewBox=\"0 0 26 8\"><path class=\"line {style}\" d=\"M0 4H26\"/></svg>");
                let _ = write!(legend, "<button type=\"button\" class=\"{style}\">{sample}{label}</button>");
            }
        }
        html.push_str("<line class=\"cursor\" y1=\"0\" y2=\"0\"/></svg><div class=\"tip\" hidden></div>\n");
        let _ = writeln!(html, "<div class=\"legend\">{legend}</div>");
        html + &self.values(&axes) + "</section>\n"
    }

    /// The values at some places of the horizontal axis.
    fn values(&self, axes: &Axes) -> String {
        let lines: Vec<(String, &Line)> = self
            .curves
            .iter()
            .flat_map(|drawn| drawn.curve.lines.iter().map(|line| (drawn.label(line), line)))
            .filter(|(_, line)| !line.points.is_empty())
            .take(COLUMNS_MAX)
            .collect();
        let mut html = String::from("<details><summary>Values</summary><div class=\"wide\"><table><tr><th>");
        html.push_str(&escaped(self.curves.first().map_or("", |drawn| &drawn.curve.x)));
        html.push_str("</th>");
        lines.iter().for_each(|(label, _)| html.push_str(&format!("<th>{}</th>", escaped(label))));
        html.push_str("</tr>\n");
        for row in 0..ROWS {
            let x = axes.x.at(row as f64 / (ROWS - 1) as f64);
            let _ = write!(html, "<tr><td>{}</td>", short(x));
            for (_, line) in &lines {
                let value = value_at(&line.points, x).map_or("-".to_owned(), short);
                let _ = write!(html, "<td>{value}</td>");
            }
            html.push_str("</tr>\n");
        }
        html + "</table></div></details>\n"
    }
}

/// The last value at or before `x`.
fn value_at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.partition_point(|point| point.0 <= x * (1.0 + 1e-9));
    points.get(after.checked_sub(1)?).map(|point| point.1)
}

/// `x,y x,y`, for the values on hover.
fn points(points: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (x, y) in points {
        let _ = write!(text, "{x},{y} ");
    }
    text.trim_end().to_owned()
}

/// Both axes of a chart.
struct Axes {
    x: Axis,
    y: Axis,
}

impl Axes {
    fn of(chart: &Chart<'_>) -> Axes {
        let points =
            || chart.curves.iter().flat_map(|drawn| &drawn.curve.lines).flat_map(|line| &line.points);
        let (low, high) =
            points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
        let wants_log = chart.curves.iter().any(|drawn| drawn.curve.x_scale == Scale::Log);
        let least = points().map(|(x, _)| *x).filter(|x| *x > 0.0).fold(f64::MAX, f64::min);
        let x = match wants_log && high / least >= 10.0 {
            true => Axis { low: least, high, scale: Scale::Log },
            false => Axis { low: low.min(0.0), high: high.max(low.min(0.0) + 1e-9), scale: Scale::Linear },
        };
        let top = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let step = nice_step(top / 5.0);
        let y = Axis { low: 0.0, high: ((top / step).ceil() * step).max(step), scale: Scale::Linear };
        Axes { x, y }
    }

    fn x(&self, x: f64) -> f64 {
        MARGINS[0] + self.x.share(x) * (SIZE.0 - MARGINS[0] - MARGINS[1])
    }

    fn y(&self, y: f64) -> f64 {
        SIZE.1 - MARGINS[3] - self.y.share(y) * (SIZE.1 - MARGINS[2] - MARGINS[3])
    }

    fn path(&self, points: &[(f64, f64)], steps: bool) -> String {
        let mut path = String::new();
        for (place, (x, y)) in points.iter().map(|(x, y)| (self.x(*x), self.y(*y))).enumerate() {
            let _ = match (place, steps) {
                (0, _) => write!(path, "M{x:.1} {y:.1}"),
                (_, false) => write!(path, "L{x:.1} {y:.1}"),
                (_, true) => write!(path, "H{x:.1}V{y:.1}"),
            };
        }
        path
    }

    /// Grid, ticks and labels; the plot's place for the page's script.
    fn svg(&self, x_label: &str, y_label: &str) -> String {
        let (left, right) = (MARGINS[0], SIZE.0 - MARGINS[1]);
        let (top, bottom) = (MARGINS[2], SIZE.1 - MARGINS[3]);
        let log = if self.x.scale == Scale::Log { "log" } else { "linear" };
        let mut svg = format!(
            "<rect class=\"plot\" x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" data-scale=\"{log}\" data-low=\"{}\" data-high=\"{}\"/>\n",
            right - left,
            bottom - top,
            self.x.low,
            self.x.high
        );
        for tick in self.y.ticks() {
            let y = self.y(tick);
            let _ = write!(svg, "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>");
            let _ = writeln!(
                svg,
                "<text class=\"left\" x=\"{}\" y=\"{:.1}\">{}</text>",
                left - 8.0,
                y + 4.0,
                label(tick)
            );
        }
        for tick in self.x.ticks() {
            let x = self.x(tick);
            let _ = write!(svg, "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>");
            let _ = writeln!(
                svg,
                "<text class=\"below\" x=\"{x:.1}\" y=\"{}\">{}</text>",
                bottom + 17.0,
                label(tick)
            );
        }
        let middle = (top + bottom) / 2.0;
        let _ = writeln!(
            svg,
            "<text class=\"below label\" x=\"{}\" y=\"{}\">{}</text>",
            (left + right) / 2.0,
            SIZE.1 - 7.0,
            escaped(x_label)
        );
        let _ = writeln!(
            svg,
            "<text class=\"below label\" transform=\"translate(13 {middle}) rotate(-90)\">{}</text>",
            escaped(y_label)
        );
        svg
    }

    fn mark(&self, mark: &Mark) -> String {
        if !(self.x.low..=self.x.high).contains(&mark.at) {
            return String::new();
        }
        let (x, what) = (self.x(mark.at), escaped(&mark.what));
        let (top, bottom) = (MARGINS[2], SIZE.1 - MARGINS[3]);
        format!(
            "<path class=\"mark\" d=\"M{x:.1} {top}V{bottom}\"><title>{what} at {} s</title></path>\n",
            short(mark.at)
        )
    }
}

/// The range of an axis.
struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
}

impl Axis {
    /// The place of a value, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        // A logarithmic axis has no place for 0: it goes to the left end.
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    /// The value at a place.
    fn at(&self, share: f64) -> f64 {
        match self.scale {
            Scale::Linear => self.low + share * (self.high - self.low),
            Scale::Log => self.low * (self.high / self.low).powf(share),
        }
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = nice_step((self.high - self.low) / 9.0);
                let first = (self.low / step).ceil() as i64;
                let ticks = (first..).map(|n| n as f64 * step);
                ticks.take_while(|tick| *tick <= self.high + step * 1e-6).collect()
            }
            Scale::Log => {
                let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
                let ticks =
                    decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)));
                ticks.filter(|tick| (self.low..=self.high).contains(tick)).collect()
            }
        }
    }
}

/// A round number without needless zeros.
fn label(tick: f64) -> String {
    // Sums of steps are off by a few bits.
    let text = format!("{:.9}", tick);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn nice_step(least: f64) -> f64 {
    if least <= 0.0 || !least.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    steps.into_iter().find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::kinds;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = |low, high, scale| Axis { low, high, scale }.ticks();
        assert_eq!(
            axis(0.0, 1.5, Scale::Linear).iter().map(|tick| label(*tick)).collect::<Vec<_>>(),
            ["0", "0.2", "0.4", "0.6", "0.8", "1", "1.2", "1.4"]
        );
        assert_eq!(axis(0.004, 1.4, Scale::Log), [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]);
        assert_eq!([0.13, 1.0, 7.0, 60.0, 0.0].map(nice_step), [0.2, 1.0, 10.0, 100.0, 1.0]);
    }

    #[test]
    fn lines_go_from_edge_to_edge_and_names_are_escaped() {
        let line = Line::new("<all>", vec![(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)]);
        let curve = kinds::MEMBERS_KNOWN.curve(0, vec![line]);
        let drawn = Drawn { subject: 9, name: "a & b", runs: 1, alone: false, curve: &curve };
        let mark = Mark { run: 0, at: 5.0, what: "crash".to_owned() };
        let html = Chart { curves: vec![drawn], marks: vec![&mark] }.html();
        assert!(html.contains("d=\"M64.0 296.0L474.0 155.0L884.0 14.0\""), "{html}");
        assert!(html.contains("data-points=\"0,0 5,50 10,100\""), "{html}");
        assert!(html.contains("a &amp; b: &lt;all&gt;") && !html.contains("<all>"), "{html}");
        assert!(html.contains("class=\"line c1 d0 strong\"") && html.contains("crash at 5 s"), "{html}");
    }

    #[test]
    fn degenerate_curves_have_a_picture_too() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(3.0, 7.0)], vec![(0.0, 0.0), (0.0, 0.0)]] {
            for kind in [kinds::EVENT_REACH, kinds::BYTES] {
                let curve = kind.curve(0, vec![Line::new("all", points.clone())]);
                let drawn = Drawn { subject: 0, name: "x", runs: 2, alone: true, curve: &curve };
                let html = Chart { curves: vec![drawn], marks: Vec::new() }.html();
                assert!(!html.contains("NaN") && !html.contains("inf"), "{points:?}: {html}");
            }
        }
    }
}
