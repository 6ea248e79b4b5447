//! What runs of the testbed leave on the machine: containers, networks, packet rules, folders. All carry the
//! run's id, and containers and networks also their owner, which separates what a dead run left from what a live
//! one uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::docker::{LABEL, OWNER, docker};
use crate::failure::Failure;
use crate::program::Program;

/// Prefix of the names of containers and networks.
pub(crate) const PREFIX: &str = "ttb";
/// What a run writes to its guard once it has cleaned up itself.
const CLEAN: &[u8] = b"clean\n";

/// How long killed containers may take to end before they are removed all the same.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// How often the engine is asked again to remove a network, once a second.
const NETWORK_ATTEMPTS: u32 = 5;
/// The file in a run's folder that names its owner.
const OWNER_FILE: &str = ".owner";
/// Folders that are being made begin with this.
const UNFINISHED: &str = ".new-";

/// What is there of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// `PID:START` of its process; empty where neither container nor network is left to say so.
    pub(crate) owner: String,
    pub(crate) containers: usize,
    pub(crate) networks: usize,
    pub(crate) rules: bool,
    pub(crate) folder: bool,
}

/// Everything of all runs, by id.
///
/// # Errors
/// The engine can't be asked.
pub(crate) fn find() -> Result<BTreeMap<String, Leftover>, Failure> {
    let format = format!("{{{{.Label \"{LABEL}\"}}}} {{{{.Label \"{OWNER}\"}}}}");
    let filter = format!("label={LABEL}");
    let containers = docker(["ps", "-a", "--filter", &filter, "--format", &format])?;
    let networks = docker(["network", "ls", "--filter", &filter, "--format", &format])?;
    let mut found: BTreeMap<String, Leftover> = BTreeMap::new();
    for (lines, is_network) in [(containers, false), (networks, true)] {
        for (id, owner) in lines.lines().filter_map(|line| line.trim().split_once(' ')) {
            let leftover = found.entry(id.to_owned()).or_default();
            owner.clone_into(&mut leftover.owner);
            *(if is_network { &mut leftover.networks } else { &mut leftover.containers }) += 1;
        }
    }
    let tables = Program::new("nft").args(["list", "tables"]).print().map(|printed| printed.out);
    for id in tables.iter().flat_map(|tables| table_ids(tables)) {
        found.entry(id.to_owned()).or_default().rules = true;
    }
    for entry in fs::read_dir(folders()).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        if id.starts_with(UNFINISHED) {
            continue;
        }
        let leftover = found.entry(id).or_default();
        leftover.folder = true;
        if leftover.owner.is_empty() {
            // A run's folder is there before its network.
            leftover.owner = fs::read_to_string(entry.path().join(OWNER_FILE)).unwrap_or_default();
        }
    }
    Ok(found)
}

/// Makes a run's folder, with its owner in it from the first moment on: other runs that start at the same time remove
/// what has none.
///
/// # Errors
/// It can't be made.
pub(crate) fn make_folder(id: &str) -> Result<PathBuf, Failure> {
    let (folder, unfinished) = (folder(id), folders().join(format!("{UNFINISHED}{id}")));
    let make = || {
        fs::create_dir_all(&unfinished)?;
        fs::write(unfinished.join(OWNER_FILE), owner())?;
        fs::rename(&unfinished, &folder)
    };
    make().map_err(|error: std::io::Error| {
        let _ = fs::remove_dir_all(&unfinished);
        Failure::file(&folder, &error)
    })?;
    Ok(folder)
}

/// Removes everything of runs whose process is gone; with `all`, of all.
///
/// # Errors
/// Something could not be removed; the rest is.
pub(crate) fn down(all: bool) -> Result<(), Failure> {
    let (mut kept, mut failed) = (0, None);
    let found = find()?;
    for (id, leftover) in &found {
        if !all && is_alive(&leftover.owner) {
            kept += 1;
            println!(
                "run {id}: its process {} is running, left alone (--all removes it too)",
                pid(&leftover.owner)
            );
            continue;
        }
        match remove(id) {
            Ok(()) => println!("run {id}: removed {}", leftover.summary()),
            Err(failure) => failed = Some(failure),
        }
    }
    if found.is_empty() || found.len() == kept {
        println!("nothing to remove");
    }
    failed.map_or(Ok(()), Err)
}

/// Says what earlier runs left, and removes what no process uses any more.
///
/// # Errors
/// The engine can't be asked.
pub(crate) fn clear_before_start() -> Result<(), Failure> {
    for (id, leftover) in find()? {
        if !is_alive(&leftover.owner) {
            eprintln!("run {id} ended without cleaning up; removing {}", leftover.summary());
            // The new run does not need it gone.
            if let Err(failure) = remove(&id) {
                eprintln!("thane-testbed: {failure}; something of run {id} is left");
            }
        }
    }
    Ok(())
}

/// Removes what that run made. The bridge goes down first: a hundred agents that notice each other's end are
/// thirty times slower to remove.
///
/// # Errors
/// Something is still there, with the first refusal.
pub(crate) fn remove(id: &str) -> Result<(), Failure> {
    let _ = Program::new("ip").args(["link", "set", &bridge(id), "down"]).print();
    let filter = format!("label={LABEL}={id}");
    let list = |more: &[&str]| {
        let arguments = ["ps", "-aq", "--filter", &filter].into_iter().chain(more.iter().copied());
        docker(arguments).map(|ids| ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    for (status, action) in [("status=paused", "unpause"), ("status=running", "kill")] {
        let ids = list(&["--filter", status])?;
        if !ids.is_empty() {
            let _ = docker([action.to_owned()].into_iter().chain(ids));
        }
    }
    // The engine takes an ended container's network away by itself; removing it meanwhile is a race.
    let deadline = Instant::now() + END_PATIENCE;
    while Instant::now() < deadline && !list(&["--filter", "status=running"])?.is_empty() {
        std::thread::sleep(Duration::from_millis(200));
    }
    let ids = list(&[])?;
    let names = docker(["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"])?;
    let mut result = Ok(());
    let mut keep = |step: Result<(), Failure>| {
        if result.is_ok() {
            result = step;
        }
    };
    if !ids.is_empty() {
        keep(docker(["rm", "-f", "-v"].map(str::to_owned).into_iter().chain(ids)).map(|_| ()));
    }
    let networks = docker(["network", "ls", "-q", "--filter", &filter])?;
    for network in networks.split_whitespace() {
        keep(remove_network(network, names.split_whitespace()));
    }
    let _ = Program::new("nft").args(["delete", "table", "bridge", &table(id)]).print();
    remove_queue_rules(id);
    let folder = folder(id);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            keep(Err(Failure::file(&folder, &error)))
        }
        _ => {}
    }
    result
}

/// Removes a network. Under load the engine can keep the endpoint of a container that is gone: that is cut off by its
/// name, and the engine gets some time.
fn remove_network<'a>(network: &str, names: impl Iterator<Item = &'a str> + Clone) -> Result<(), Failure> {
    let mut result = docker(["network", "rm", network]);
    // Where no container was left, nothing is under way.
    let attempts = if names.clone().next().is_some() { NETWORK_ATTEMPTS } else { 0 };
    for _ in 0..attempts {
        if result.is_ok() {
            break;
        }
        for name in names.clone() {
            let _ = docker(["network", "disconnect", "-f", network, name]);
        }
        std::thread::sleep(Duration::from_secs(1));
        result = docker(["network", "rm", network]);
    }
    result.map(|_| ())
}

/// Removes the rules in Docker's own chain that send packets of that run to a queue.
pub(crate) fn remove_queue_rules(id: &str) {
    let comment = table(id);
    let rules = Program::new("iptables").args(["-w", "-S", "DOCKER-USER"]).print().map(|printed| printed.out);
    for rule in rules.iter().flat_map(|rules| rules.lines()).filter(|rule| rule.contains(&comment)) {
        let arguments = rule.replacen("-A", "-D", 1).replace('"', "");
        let _ = Program::new("iptables").args(["-w"]).args(arguments.split_whitespace()).print();
    }
}

/// Folders of all runs.
fn folders() -> PathBuf {
    std::env::temp_dir().join("thane-testbed")
}

/// The folder of a run: each agent's state, as the containers see it.
pub(crate) fn folder(id: &str) -> PathBuf {
    folders().join(id)
}

/// The name of a run's bridge.
pub(crate) fn bridge(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// The name of a run's nft table, and the comment of its iptables rules.
pub(crate) fn table(id: &str) -> String {
    format!("thane_testbed_{id}")
}

fn table_ids(tables: &str) -> impl Iterator<Item = &str> {
    tables.lines().filter_map(|line| line.split_whitespace().last()?.strip_prefix("thane_testbed_"))
}

/// This process, as an owner.
pub(crate) fn owner() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", start_of(pid).unwrap_or_default())
}

/// Whether the process of that owner still runs; pids are used again, so its start time counts too.
fn is_alive(owner: &str) -> bool {
    let Some((pid, start)) = owner.split_once(':') else { return false };
    pid.parse().ok().and_then(start_of).is_some_and(|now| now.to_string() == start)
}

fn pid(owner: &str) -> &str {
    owner.split(':').next().unwrap_or(owner)
}

/// Ticks from boot to the start of that process: field 22 of its `stat`.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Leftover {
    fn summary(&self) -> String {
        let mut parts =
            vec![format!("{} containers", self.containers), format!("{} networks", self.networks)];
        self.rules.then(|| parts.push("packet rules".into()));
        self.folder.then(|| parts.push("its folder".into()));
        parts.join(", ")
    }
}

/// A process of its own that removes a run's containers when the run ends without doing so: a panic aborts in
/// release builds, and nothing runs after `kill -9`.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// # Errors
    /// No process can be started.
    pub(crate) fn start(id: &str) -> Result<Guard, Failure> {
        let exe = std::env::current_exe().map_err(|error| Failure::new(format!("own program: {error}")))?;
        let mut command = Command::new(exe);
        command.args(["guard", id]).stdin(Stdio::piped()).stdout(Stdio::null());
        // Ctrl-C is for the run, which then cleans up by itself.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().map(Guard).map_err(|error| Failure::new(format!("guard process: {error}")))
    }

    /// Ends it: the run has cleaned up.
    pub(crate) fn end(mut self) {
        if let Some(mut stdin) = self.0.stdin.take() {
            let _ = std::io::Write::write_all(&mut stdin, CLEAN);
        }
        let _ = self.0.wait();
    }
}

/// What the guard's process does: waits until the run's end of the pipe closes.
///
/// # Errors
/// Something can't be removed.
pub(crate) fn guard(id: &str) -> Result<(), Failure> {
    let mut said = Vec::new();
    let _ = std::io::Read::read_to_end(&mut std::io::stdin(), &mut said);
    if said == CLEAN {
        return Ok(());
    }
    eprintln!("thane-testbed: run {id} ended without cleaning up; removing its containers");
    // A `docker run` that was under way may still add one.
    remove(id)?;
    std::thread::sleep(Duration::from_secs(2));
    remove(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_alive_while_its_process_is_the_same() {
        assert!(is_alive(&owner()));
        assert!(!is_alive(&format!("{}:1", std::process::id())), "another start time is another process");
        assert!(!is_alive("4194305:1"));
        assert!(!is_alive(""));
    }

    #[test]
    fn a_folder_names_its_owner_before_others_see_it() {
        let id = format!("test{}", std::process::id());
        let folder = make_folder(&id).expect("the temporary folder can be written");
        let said = fs::read_to_string(folder.join(OWNER_FILE)).expect("it has an owner");
        fs::remove_dir_all(&folder).expect("it is this test's own");
        assert!(is_alive(&said));
        assert!(!folders().join(format!("{UNFINISHED}{id}")).exists());
    }

    #[test]
    fn ids_are_read_from_the_table_list() {
        let tables = "table ip nat\ntable bridge thane_testbed_0a1b2c\ntable ip filter\n";
        assert_eq!(table_ids(tables).collect::<Vec<_>>(), ["0a1b2c"]);
        assert!(bridge("0a1b2c").len() <= 15, "the kernel's limit for names of interfaces");
    }
}
