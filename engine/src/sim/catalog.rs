//! The scenarios that come with the engine, by name.

use super::scenario::Scenario;

/// Name and text of each.
const TEXTS: &[(&str, &str)] = &[
    ("idle", include_str!("../../scenarios/idle.toml")),
    ("event", include_str!("../../scenarios/event.toml")),
    ("event-stream", include_str!("../../scenarios/event-stream.toml")),
    ("query", include_str!("../../scenarios/query.toml")),
    ("crash", include_str!("../../scenarios/crash.toml")),
    ("mass-crash", include_str!("../../scenarios/mass-crash.toml")),
    ("bootstrap", include_str!("../../scenarios/bootstrap.toml")),
    ("join-storm", include_str!("../../scenarios/join-storm.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("mass-leave", include_str!("../../scenarios/mass-leave.toml")),
    ("mass-prune", include_str!("../../scenarios/mass-prune.toml")),
    ("partition", include_str!("../../scenarios/partition.toml")),
    ("flip-flop", include_str!("../../scenarios/flip-flop.toml")),
    ("lossy", include_str!("../../scenarios/lossy.toml")),
    ("starved", include_str!("../../scenarios/starved.toml")),
    ("key-rotation", include_str!("../../scenarios/key-rotation.toml")),
    ("restart-all", include_str!("../../scenarios/restart-all.toml")),
];

/// All names, in the order of the manual.
pub fn names() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, _)| *name)
}

/// The scenario of that name.
pub fn named(name: &str) -> Option<Scenario> {
    let (_, text) = TEXTS.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::parse(text).expect("a test parses them all"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_scenario_parses_and_has_the_name_of_its_file() {
        for name in names() {
            let scenario = named(name).unwrap();
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty());
        }
        assert_eq!(named("nonsense"), None);
    }
}
