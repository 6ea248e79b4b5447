//! Runs the agent: start, service, end.

use std::process::ExitCode;
use std::time::Duration;

use thane_engine::api::{Engine, share_one_heap};
use thane_engine::view::MemberStatus;
use tokio::task::LocalSet;

use super::address::Addresses;
use super::banner::heading;
use super::config::{self, Config};
use super::interfaces::Interfaces;
use super::level::Level;
use super::log::Log;
use super::printer::{STDERR, STDOUT};
use super::running::Agent;
use super::signals::Signal;
use super::systemd;
use crate::command::Failure;
use crate::flags::Argument;

/// Longest graceful leave, as in Serf; the agent exits without it afterwards.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for closing sockets and files, which takes milliseconds.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for the readers of stdout and stderr at the end.
const PRINTED_WITHIN: Duration = Duration::from_secs(1);
/// Threads for name lookups and files; they end when idle.
const BLOCKING_THREADS_MAX: usize = 4;
const THREAD_STACK_BYTES: usize = 256 << 10;

/// Runs the agent until a signal or an RPC client ends it.
///
/// # Errors
/// An argument, a configuration file or an address can't be used. Nothing was started.
pub(crate) fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    share_one_heap();
    let result = configured(arguments);
    [&STDOUT, &STDERR].into_iter().for_each(|printer| printer.finish(PRINTED_WITHIN));
    result
}

fn configured(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let config = config::read_config(arguments).map_err(|failure| match failure {
        Failure::Message(text) => arrow(text),
        other => other,
    })?;
    config.warnings.iter().for_each(heading);
    let addresses = addresses(&config).map_err(arrow)?;
    addresses.note.iter().for_each(heading);
    // The local time zone can only be read while there is one thread.
    let log = Log::new(config.log_level);
    if config.json_log {
        log.print_json();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
        .map_err(|error| arrow(format!("Failed to start the Serf agent: {error}")))?;
    let code = LocalSet::new().block_on(&runtime, live(arguments, config, addresses, log));
    // A running name lookup must not delay the exit.
    runtime.shutdown_background();
    Ok(code)
}

fn arrow(text: String) -> Failure {
    Failure::Message(format!("==> {text}"))
}

fn addresses(config: &Config) -> Result<Addresses, String> {
    let interfaces = Interfaces::list()
        .map_err(|error| format!("Failed to list the addresses of this machine: {error}"))?;
    Addresses::find(&config.bind, &config.settings.advertise, &config.settings.interface, &interfaces)
}

async fn live(arguments: &[Argument], config: Config, addresses: Addresses, log: Log) -> ExitCode {
    heading("Starting Serf agent...");
    let engine = match Engine::start(config.io_driver) {
        Ok(engine) => engine,
        Err(error) => {
            heading(format_args!("Failed to start the Serf agent: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = match Agent::start(&engine, arguments, config, addresses, log).await {
        Ok(agent) => agent.serve().await,
        Err(text) => {
            heading(text);
            ExitCode::FAILURE
        }
    };
    // The system closes whatever is left when the process ends.
    let _ = tokio::time::timeout(SHUTDOWN_WITHIN, engine.stop()).await;
    code
}

impl Agent {
    /// Serves until something ends it.
    async fn serve(mut self) -> ExitCode {
        loop {
            let signal = tokio::select! {
                signal = self.signals.next() => signal,
                () = self.backend.stop.notified() => {
                    let own = self.backend.handle.local_member().await;
                    self.shut_down(own.is_ok_and(|own| own.status == MemberStatus::Left)).await;
                    return ExitCode::SUCCESS;
                }
                () = self.gave_up.notified() => {
                    self.shut_down(false).await;
                    return ExitCode::FAILURE;
                }
                name_taken = &mut self.forwarding => {
                    let log = &self.backend.log;
                    log.add(Level::Warn, "serf", "Shutdown without a Leave");
                    log.add(Level::Warn, "agent", "Serf shutdown detected, quitting");
                    log.add(Level::Info, "agent", "requesting serf shutdown");
                    log.add(Level::Info, "agent", "shutdown complete");
                    let is_orderly = matches!(name_taken, Ok(None));
                    return if is_orderly { ExitCode::SUCCESS } else { ExitCode::FAILURE };
                }
            };
            match signal {
                Signal::Dump => self.dump().await,
                Signal::Hangup => {
                    heading(format_args!("Caught signal: {signal}"));
                    self.reload();
                }
                Signal::Interrupt | Signal::Terminate => {
                    heading(format_args!("Caught signal: {signal}"));
                    return self.end(signal).await;
                }
            }
        }
    }

    /// Leaves first if the signal and the configuration say so.
    async fn end(mut self, signal: Signal) -> ExitCode {
        let settings = &self.config.settings;
        let graceful = match signal {
            Signal::Interrupt => !settings.skip_leave_on_interrupt,
            _ => settings.leave_on_terminate,
        };
        let left = graceful && {
            heading("Gracefully shutting down agent...");
            self.leave().await
        };
        self.shut_down(left).await;
        if left { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Leaves, unless that takes longer than [`LEAVE_WITHIN`] or another signal arrives. Returns whether it has left.
    async fn leave(&mut self) -> bool {
        let backend = self.backend.clone();
        tokio::select! {
            left = backend.leave() => match left {
                Ok(()) => true,
                Err(error) => {
                    heading(format_args!("Error: {error}"));
                    false
                }
            },
            () = self.another_signal() => false,
            () = tokio::time::sleep(LEAVE_WITHIN) => false,
        }
    }

    async fn another_signal(&mut self) {
        while self.signals.next().await == Signal::Dump {}
    }

    /// Stops the node. Afterwards its sockets are closed and its snapshot is on disk.
    async fn shut_down(&self, left: bool) {
        let (log, handle) = (&self.backend.log, &self.backend.handle);
        systemd::notify(systemd::STOPPING);
        let close = async {
            log.add(Level::Info, "agent", "requesting serf shutdown");
            if !left {
                log.add(Level::Warn, "serf", "Shutdown without a Leave");
            }
            handle.shutdown().await;
            log.add(Level::Info, "agent", "shutdown complete");
        };
        if tokio::time::timeout(SHUTDOWN_WITHIN, close).await.is_err() {
            log.add(
                Level::Err,
                "agent",
                format_args!("shutdown took longer than {SHUTDOWN_WITHIN:?}, exiting without it"),
            );
        }
    }
}
