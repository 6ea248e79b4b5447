//! Agents in containers of this machine's Docker engine.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::agent::{AgentSpec, RPC_PORT, SEEDS_NAME};
use crate::backend::{Backend, Placed, last_lines};
use crate::docker::{Container, docker};
use crate::failure::Failure;
use crate::lab::{Lab, LabOptions};
use crate::links::Links;
use crate::meter::Meter;
use crate::program::Program;
use crate::queue::DelayQueue;
use crate::scenario::Settings;

/// The containers of one cluster and their network.
#[derive(Debug)]
pub(crate) struct DockerBackend {
    lab: Option<Lab>,
    ipv6: bool,
    seccomp: Option<String>,
    pids: HashMap<String, u32>,
    delay: Option<DelayQueue>,
}

impl DockerBackend {
    /// Makes the network. Containers get the seccomp profile of that file, if there is one; that it can be read is for
    /// the engine to say.
    ///
    /// # Errors
    /// One line; nothing is left behind.
    pub(crate) fn open(
        options: &LabOptions,
        settings: &Settings,
        seccomp: Option<&Path>,
        nodes: u32,
    ) -> Result<DockerBackend, Failure> {
        let options = LabOptions { ipv6: settings.ipv6, mtu: settings.mtu, ..options.clone() };
        let lab = Lab::open(&options, nodes)?;
        let seccomp = if settings.deny_io_uring {
            let path = lab.folder().join("deny-io-uring.json");
            fs::write(&path, DENY_IO_URING).map_err(|error| Failure::file(&path, &error))?;
            Some(path.display().to_string())
        } else {
            seccomp.map(|profile| profile.display().to_string())
        };
        Ok(DockerBackend { lab: Some(lab), ipv6: settings.ipv6, seccomp, pids: HashMap::new(), delay: None })
    }

    fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("only close takes it, which is the last call")
    }

    fn container(&self, name: &str) -> String {
        self.lab().container(name)
    }

    fn inspect(&self, name: &str, format: &str) -> Result<String, Failure> {
        docker(["inspect", "--format", format, &self.container(name)])
    }

    /// Runs a program in the container's network.
    fn in_network(&self, name: &str, arguments: &[&str]) -> Result<(), Failure> {
        let Some(pid) = self.pids.get(name) else { return Err(Failure::new(format!("{name} does not run"))) };
        let enter = ["-t".to_owned(), pid.to_string(), "-n".to_owned()];
        Program::new("nsenter").args(enter).args(arguments).run().map(|_| ())
    }
}

/// How long all containers may take to wait at their gates.
const RELEASE_PATIENCE: Duration = Duration::from_secs(20);
/// The named pipe below an agent's state that its container reads before it runs the agent.
const GATE: &str = "gate";

/// Arguments of a shell that waits for its gate and then becomes the agent.
fn waiting(agent: &AgentSpec) -> Vec<String> {
    let script = format!(": < /state/{GATE}; exec /usr/bin/{} \"$@\"", agent.software.name());
    let words = ["-c".to_owned(), script, "agent".to_owned()];
    words.into_iter().chain(agent.arguments.iter().cloned()).collect()
}

/// io_uring fails with EPERM; everything else is allowed.
const DENY_IO_URING: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["io_uring_setup",
"io_uring_enter", "io_uring_register"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;

impl Backend for DockerBackend {
    fn seeds(&self, count: u32, by_name: bool) -> Vec<String> {
        if by_name {
            return vec![SEEDS_NAME.to_owned()];
        }
        let address = |place| match self.lab().ip6(place) {
            Some(ip) => format!("[{ip}]"),
            None => self.lab().ip(place).to_string(),
        };
        (0..count).map(address).collect()
    }

    fn bind(&self, place: u32) -> Option<IpAddr> {
        self.lab().ip6(place).filter(|_| self.ipv6).map(IpAddr::V6)
    }

    fn places(&self) -> u32 {
        self.lab().places()
    }

    fn put(&mut self, name: &str, file: &str, text: &str) -> Result<String, Failure> {
        let path = self.lab().state(name)?.join(file);
        fs::write(&path, text).map_err(|error| Failure::file(&path, &error))?;
        Ok(format!("/state/{file}"))
    }

    fn start(&mut self, agent: &AgentSpec) -> Result<Placed, Failure> {
        let lab = self.lab();
        let (ip, ip6) = (lab.ip(agent.place), lab.ip6(agent.place));
        let container = Container {
            name: lab.container(&agent.name),
            hostname: agent.name.clone(),
            image: agent.software.shell_image(),
            network: lab.network(),
            ip: ip.to_string(),
            ip6: ip6.map(|ip| ip.to_string()),
            alias: agent.is_seed.then(|| SEEDS_NAME.to_owned()),
            labels: lab.labels(),
            state: lab.state(&agent.name)?.display().to_string(),
            seccomp: self.seccomp.clone(),
            entrypoint: agent.waits.then(|| "/bin/sh".to_owned()),
            arguments: if agent.waits { waiting(agent) } else { agent.arguments.clone() },
        };
        if agent.waits {
            let gate = lab.state(&agent.name)?.join(GATE);
            // One of an earlier container.
            let _ = fs::remove_file(&gate);
            Program::new("mkfifo").args([gate]).run()?;
        }
        docker(container.run_arguments())?;
        let pid = self.inspect(&agent.name, "{{.State.Pid}}")?.trim().parse().unwrap_or(0);
        if pid == 0 {
            return Err(self.death(&agent.name));
        }
        self.pids.insert(agent.name.clone(), pid);
        let member: IpAddr = ip6.map_or(IpAddr::V4(ip), IpAddr::V6);
        Ok(Placed { ip: member, rpc: SocketAddr::new(ip.into(), RPC_PORT), meter: Meter::of(pid) })
    }

    fn can_wait(&self) -> bool {
        true
    }

    fn release(&mut self, names: &[String]) -> Result<(), Failure> {
        let gate = |name: &String| self.lab().state(name).map(|folder| folder.join(GATE));
        let gates = names.iter().map(gate).collect::<Result<Vec<_>, _>>()?;
        // Opening a pipe waits for its reader, for ever where a container has ended: hence another process.
        let open = ["-c", "for gate in \"$@\"; do : > \"$gate\"; done", "release"];
        Program::new("sh").args(open).args(gates).within(RELEASE_PATIENCE).run().map(|_| ())
    }

    fn forget_state(&mut self, name: &str) -> Result<(), Failure> {
        let folder = self.lab().state(name)?;
        fs::remove_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))
    }

    fn kill(&mut self, names: &[String]) -> Result<(), Failure> {
        let containers = names.iter().map(|name| self.container(name));
        docker(["kill".to_owned()].into_iter().chain(containers)).map(|_| ())
    }

    fn stop(&mut self, name: &str, patience: Duration) -> Result<(), Failure> {
        docker(["stop", "-t", &patience.as_secs().to_string(), &self.container(name)]).map(|_| ())
    }

    fn remove(&mut self, name: &str) -> Result<String, Failure> {
        let log = self.log(name)?;
        self.pids.remove(name);
        docker(["rm", "-f", &self.container(name)])?;
        Ok(log)
    }

    fn log(&self, name: &str) -> Result<String, Failure> {
        let printed = Program::new("docker").args(["logs", &self.container(name)]).print()?;
        Ok(format!("{}\n{}", printed.out, printed.err))
    }

    fn is_running(&self, name: &str) -> Result<bool, Failure> {
        self.inspect(name, "{{.State.Running}}").map(|running| running == "true")
    }

    fn state(&self, name: &str, file: &str) -> Result<String, Failure> {
        let path = self.lab().state(name)?.join(file);
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Failure::file(&path, &error)),
        }
    }

    fn pause(&mut self, name: &str, still: bool) -> Result<(), Failure> {
        docker([if still { "pause" } else { "unpause" }, &self.container(name)]).map(|_| ())
    }

    fn disconnect(&mut self, name: &str, placed: &Placed, off: bool) -> Result<(), Failure> {
        let (network, container) = (self.lab().network(), self.container(name));
        if off {
            return docker(["network", "disconnect", &network, &container]).map(|_| ());
        }
        let mut arguments = vec!["network".to_owned(), "connect".to_owned()];
        arguments.push(format!("--ip={}", placed.rpc.ip()));
        if placed.ip.is_ipv6() {
            arguments.push(format!("--ip6={}", placed.ip));
        }
        arguments.extend([network, container]);
        docker(arguments).map(|_| ())
    }

    fn limit_cpu(&mut self, name: &str, cpus: Option<f64>) -> Result<(), Failure> {
        // No limit is as many as there are: an engine of version 20.10 takes 0 as "leave it".
        let all = std::thread::available_parallelism().map_or(1.0, |all| all.get() as f64);
        let cpus = format!("--cpus={}", cpus.unwrap_or(all));
        docker(["update", &cpus, &self.container(name)]).map(|_| ())
    }

    fn limit_bandwidth(&mut self, name: &str, bytes_per_second: Option<u64>) -> Result<(), Failure> {
        let Some(rate) = bytes_per_second else {
            return self.in_network(name, &["tc", "qdisc", "del", "dev", "eth0", "root"]);
        };
        let rate = format!("{}bit", rate * 8);
        let limit = ["tbf", "rate", &rate, "burst", "3000", "latency", "400ms"];
        let qdisc = ["tc", "qdisc", "replace", "dev", "eth0", "root"];
        self.in_network(name, &[&qdisc[..], &limit[..]].concat())
    }

    fn set_links(&mut self, links: &Links) -> Result<(), Failure> {
        links.apply(&self.lab().id)
    }

    fn set_delay(&mut self, delay: Option<(Duration, Duration)>) -> Result<(), Failure> {
        if let Some(old) = self.delay.take() {
            old.stop()?;
        }
        if let Some((shortest, longest)) = delay {
            self.delay = Some(DelayQueue::start(&self.lab().id, &self.lab().subnet(), shortest, longest)?);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        self.set_delay(None)?;
        self.lab.take().map_or(Ok(()), Lab::close)
    }
}

impl DockerBackend {
    fn death(&self, name: &str) -> Failure {
        let log = self.log(name).unwrap_or_default();
        let code = self.inspect(name, "{{.State.ExitCode}}").unwrap_or_default();
        Failure::new(format!(
            "agent {name} ended at its start with code {code}; its log: {}",
            last_lines(&log)
        ))
    }
}
