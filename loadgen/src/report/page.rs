//! Reports as one HTML page that needs nothing else: no network, no other file. It is readable without scripts; the
//! script adds values on hover and lines that can be switched off.

use std::fmt::Write;

use super::chart::{Chart, Drawn};
use super::kinds::CURVES;
use super::made::Made;
use super::schema::{Ended, Report, Subject, Verdict};
use super::table::{Cell, counted, rows, times};
use crate::spread::short;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Colours of subjects that the style defines.
const COLOURS: usize = 8;

/// The page of these reports, whose subjects are laid over each other.
pub fn page(title: &str, reports: &[Report]) -> String {
    let subjects: Vec<&Subject> = reports.iter().flat_map(|report| &report.subjects).collect();
    let title = escaped(title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title>\n<style>\n{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    for about in reports.iter().filter_map(|report| report.scenario.as_ref()).map(|scenario| &scenario.about)
    {
        if !html.contains(&escaped(about)) {
            let _ = writeln!(html, "<p class=\"soft\">{}</p>", escaped(about));
        }
    }
    html.push_str(&criteria(&subjects));
    html.push_str(&measures(&subjects));
    html.push_str(&charts(&subjects));
    html.push_str(&runs(&subjects));
    html.push_str("<h2>How it was made</h2>\n");
    reports.iter().for_each(|report| html.push_str(&made(&report.made)));
    for scenario in reports.iter().filter_map(|report| report.scenario.as_ref()) {
        let (name, toml) = (escaped(&scenario.name), escaped(&scenario.toml));
        let _ = writeln!(html, "<details><summary>Scenario {name}</summary><pre>{toml}</pre></details>");
    }
    let _ = write!(html, "<script>\n{SCRIPT}</script>\n</body></html>\n");
    html
}

/// Text between tags and in attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Control characters have no place in HTML.
            letter if letter.is_control() && letter != '\n' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

fn key(place: usize, name: &str) -> String {
    format!("<span class=\"key c{}\"></span>{}", place % COLOURS, escaped(name))
}

fn criteria(subjects: &[&Subject]) -> String {
    if subjects.iter().all(|subject| subject.criteria.is_empty()) {
        return String::new();
    }
    let mut html = String::from(
        "<h2>Criteria</h2>\n<div class=\"wide\"><table><tr><th>Subject</th><th>Criterion</th><th>Value</th><th>Verdict</th></tr>\n",
    );
    for (place, subject) in subjects.iter().enumerate() {
        for criterion in &subject.criteria {
            let value = criterion
                .value
                .map_or("-".to_owned(), |value| format!("{} {}", short(value), escaped(&criterion.unit)));
            let class = match criterion.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "fail",
                Verdict::NotMeasured => "soft",
            };
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td class=\"text\">{}</td><td>{value}</td><td class=\"{class}\">{}</td></tr>",
                key(place, &subject.name),
                escaped(&criterion.name),
                criterion.verdict
            );
        }
    }
    html + "</table></div>\n"
}

fn measures(subjects: &[&Subject]) -> String {
    let mut html = String::from(
        "<h2>Measures</h2>\n<p class=\"soft\">Medians over the runs, with the smallest and the largest value where they differ",
    );
    if subjects.len() > 1 {
        html.push_str("; × is the ratio to the first column");
    }
    html.push_str(".</p>\n<div class=\"wide\"><table><tr><th></th>");
    for (place, subject) in subjects.iter().enumerate() {
        let _ = write!(html, "<th>{}</th>", key(place, &subject.name));
    }
    html.push_str("</tr>\n");
    for row in rows(subjects) {
        let _ = write!(html, "<tr><td>{}</td>", escaped(&row.heading()));
        for cell in &row.cells {
            html.push_str(&match cell {
                None => "<td>-</td>".to_owned(),
                Some(Cell { spread, ratio: None }) => format!("<td>{spread}</td>"),
                Some(Cell { spread, ratio: Some(ratio) }) => {
                    format!("<td>{spread} <span class=\"ratio\">{}</span></td>", times(*ratio))
                }
            });
        }
        html.push_str("</tr>\n");
    }
    html + "</table></div>\n"
}

/// One chart for each kind of curve, in the order of the known kinds, then others.
fn charts(subjects: &[&Subject]) -> String {
    let known = |id: &str| CURVES.iter().position(|kind| kind.id == id).unwrap_or(CURVES.len());
    let mut ids: Vec<&str> = Vec::new();
    for curve in subjects.iter().flat_map(|subject| &subject.curves) {
        if !ids.contains(&curve.id.as_str()) {
            ids.push(&curve.id);
        }
    }
    ids.sort_by_key(|id| known(id));
    let chart = |id: &&str| {
        let of = |(place, subject): (usize, &&'_ Subject)| -> Vec<(usize, usize)> {
            let fitting = subject.curves.iter().enumerate().filter(|(_, curve)| curve.id == **id);
            fitting.map(|(curve, _)| (place, curve)).collect()
        };
        let places = subjects.iter().enumerate().flat_map(of);
        let curves = places.map(|(subject, curve)| Drawn {
            subject,
            name: &subjects[subject].name,
            runs: subjects[subject].runs.len(),
            alone: subjects.len() == 1,
            curve: &subjects[subject].curves[curve],
        });
        // Several clusters have their marks at different times: they would only confuse.
        let marks = if subjects.len() == 1 {
            subjects[0].marks.iter().filter(|mark| mark.run == 0).collect()
        } else {
            Vec::new()
        };
        Chart { curves: curves.collect(), marks }.html()
    };
    if ids.is_empty() {
        return String::new();
    }
    format!("<h2>Curves</h2>\n{}", ids.iter().map(chart).collect::<String>())
}

fn runs(subjects: &[&Subject]) -> String {
    let mut html = String::from(
        "<h2>Runs</h2>\n<div class=\"wide\"><table><tr><th>Subject</th><th>Nodes</th><th>Runs</th><th>Seeds</th><th>Seconds</th><th>Settings</th><th>Ended</th></tr>\n",
    );
    for (place, subject) in subjects.iter().enumerate() {
        let settings: Vec<String> =
            subject.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let policy = subject.policy.map(|policy| format!("{policy:?}").to_lowercase());
        let settings = policy.into_iter().chain(settings).collect::<Vec<_>>().join(", ");
        let seeds: Vec<String> = subject.runs.iter().map(|run| run.seed.to_string()).collect();
        let seconds: Vec<String> = subject.runs.iter().map(|run| short(run.seconds)).collect();
        let early: Vec<String> = subject
            .runs
            .iter()
            .filter(|run| run.ended != Ended::Complete || !run.note.is_empty())
            .map(|run| format!("{:?} {}", run.ended, run.note).to_lowercase())
            .collect();
        let ended = if early.is_empty() { "complete".to_owned() } else { early.join("; ") };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td></tr>",
            key(place, &subject.name),
            subject.nodes,
            counted(subject.runs.len(), "run"),
            seeds.join(" "),
            seconds.join(" "),
            escaped(&settings),
            escaped(&ended)
        );
    }
    html + "</table></div>\n"
}

fn made(made: &Made) -> String {
    let mut html = format!(
        "<pre>{}</pre>\n<p class=\"soft\">{}, {}; {}</p>\n",
        escaped(&made.command),
        escaped(&made.program),
        escaped(&made.at),
        escaped(&made.machine.summary())
    );
    for note in &made.notes {
        let _ = writeln!(html, "<p class=\"soft\">{}</p>", escaped(note));
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_page_is_complete_and_needs_no_network() {
        let page = page("<title>", &[example()]);
        for part in [
            "&lt;title&gt;",
            "one event &lt;to&gt; all",
            "Criteria",
            "FAIL",
            "Reach of a user event",
            "×0.0100",
            "nodes = 100",
        ] {
            assert!(page.contains(part), "no {part}");
        }
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "the page names {outside}");
        }
        assert_eq!(page.matches("<section").count(), 2, "two kinds of curves");
        assert_eq!(page.matches("data-points").count(), 4 + 8, "each line of each run and subject");
        assert_eq!(page.matches("<tr>").count(), page.matches("</tr>").count());
    }
}
