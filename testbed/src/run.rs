//! `thane-testbed run` and `smoke`: plays scenarios on clusters of each kind, judges them and reports.

use std::path::PathBuf;

use clap::ValueEnum;
use ipnet::Ipv4Net;

use crate::backend::Backend;
use crate::batch::{self, Task};
use crate::cluster::Cluster;
use crate::docker;
use crate::engine::DockerBackend;
use crate::failure::Failure;
use crate::images::Software;
use crate::judge::{Beside, has_passed, judge};
use crate::kubernetes::{self, KubernetesBackend, KubernetesOptions};
use crate::lab::{LabOptions, NODES_MAX};
use crate::leftovers;
use crate::node::Make;
use crate::outcome::{Handled, Outcome};
use crate::played::{Against, Played};
use crate::player::Player;
use crate::report;
use crate::scenario::{Scenario, catalog};
use crate::table;

/// What a run of scenarios needs to know.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunOptions {
    /// Names of scenarios (`thane-testbed list`), files that end in .toml, or `all`.
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// Agents of each cluster; several numbers give several clusters.
    #[arg(long, default_value = "20", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(2..=150))]
    nodes: Vec<u32>,
    /// Kinds of clusters.
    #[arg(long, default_value = "serf,thane,mixed", value_delimiter = ',')]
    against: Vec<Against>,
    /// Runs of each; tables have medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Clusters that run at the same time. Their starts and their load disturb each other's times.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50), value_name = "CLUSTERS")]
    at_once: u32,
    /// Folder for a report of each scenario (SCENARIO.json, SCENARIO.html) and verdicts.md.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: CommonOptions,
}

/// What `run` and `smoke` share.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CommonOptions {
    /// Share of Serf agents in a mixed cluster, 0 to 1.
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    serf_share: f64,
    /// Further settings of Thane's agents: a JSON object, as in a configuration file.
    #[arg(long, value_name = "JSON")]
    thane_config: Option<String>,
    /// The network's subnet; else one of 10.201.0.0/16 that is free.
    #[arg(long, value_name = "NET")]
    subnet: Option<Ipv4Net>,
    /// What runs the agents.
    #[arg(long, value_enum, default_value_t = Runtime::Docker)]
    backend: Runtime,
    #[command(flatten)]
    kubernetes: KubernetesOptions,
    /// A seccomp profile for the containers instead of the engine's.
    #[arg(long, value_name = "FILE")]
    seccomp: Option<PathBuf>,
    /// Raise the kernel's limits for neighbours where they are too small for so many containers.
    #[arg(long)]
    raise_neighbour_limits: bool,
}

/// What runs the agents.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Runtime {
    /// The Docker engine of this machine.
    Docker,
    /// The cluster of kubectl's current context. Scenarios that need more than pods can give are not played.
    Kubernetes,
}

/// Runs scenarios as the options say.
///
/// # Errors
/// The machine can't, a scenario or option is wrong, the user asked for the end; or a cluster with Thane agents in it
/// has not passed.
pub(crate) fn run(options: &RunOptions) -> Result<(), Failure> {
    let mut scenarios = Vec::new();
    for name in &options.scenarios {
        match name.as_str() {
            "all" => scenarios.extend(catalog().into_iter().filter(|scenario| scenario.name != "smoke")),
            name => scenarios.push(Scenario::find(name)?),
        }
    }
    let mut kinds = options.against.clone();
    // Serf first: others are compared with it.
    kinds.sort_unstable();
    kinds.dedup();
    prepare(options, &scenarios, &kinds)?;
    let mut played: Vec<Played> = Vec::new();
    let result = play_all(options, &scenarios, &kinds, &mut played);
    if !played.is_empty() {
        println!("\n{}\n{}", table::verdicts(&played), table::measures(&played));
    }
    if let Some(folder) = &options.out {
        let notes = match options.common.backend {
            Runtime::Docker => [format!("Docker engine {}", docker::version()?)],
            Runtime::Kubernetes => {
                ["pods on Kubernetes: no counters of bytes, processor and memory".to_owned()]
            }
        };
        for page in report::write(folder, &played, &notes)? {
            println!("written: {}", page.display());
        }
    }
    result?;
    let failed = played
        .iter()
        .filter(|played| played.against != Against::Serf && !has_passed(&played.verdicts))
        .count();
    if failed > 0 {
        Err(Failure::new(format!("{failed} runs with Thane agents have not passed")))
    } else {
        Ok(())
    }
}

/// Five Serf and five Thane agents through the commonest events.
///
/// # Errors
/// As [`run`].
pub(crate) fn smoke(common: &CommonOptions) -> Result<(), Failure> {
    let options = RunOptions {
        scenarios: vec!["smoke".into()],
        nodes: vec![10],
        against: vec![Against::Mixed],
        runs: 1,
        at_once: 1,
        out: None,
        common: common.clone(),
    };
    run(&options)
}

/// The runs, in the order in which they are judged: what Serf alone loses is measured before what is compared with it.
fn tasks(options: &RunOptions, scenarios: &[Scenario], kinds: &[Against]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for scenario in scenarios {
        let lacking = kubernetes::lacks(scenario).filter(|_| options.common.backend == Runtime::Kubernetes);
        if let Some(what) = lacking {
            println!("not run {}: pods do not give it {what}", scenario.name);
            continue;
        }
        let alone = scenario.between_serf().filter(|_| scenario.pass.lost_as_serf);
        let yardstick = alone.as_ref().unwrap_or(scenario).name.clone();
        for &nodes in &options.nodes {
            let plays = alone.iter().map(|alone| (alone, Against::Serf));
            for (scenario, against) in plays.chain(kinds.iter().map(|kind| (scenario, *kind))) {
                let task = Task { scenario: scenario.clone(), against, nodes, yardstick: yardstick.clone() };
                tasks.extend(std::iter::repeat_n(task, options.runs as usize));
            }
        }
    }
    tasks
}

fn play_all(
    options: &RunOptions,
    scenarios: &[Scenario],
    kinds: &[Against],
    played: &mut Vec<Played>,
) -> Result<(), Failure> {
    let tasks = tasks(options, scenarios, kinds);
    let play = |task: &Task| play(options, task);
    batch::play(&tasks, options.at_once as usize, play, |task, outcome| {
        let mut serf: Vec<Handled> = played
            .iter()
            .filter(|other| other.against == Against::Serf && other.nodes == task.nodes)
            .filter(|other| other.scenario.name == task.yardstick)
            .filter_map(|other| other.outcome.handled)
            .collect();
        if task.against == Against::Serf && task.scenario.name == task.yardstick {
            serf.extend(outcome.handled);
        }
        let beside = Beside { serf: Handled::sum(&serf), is_eager: task.against == Against::Eager };
        let verdicts = judge(&task.scenario.pass, &outcome, beside);
        let (scenario, against, nodes) = (task.scenario.clone(), task.against, task.nodes);
        let one = Played { scenario, against, nodes, outcome, verdicts };
        println!("{}", table::line(&one));
        played.push(one);
    })
}

fn play(options: &RunOptions, task: &Task) -> Result<Outcome, Failure> {
    let common = &options.common;
    let backend: Box<dyn Backend> = match common.backend {
        Runtime::Kubernetes => Box::new(KubernetesBackend::open(&common.kubernetes)?),
        Runtime::Docker => {
            let lab = LabOptions {
                subnet: common.subnet,
                clusters: options.at_once,
                raise_neighbour_limits: common.raise_neighbour_limits,
                ..LabOptions::default()
            };
            let seccomp = common.seccomp.as_deref();
            Box::new(DockerBackend::open(&lab, &task.scenario.settings, seccomp, task.nodes)?)
        }
    };
    let mut cluster = Cluster::new(backend, &task.scenario.settings, make(common, task.against)?)?;
    let facts = Player::play(&mut cluster, &task.scenario, task.nodes)?;
    let outcome = Outcome::of(&cluster, &facts)?;
    if let Err(failure) = cluster.close() {
        eprintln!("thane-testbed: {failure}; `thane-testbed down` removes what is left");
    }
    Ok(outcome)
}

/// Which agents a cluster of that kind has.
fn make(common: &CommonOptions, against: Against) -> Result<Make, Failure> {
    Ok(Make {
        serf_share: against.serf_share(common.serf_share),
        thane_config: thane_config(common.thane_config.as_deref(), against)?,
    })
}

/// The further settings of Thane's agents in clusters of that kind.
fn thane_config(given: Option<&str>, against: Against) -> Result<Option<String>, Failure> {
    let parse = |text| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
    let given = given.map(parse).transpose();
    let mut settings = given
        .map_err(|error| Failure::new(format!("--thane-config is no JSON object: {error}")))?
        .unwrap_or_default();
    if let Some(policy) = against.dissemination() {
        settings.insert("dissemination".to_owned(), policy.into());
    }
    Ok((!settings.is_empty()).then(|| serde_json::Value::Object(settings).to_string()))
}

/// Refuses what can't work before anything is started.
fn prepare(options: &RunOptions, scenarios: &[Scenario], kinds: &[Against]) -> Result<(), Failure> {
    let common = &options.common;
    if !(0.0..=1.0).contains(&common.serf_share) {
        return Err(Failure::new(format!("--serf-share is {}; it must be 0 to 1", common.serf_share)));
    }
    kinds.iter().try_for_each(|kind| make(common, *kind).map(|_| ()))?;
    options.out.iter().try_for_each(|folder| report::require_folder(folder))?;
    if common.backend == Runtime::Kubernetes {
        return kubernetes::require_cluster();
    }
    let (most, at_once) = (options.nodes.iter().copied().max().unwrap_or(0), options.at_once);
    if most * at_once > NODES_MAX {
        return Err(Failure::new(format!(
            "{at_once} clusters of {most} containers at once: one machine takes at most {NODES_MAX} containers"
        )));
    }
    if common.subnet.is_some() && at_once > 1 {
        return Err(Failure::new("--subnet is for one cluster: leave out --at-once"));
    }
    docker::version()?;
    let upgrades = scenarios
        .iter()
        .any(|scenario| scenario.steps.iter().any(|step| step.to == crate::scenario::Become::Other));
    for software in [Software::Serf, Software::Thane] {
        let other = if software == Software::Serf { 0.0 } else { 1.0 };
        if upgrades || kinds.iter().any(|kind| kind.serf_share(0.5) != other) {
            docker::require_image(&software.shell_image())?;
        }
    }
    leftovers::clear_before_start()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(arguments: &[&str]) -> RunOptions {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            run: RunOptions,
        }
        let words = ["run"].iter().chain(arguments);
        <Line as clap::Parser>::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).run
    }

    #[test]
    fn agents_of_a_kind_get_its_policy_beside_the_given_settings() {
        let config = |line: &[&str], kind| make(&options(line).common, kind).map(|make| make.thane_config);
        assert_eq!(config(&["all"], Against::Mixed).unwrap(), None);
        let eager = config(&["all"], Against::Eager).unwrap().unwrap();
        assert_eq!(eager, r#"{"dissemination":"eager"}"#);
        let both = config(&["all", "--thane-config={\"label\": \"x\"}"], Against::Classic).unwrap().unwrap();
        assert_eq!(both, r#"{"label":"x","dissemination":"classic"}"#);
        assert!(config(&["all", "--thane-config=[1]"], Against::Thane).is_err());
    }

    #[test]
    fn serf_alone_is_played_before_what_is_compared_with_it() {
        let scenarios = [Scenario::find("upgrade").unwrap(), Scenario::find("rolling-restart").unwrap()];
        let all =
            tasks(&options(&["all", "--nodes=8", "--runs=2"]), &scenarios, &[Against::Serf, Against::Thane]);
        let names: Vec<(&str, &str, &str)> = all
            .iter()
            .map(|task| (task.scenario.name.as_str(), task.against.name(), task.yardstick.as_str()))
            .collect();
        let expected = [
            ("upgrade-serf-alone", "serf", "upgrade-serf-alone"),
            ("upgrade", "serf", "upgrade-serf-alone"),
            ("upgrade", "thane", "upgrade-serf-alone"),
            ("rolling-restart", "serf", "rolling-restart"),
            ("rolling-restart", "thane", "rolling-restart"),
        ];
        assert_eq!(names, expected.into_iter().flat_map(|one| [one, one]).collect::<Vec<_>>());
    }
}
