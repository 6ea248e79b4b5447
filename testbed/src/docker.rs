//! The Docker engine, by its command line: what works from engine 20.10 to 29.

use std::path::Path;

use crate::failure::Failure;
use crate::program::{Printed, Program};

/// Everything the testbed makes carries this label; its value is the run's id.
pub(crate) const LABEL: &str = "thane-testbed";
/// Which process made it: `PID:START`, see [`crate::leftovers`].
pub(crate) const OWNER: &str = "thane-testbed.owner";

/// A container to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) image: String,
    pub(crate) network: String,
    pub(crate) ip: String,
    pub(crate) ip6: Option<String>,
    /// A further name by which the network's DNS finds it.
    pub(crate) alias: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    /// A folder of this machine that it sees as `/state`.
    pub(crate) state: String,
    /// A seccomp profile's file; the engine's own where there is none.
    pub(crate) seccomp: Option<String>,
    /// Another program than the image's.
    pub(crate) entrypoint: Option<String>,
    pub(crate) arguments: Vec<String>,
}

impl Container {
    /// Arguments of `docker` that start it.
    pub(crate) fn run_arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["run", "-d", "--pull=never"].map(str::to_owned).into();
        let mut option = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
        option("name", &self.name);
        option("hostname", &self.hostname);
        option("network", &self.network);
        option("ip", &self.ip);
        self.ip6.iter().for_each(|ip| option("ip6", ip));
        self.alias.iter().for_each(|alias| option("network-alias", alias));
        self.labels.iter().for_each(|(name, value)| option("label", &format!("{name}={value}")));
        option("volume", &format!("{}:/state", self.state));
        self.seccomp.iter().for_each(|profile| option("security-opt", &format!("seccomp={profile}")));
        self.entrypoint.iter().for_each(|program| option("entrypoint", program));
        arguments.push(self.image.clone());
        arguments.extend(self.arguments.iter().cloned());
        arguments
    }
}

/// A network to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) bridge: String,
    pub(crate) subnet: String,
    pub(crate) subnet6: Option<String>,
    pub(crate) mtu: Option<u32>,
    pub(crate) labels: Vec<(String, String)>,
}

impl Network {
    pub(crate) fn create_arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["network", "create", "--driver=bridge"].map(str::to_owned).into();
        arguments.push(format!("--subnet={}", self.subnet));
        if let Some(subnet) = &self.subnet6 {
            arguments.extend(["--ipv6".to_owned(), format!("--subnet={subnet}")]);
        }
        arguments.push(format!("--opt=com.docker.network.bridge.name={}", self.bridge));
        if let Some(mtu) = self.mtu {
            arguments.push(format!("--opt=com.docker.network.driver.mtu={mtu}"));
        }
        arguments.extend(self.labels.iter().map(|(name, value)| format!("--label={name}={value}")));
        arguments.push(self.name.clone());
        arguments
    }
}

/// Runs `docker` with these arguments.
///
/// # Errors
/// One line that says what to do where the cause is known.
pub(crate) fn docker<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, Failure> {
    let program = Program::new("docker").args(arguments);
    let shown = program.to_string();
    let printed = program.print()?;
    if printed.ok { Ok(printed.out) } else { Err(explain(&shown, &printed)) }
}

/// The engine's version, if it can be used.
///
/// # Errors
/// No engine, or no permission to use it.
pub(crate) fn version() -> Result<String, Failure> {
    docker(["version", "--format", "{{.Server.Version}}"])
}

/// # Errors
/// The image is not there, or the engine can't be asked.
pub(crate) fn require_image(image: &str) -> Result<(), Failure> {
    docker(["image", "inspect", "--format", "{{.Id}}", image]).map(|_| ()).map_err(|failure| {
        if failure.to_string().contains("is missing") {
            failure
        } else {
            Failure::new(format!("image {image} can't be used: {failure}"))
        }
    })
}

/// Makes an image of a folder that holds its root.
///
/// # Errors
/// `tar` or the engine failed.
pub(crate) fn import(root: &Path, image: &str, changes: &[String]) -> Result<(), Failure> {
    let archive = root.with_extension("tar");
    let owner = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name"];
    Program::new("tar")
        .args(["-C"])
        .args([root])
        .args(owner)
        .args(["-cf"])
        .args([&archive])
        .args(["."])
        .run()?;
    let mut arguments = vec!["import".to_owned()];
    arguments.extend(changes.iter().map(|change| format!("--change={change}")));
    arguments.extend([archive.display().to_string(), image.to_owned()]);
    let imported = docker(arguments);
    std::fs::remove_file(&archive).map_err(|error| Failure::file(&archive, &error))?;
    imported.map(|_| ())
}

/// What begins a refusal of the engine.
const ENGINE_ERROR: &str = "Error response from daemon: ";

/// The words of the engine that users meet, and what to do about each.
fn explain(shown: &str, printed: &Printed) -> Failure {
    let text = format!("{}\n{}", printed.err, printed.out);
    let line =
        |pattern: &str| text.lines().find(|line| line.contains(pattern)).unwrap_or("").trim().to_owned();
    let has = |pattern: &str| text.contains(pattern);
    Failure::new(if has("permission denied") && has("docker") && has("connect") {
        "no permission to use the Docker engine's socket: run as root, or add the user to the group docker"
            .into()
    } else if has("Cannot connect to the Docker daemon")
        || has("error during connect")
        || has("failed to connect to the docker API")
    {
        "no Docker engine answers: start it (dockerd, or systemctl start docker), or set DOCKER_HOST".into()
    } else if has("No such image")
        || has("Unable to find image")
        || has("No such object: thane")
        || has("No such object: serf")
    {
        let image = text
            .split_whitespace()
            .map(|word| word.trim_matches(['\'', '"', ':']))
            .find(|word| word.contains(":testbed"));
        format!("image {} is missing: make it with `thane-testbed images`", image.unwrap_or("of the testbed"))
    } else if has("Pool overlaps") || has("cannot create network") && has("conflicts with network") {
        format!(
            "the subnet is in use by another network ({}): give another one with --subnet",
            line("verlap").trim_start_matches("Error response from daemon: ")
        )
    } else if has("no space left on device") {
        format!("disk full: `{shown}` failed: {}", line("no space left on device"))
    } else {
        // `docker run` ends with a hint about its help; the cause stands above it.
        let cause = Some(line(ENGINE_ERROR)).filter(|cause| !cause.is_empty());
        let cause = cause.as_deref().unwrap_or(printed.last_error_line());
        let cause = cause.split_once(ENGINE_ERROR).map_or(cause, |(_, cause)| cause);
        format!("`{shown}` failed: {cause}")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn containers_and_networks_become_arguments() {
        let container = Container {
            name: "ttb-1-n01".into(),
            hostname: "n01".into(),
            image: "thane:testbed".into(),
            network: "ttb-1".into(),
            ip: "10.201.4.11".into(),
            ip6: Some("fd00::b".into()),
            alias: Some("seeds".into()),
            labels: vec![(LABEL.into(), "1".into())],
            state: "/tmp/s".into(),
            seccomp: Some("/p.json".into()),
            entrypoint: Some("/bin/sh".into()),
            arguments: vec!["agent".into(), "-node=n01".into()],
        };
        assert_eq!(
            container.run_arguments().join(" "),
            "run -d --pull=never --name=ttb-1-n01 --hostname=n01 --network=ttb-1 --ip=10.201.4.11 --ip6=fd00::b \
             --network-alias=seeds --label=thane-testbed=1 --volume=/tmp/s:/state --security-opt=seccomp=/p.json \
             --entrypoint=/bin/sh thane:testbed agent -node=n01"
        );
        let network = Network {
            name: "ttb-1".into(),
            bridge: "ttb1".into(),
            subnet: "10.201.4.0/22".into(),
            subnet6: Some("fd00:c9:1::/64".into()),
            mtu: Some(1280),
            labels: vec![(LABEL.into(), "1".into())],
        };
        assert_eq!(
            network.create_arguments().join(" "),
            "network create --driver=bridge --subnet=10.201.4.0/22 --ipv6 --subnet=fd00:c9:1::/64 \
             --opt=com.docker.network.bridge.name=ttb1 --opt=com.docker.network.driver.mtu=1280 \
             --label=thane-testbed=1 ttb-1"
        );
    }

    #[test]
    fn each_known_refusal_says_what_to_do() {
        // Texts of engines 20.10 and 28, as they print them.
        let cases = [
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                "no Docker engine answers",
            ),
            (
                "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
                "no permission",
            ),
            (
                "Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: dial unix",
                "group docker",
            ),
            (
                "Error: No such image: thane:testbed",
                "image thane:testbed is missing: make it with `thane-testbed images`",
            ),
            (
                "Error response from daemon: Pool overlaps with other one on this address space",
                "give another one with --subnet",
            ),
            ("docker: Error response from daemon: mkdir /x: no space left on device.", "disk full"),
            ("warning\nError response from daemon: something new", "`docker x` failed: something new"),
            (
                "docker: Error response from daemon: bad mount.\n\nRun 'docker run --help' for more information",
                "`docker x` failed: bad mount.",
            ),
            ("unknown flag: --x", "`docker x` failed: unknown flag: --x"),
        ];
        for (printed, expected) in cases {
            let printed = Printed { ok: false, out: String::new(), err: printed.into() };
            let said = explain("docker x", &printed).to_string();
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
