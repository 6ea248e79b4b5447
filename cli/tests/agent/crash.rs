//! Crashes at any moment, torn files, a full disk, a disk that became read-only: the agent starts again, finds back, has
//! lost nothing that was on disk, and handles nothing again that is on disk.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use thane_engine::ipc::{Client, EventRequest, Request};

use crate::process::{Agent, THANE, can_make_namespaces, poll};

/// Rounds in the normal run. `THANE_CRASH_ROUNDS=10000 cargo test -p thane --test agent crash` makes more.
const ROUNDS: usize = 50;
/// The agent writes an event's time before it reports the event; a busy machine may be late.
const FLUSHED_WITHIN: Duration = Duration::from_secs(10);
const PEER: &str = "127.32.1.1";
const ADDR: &str = "127.32.1.2";
/// The disk of the snapshot, in a mount namespace of its own: small, so that it is soon full.
const DISK_BYTES: &str = "size=256k";

/// What happens in a round, beside the kill.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// A part of the last line is missing afterwards, as after a power cut: nothing says that the file is whole, so what
    /// was missed does not come.
    Torn,
    /// The disk is full while events arrive, and has room again before the kill.
    Full,
    /// The same, and has room again after the next start only.
    FullAtStart,
    /// The disk is read-only at the next start.
    ReadOnly,
}

const FAULTS: [Fault; 5] = [Fault::None, Fault::Torn, Fault::Full, Fault::FullAtStart, Fault::ReadOnly];

/// The disk, mounted in the namespace of a process that waits for the end of the test.
struct Disk {
    holder: Child,
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Disk {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "mount -t tmpfs -o {DISK_BYTES} crash {0} && touch {0}/ready && cat",
            folder.path().display()
        );
        let holder = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let disk = Disk { holder, folder };
        poll("the disk", || disk.seen("ready").exists().then_some(()));
        disk
    }

    /// A file on the disk as this process reaches it.
    fn seen(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(folder).join(name)
    }

    /// The arguments of `nsenter` for a program that runs where the disk is mounted.
    fn inside(&self, program: &[&str]) -> Vec<String> {
        let enter = ["-m".to_owned(), "-t".to_owned(), self.holder.id().to_string()];
        enter.into_iter().chain(program.iter().map(|&word| word.to_owned())).collect()
    }

    fn remount(&self, how: &str) {
        let folder = self.folder.path().display().to_string();
        let done =
            Command::new("nsenter").args(self.inside(&["mount", "-o", how, &folder])).status().unwrap();
        assert!(done.success(), "remount {how}");
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.seen("filler")).unwrap();
        // To the last byte.
        for bytes in [4096, 1] {
            while filler.write_all(&vec![b'x'; bytes]).is_ok() {}
        }
    }

    fn free(&self) {
        let _ = fs::remove_file(self.seen("filler"));
    }

    /// The snapshot's bytes.
    fn snapshot(&self) -> Vec<u8> {
        fs::read(self.seen("snapshot")).unwrap_or_default()
    }

    /// The newest event time in the snapshot.
    fn event_clock(&self) -> u64 {
        let text = String::from_utf8_lossy(&self.snapshot()).into_owned();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let clocks = whole.lines().filter_map(|line| line.strip_prefix("event-clock: ")?.parse().ok());
        clocks.max().unwrap_or_default()
    }

    /// Cuts a part of the last line off.
    fn tear(&self, random: u64) {
        let bytes = self.snapshot();
        let last = bytes[..bytes.len().saturating_sub(1)].iter().rposition(|&byte| byte == b'\n');
        let line = bytes.len() - last.map_or(0, |end| end + 1);
        let kept = bytes.len() as u64 - 1 - random % line.max(1) as u64;
        fs::OpenOptions::new().write(true).open(self.seen("snapshot")).unwrap().set_len(kept).unwrap();
    }

    fn agent_flags(&self, more: &[&str]) -> Vec<String> {
        let snapshot = format!("-snapshot={}", self.folder.path().join("snapshot").display());
        let (bind, rpc) = (format!("-bind={ADDR}"), format!("-rpc-addr={ADDR}:7373"));
        let flags = [THANE, "agent", "-node=n", "-log-level=debug", &snapshot, &bind, &rpc];
        self.inside(&[&flags[..], more].concat())
    }

    fn spawn(&self, more: &[&str]) -> Agent {
        let arguments = self.agent_flags(more);
        Agent::of_command("nsenter", &arguments.iter().map(String::as_str).collect::<Vec<_>>(), ADDR)
    }

    fn start(&self, more: &[&str]) -> Agent {
        let mut agent = self.spawn(more);
        agent.wait_for("Log data will now stream in");
        agent
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Sends events that are numbered from 1, as their Lamport times are.
struct Sender {
    client: Client,
    sent: u64,
}

impl Sender {
    fn send(&mut self) -> u64 {
        self.sent += 1;
        let event =
            EventRequest { name: format!("event-{}.", self.sent), payload: Vec::new(), coalesce: false };
        self.client.call(&Request::Event(event)).unwrap();
        self.sent
    }
}

/// Waits until the agent reports that event.
fn wait_for_event(agent: &mut Agent, number: u64) {
    agent.wait_for(&format!("user-event: event-{number}."));
}

/// The numbers of the events that the agent reported.
fn reported(agent: &Agent) -> impl Iterator<Item = u64> {
    let number = |line: &String| line.split_once("user-event: event-")?.1.trim_end_matches('.').parse().ok();
    agent.lines.iter().filter_map(number)
}

#[test]
fn an_agent_that_crashes_starts_again_keeps_what_was_flushed_and_repeats_nothing() {
    if !can_make_namespaces("crash") {
        return;
    }
    let rounds =
        std::env::var("THANE_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let disk = Disk::mount();
    let _peer = Agent::start(THANE, PEER, &["-node=peer", "-log-level=err"]);
    let mut sender = Sender { client: Client::connect(&format!("{PEER}:7373"), "").unwrap(), sent: 0 };
    let mut agent = disk.start(&["-join=127.32.1.1"]);
    agent.wait_for("EventMemberJoin: peer");
    // From then on the snapshot brings it back.
    poll("the peer in the snapshot", || {
        String::from_utf8_lossy(&disk.snapshot()).contains("alive: peer").then_some(())
    });
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let fault = FAULTS[round % FAULTS.len()];
        // Something new on disk, then more, and the end in the middle of it.
        let on_disk = sender.send();
        wait_for_event(&mut agent, on_disk);
        let before = Instant::now();
        poll("the event's time on disk", || (disk.event_clock() >= on_disk).then_some(()));
        slowest = slowest.max(before.elapsed());
        let mut flushed = on_disk;
        if matches!(fault, Fault::Full | Fault::FullAtStart) {
            disk.fill();
            let unwritten = sender.send();
            wait_for_event(&mut agent, unwritten);
        }
        if fault == Fault::Full {
            disk.free();
            flushed = sender.send();
            wait_for_event(&mut agent, flushed);
            poll("the waiting lines", || (disk.event_clock() >= flushed).then_some(()));
        }
        for _ in 0..3 {
            sender.send();
        }
        std::thread::sleep(moment(round));
        agent.signal("KILL");
        agent.end();
        let kept = disk.event_clock();
        assert!(kept >= flushed, "round {round}, {fault:?}: {kept} of {flushed}");
        match fault {
            Fault::Torn => disk.tear(moment(round).as_nanos() as u64),
            Fault::ReadOnly => refused_while_read_only(&disk),
            Fault::None | Fault::Full | Fault::FullAtStart => {}
        }

        // Killed while it starts, too.
        let kept = disk.event_clock();
        let early = disk.spawn(&[]);
        std::thread::sleep(moment(round) / 3);
        early.signal("KILL");
        drop(early);
        // The agent may have recorded the newest events just before either end: they do not come again either.
        let known = disk.event_clock();
        assert!(known >= kept, "round {round}, {fault:?}");
        agent = disk.start(&[]);
        agent.wait_for("EventMemberJoin: peer ");
        if fault == Fault::Torn {
            let new = sender.send();
            wait_for_event(&mut agent, new);
        } else if known < sender.sent {
            wait_for_event(&mut agent, sender.sent);
        }
        disk.free();
        let again = reported(&agent).find(|&number| number <= known);
        assert_eq!(again, None, "round {round}, {fault:?}: came again, {known} are on disk");
        if (round + 1) % 100 == 0 {
            println!("{} rounds", round + 1);
        }
    }
    println!("{rounds} rounds, new lines were on disk within {slowest:?}");
    assert!(slowest < FLUSHED_WITHIN);
}

/// The agent does not start, says why, and leaves the file alone.
fn refused_while_read_only(disk: &Disk) {
    let before = disk.snapshot();
    disk.remount("remount,ro");
    let arguments = disk.agent_flags(&[]);
    let output = Command::new("nsenter").args(&arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Failed to open snapshot") && text.contains("Read-only file system"), "{text}");
    disk.remount("remount,rw");
    assert!(disk.snapshot() == before);
}

/// Somewhere in the first 200 ms, another place each round and in each run.
fn moment(round: usize) -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    Duration::from_micros(u64::from(nanos / 1000 + 137 * round as u32) * 7 % 200_000)
}
