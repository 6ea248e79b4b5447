//! Agents as pods of a Kubernetes cluster, with nothing but `kubectl` and its kubeconfig: each run in a namespace of
//! its own, RPC through `kubectl port-forward`. A pod's end is its container's end: it keeps neither address nor
//! state, and this machine can't read its counters or limit its links.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agent::{AgentSpec, RPC_PORT, SEEDS_NAME};
use crate::backend::{Backend, Placed};
use crate::docker::LABEL;
use crate::failure::Failure;
use crate::images::Software;
use crate::links::Links;
use crate::program::Program;
use crate::scenario::{Action, Scenario};

/// How long a pod may take to have an address and a running container.
const START_PATIENCE: Duration = Duration::from_secs(120);
const FORWARD_PATIENCE: Duration = Duration::from_secs(20);
/// The label of the pods that a partition cuts off.
const CUT_OFF: &str = "thane-testbed-cut-off";

/// Where the images are, as the cluster's nodes know them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KubernetesOptions {
    /// Kubernetes: Thane's image with a shell, as the nodes know it.
    #[arg(long, default_value = "thane:testbed-shell", value_name = "IMAGE")]
    thane_image: String,
    /// Kubernetes: Serf's image with a shell, as the nodes know it.
    #[arg(long, default_value = "serf:testbed-shell", value_name = "IMAGE")]
    serf_image: String,
}

/// The pods of one cluster, in a namespace that goes with them.
#[derive(Debug)]
pub(crate) struct KubernetesBackend {
    namespace: String,
    options: KubernetesOptions,
    forwards: HashMap<String, Child>,
    addresses: HashMap<String, IpAddr>,
    /// Logs of pods that were deleted.
    logs: HashMap<String, String>,
    closed: bool,
}

/// What a scenario needs that pods can't give; none if it can be played.
pub(crate) fn lacks(scenario: &Scenario) -> Option<String> {
    let settings = &scenario.settings;
    let needs = [
        (settings.snapshot, "a snapshot that outlives its container"),
        (settings.handlers, "handlers' files that outlive their container"),
        (settings.ipv6, "an IPv6 network"),
        (settings.mtu.is_some(), "an MTU"),
        (settings.deny_io_uring, "a seccomp profile on the nodes"),
    ];
    let setting = needs.iter().find(|(needed, _)| *needed).map(|(_, what)| (*what).to_owned());
    let can = |action: Action| {
        use Action::{
            Crash, Event, Heal, InstallKey, Join, Leave, Move, Partition, Query, RemoveKey, Replace, Stream,
            UseKey,
        };
        [
            Crash, Event, Heal, InstallKey, Join, Leave, Move, Partition, Query, RemoveKey, Replace, Stream,
            UseKey,
        ]
        .contains(&action)
    };
    let action = scenario.steps.iter().filter_map(|step| step.action).find(|action| !can(*action));
    setting.or_else(|| action.map(|action| format!("the step {action:?}")))
}

/// # Errors
/// No `kubectl`, or no cluster answers it.
pub(crate) fn require_cluster() -> Result<(), Failure> {
    kubectl(["get", "--raw", "/version"]).map(|_| ()).map_err(|failure| {
        Failure::new(format!(
            "no Kubernetes cluster answers kubectl (see `kubectl config current-context`): {failure}"
        ))
    })
}

/// Namespaces that runs left.
///
/// # Errors
/// The cluster can't be asked, or refuses the deletion.
pub(crate) fn down() -> Result<(), Failure> {
    let names = kubectl(["get", "namespaces", "-l", LABEL, "-o", "name"])?;
    for name in names.split_whitespace() {
        kubectl(["delete", name, "--wait=false"])?;
        println!("{name}: removed");
    }
    Ok(())
}

fn kubectl<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<String, Failure> {
    Program::new("kubectl").args(arguments).run()
}

impl KubernetesBackend {
    /// Makes the namespace and the seeds' service.
    ///
    /// # Errors
    /// The cluster refuses them.
    pub(crate) fn open(options: &KubernetesOptions) -> Result<KubernetesBackend, Failure> {
        let number = getrandom::u32().map_err(|error| Failure::new(format!("random numbers: {error}")))?;
        let namespace = format!("thane-testbed-{:06x}", number & 0xff_ffff);
        let backend = KubernetesBackend {
            namespace: namespace.clone(),
            options: options.clone(),
            forwards: HashMap::new(),
            addresses: HashMap::new(),
            logs: HashMap::new(),
            closed: false,
        };
        backend.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": { LABEL: "run" } },
        }))?;
        backend.apply(&seeds_service(&namespace))?;
        Ok(backend)
    }

    fn apply(&self, object: &Value) -> Result<(), Failure> {
        Program::new("kubectl").args(["apply", "-f", "-"]).input(object.to_string()).run().map(|_| ())
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String, Failure> {
        kubectl([&["-n", self.namespace.as_str()], arguments].concat())
    }

    fn delete(&mut self, name: &str, grace: Duration) -> Result<(), Failure> {
        let log = self.kubectl(&["logs", name]).unwrap_or_default();
        self.logs.insert(name.to_owned(), log);
        if let Some(mut forward) = self.forwards.remove(name) {
            let _ = forward.kill();
            let _ = forward.wait();
        }
        let grace = format!("--grace-period={}", grace.as_secs());
        let mut arguments = vec!["delete", "pod", name, &grace, "--wait=true"];
        if grace == "--grace-period=0" {
            arguments.push("--force");
        }
        self.kubectl(&arguments).map(|_| ())
    }

    /// Forwards a local port to a pod's RPC port, and returns it.
    fn forward(&mut self, name: &str) -> Result<SocketAddr, Failure> {
        let fail = |why: String| Failure::new(format!("kubectl port-forward to {name}: {why}"));
        let port = format!(":{RPC_PORT}");
        let arguments =
            ["-n", &self.namespace, "port-forward", "--address=127.0.0.1", &format!("pod/{name}"), &port];
        let mut child = Command::new("kubectl")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| fail(error.to_string()))?;
        let stdout = child.stdout.take();
        self.forwards.insert(name.to_owned(), child);
        let (out, line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in
                stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok)
            {
                // Read on after the first line: a full pipe would stop the forwarding.
                let _ = out.send(line);
            }
        });
        let line = line.recv_timeout(FORWARD_PATIENCE).map_err(|_| fail("it printed no port".into()))?;
        local_port(&line).ok_or_else(|| fail(format!("it printed {line:?}")))
    }

    fn cannot<T>(what: &str) -> Result<T, Failure> {
        Err(Failure::new(format!(
            "the backend kubernetes has no {what}: play this scenario with --backend docker"
        )))
    }
}

/// Of `Forwarding from 127.0.0.1:40001 -> 7373`.
fn local_port(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("Forwarding from ")?.split_whitespace().next()?.parse().ok()
}

/// The seeds by one name, before they are ready too: they have to find each other.
fn seeds_service(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": SEEDS_NAME, "namespace": namespace, "labels": { LABEL: "run" } },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": { "thane-testbed-seed": "true" },
            "ports": [
                { "name": "gossip-udp", "port": 7946, "protocol": "UDP" },
                { "name": "gossip-tcp", "port": 7946, "protocol": "TCP" },
            ],
        },
    })
}

fn pod(namespace: &str, image: &str, agent: &AgentSpec) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": agent.name,
            "namespace": namespace,
            "labels": { LABEL: "run", "thane-testbed-seed": agent.is_seed.to_string() },
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 15,
            "containers": [{
                "name": "agent",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": agent.arguments,
                "resources": { "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "memory": "128Mi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                    "readOnlyRootFilesystem": true,
                },
                "volumeMounts": [{ "name": "state", "mountPath": "/state" }],
            }],
            "volumes": [{ "name": "state", "emptyDir": {} }],
        },
    })
}

/// Policies by which pods with the label of a partition reach only each other, and those without it likewise.
fn partition(namespace: &str) -> [Value; 2] {
    let side = |name: &str, operator: &str| {
        let same = json!({ "matchExpressions": [{ "key": CUT_OFF, "operator": operator }] });
        let peers = json!([{ "podSelector": same }]);
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "podSelector": same,
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{ "from": peers }],
                "egress": [{ "to": peers }],
            },
        })
    };
    [side("cut-off", "Exists"), side("others", "DoesNotExist")]
}

impl Backend for KubernetesBackend {
    fn seeds(&self, _count: u32, _by_name: bool) -> Vec<String> {
        // Addresses of pods are not known before they run.
        vec![SEEDS_NAME.to_owned()]
    }

    fn bind(&self, _place: u32) -> Option<IpAddr> {
        None
    }

    fn places(&self) -> u32 {
        u32::MAX
    }

    fn put(&mut self, _name: &str, _file: &str, _text: &str) -> Result<String, Failure> {
        Self::cannot("--thane-config")
    }

    fn start(&mut self, agent: &AgentSpec) -> Result<Placed, Failure> {
        let image = match agent.software {
            Software::Serf => &self.options.serf_image,
            Software::Thane => &self.options.thane_image,
        };
        self.apply(&pod(&self.namespace, image, agent))?;
        let deadline = Instant::now() + START_PATIENCE;
        let ip = loop {
            let status =
                self.kubectl(&["get", "pod", &agent.name, "-o", "jsonpath={.status.phase}/{.status.podIP}"])?;
            match status.split_once('/') {
                Some(("Running", ip)) if !ip.is_empty() => break ip.parse::<IpAddr>(),
                Some(("Failed" | "Succeeded", _)) => {
                    let log = self.kubectl(&["logs", &agent.name]).unwrap_or_default();
                    let log = crate::backend::last_lines(&log);
                    return Err(Failure::new(format!(
                        "agent {} ended at its start; its log: {log}",
                        agent.name
                    )));
                }
                _ if Instant::now() > deadline => {
                    let events = self.kubectl(&[
                        "get",
                        "events",
                        "--field-selector",
                        &format!("involvedObject.name={}", agent.name),
                    ]);
                    let last = crate::backend::last_lines(&events.unwrap_or_default());
                    return Err(Failure::new(format!("pod {} does not start: {last}", agent.name)));
                }
                _ => {
                    crate::stop::check()?;
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        };
        let ip = ip.map_err(|error| Failure::new(format!("address of pod {}: {error}", agent.name)))?;
        self.addresses.insert(agent.name.clone(), ip);
        Ok(Placed { ip, rpc: self.forward(&agent.name)?, meter: None })
    }

    fn can_wait(&self) -> bool {
        false
    }

    fn release(&mut self, _names: &[String]) -> Result<(), Failure> {
        Self::cannot("start at one moment")
    }

    fn forget_state(&mut self, _name: &str) -> Result<(), Failure> {
        Ok(())
    }

    fn kill(&mut self, names: &[String]) -> Result<(), Failure> {
        names.iter().try_for_each(|name| self.delete(name, Duration::ZERO))
    }

    fn stop(&mut self, name: &str, patience: Duration) -> Result<(), Failure> {
        self.delete(name, patience)
    }

    fn remove(&mut self, name: &str) -> Result<String, Failure> {
        if self.forwards.contains_key(name) {
            self.delete(name, Duration::ZERO)?;
        }
        Ok(self.logs.remove(name).unwrap_or_default())
    }

    fn log(&self, name: &str) -> Result<String, Failure> {
        match self.logs.get(name) {
            Some(log) => Ok(log.clone()),
            None => self.kubectl(&["logs", name]),
        }
    }

    fn is_running(&self, name: &str) -> Result<bool, Failure> {
        self.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]).map(|phase| phase == "Running")
    }

    fn state(&self, name: &str, file: &str) -> Result<String, Failure> {
        self.kubectl(&[
            "exec",
            name,
            "--",
            "/bin/sh",
            "-c",
            &format!("cat /state/{file} 2>/dev/null || true"),
        ])
    }

    fn pause(&mut self, _name: &str, _still: bool) -> Result<(), Failure> {
        Self::cannot("pause")
    }

    fn disconnect(&mut self, _name: &str, _placed: &Placed, _off: bool) -> Result<(), Failure> {
        Self::cannot("disconnect")
    }

    fn limit_cpu(&mut self, _name: &str, _cpus: Option<f64>) -> Result<(), Failure> {
        Self::cannot("CPU limit of a running pod")
    }

    fn limit_bandwidth(&mut self, _name: &str, _bytes_per_second: Option<u64>) -> Result<(), Failure> {
        Self::cannot("bandwidth limit")
    }

    fn set_links(&mut self, links: &Links) -> Result<(), Failure> {
        if !links.lossy.is_empty() {
            return Self::cannot("loss");
        }
        if links.cut_off.is_empty() {
            let gone = ["delete", "networkpolicy", "cut-off", "others", "--ignore-not-found"];
            self.kubectl(&gone)?;
            return self.kubectl(&["label", "pods", "--all", &format!("{CUT_OFF}-")]).map(|_| ());
        }
        for (name, _) in self.addresses.iter().filter(|(_, ip)| links.cut_off.contains(ip)) {
            self.kubectl(&["label", "pod", name, "--overwrite", &format!("{CUT_OFF}=true")])?;
        }
        partition(&self.namespace).iter().try_for_each(|policy| self.apply(policy))
    }

    fn set_delay(&mut self, delay: Option<(Duration, Duration)>) -> Result<(), Failure> {
        if delay.is_some() { Self::cannot("delay") } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        for (_, mut forward) in self.forwards.drain() {
            let _ = forward.kill();
            let _ = forward.wait();
        }
        kubectl(["delete", "namespace", &self.namespace, "--wait=false"]).map(|_| ())
    }
}

impl Drop for KubernetesBackend {
    fn drop(&mut self) {
        if let Err(failure) = self.close() {
            eprintln!("thane-testbed: {failure}; `kubectl delete namespace {}` removes it", self.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec() -> AgentSpec {
        AgentSpec {
            name: "n01".into(),
            software: Software::Thane,
            place: 0,
            is_seed: true,
            waits: false,
            arguments: vec!["agent".into(), "-node=n01".into()],
        }
    }

    #[test]
    fn pods_and_services_fit_together() {
        let (pod, service) = (pod("ns", "thane:x", &spec()), seeds_service("ns"));
        assert_eq!(
            pod["metadata"]["labels"]["thane-testbed-seed"],
            service["spec"]["selector"]["thane-testbed-seed"]
        );
        assert_eq!(pod["spec"]["containers"][0]["args"], json!(["agent", "-node=n01"]));
        assert_eq!(service["spec"]["clusterIP"], "None");
        let [cut_off, others] = partition("ns");
        assert_eq!(cut_off["spec"]["podSelector"], cut_off["spec"]["ingress"][0]["from"][0]["podSelector"]);
        assert_ne!(cut_off["spec"]["podSelector"], others["spec"]["podSelector"]);
    }

    #[test]
    fn the_forwarded_port_is_read_from_its_line() {
        let port = local_port("Forwarding from 127.0.0.1:40001 -> 7373");
        assert_eq!(port, Some(([127, 0, 0, 1], 40001).into()));
        assert_eq!(local_port("error: unable to forward"), None);
    }

    #[test]
    fn scenarios_that_need_more_than_pods_are_refused_with_the_reason() {
        let lacking = |name: &str| lacks(&Scenario::find(name).unwrap());
        for name in
            ["bootstrap", "event", "query", "crash", "leave", "pods", "partition", "smoke", "key-rotation"]
        {
            assert_eq!(lacking(name), None, "{name}");
        }
        assert_eq!(lacking("loss-5").as_deref(), Some("the step Loss"));
        assert!(lacking("upgrade").unwrap().contains("snapshot"));
        assert!(lacking("no-io-uring").unwrap().contains("seccomp"));
    }
}
