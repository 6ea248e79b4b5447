//! Thane and real Serf in one cluster, each with the other's command line.
//!
//! Every agent is a process of its own on a loopback address of its own; every test has a subnet of its own, so they
//! run in parallel. Nothing here is timed: conditions are polled until a deadline.

#![cfg(target_os = "linux")]

mod common;

mod interop {
    mod agent;
    mod cluster;
    mod rpc;

    mod clashes;
    mod commands;
    mod coordinates;
    mod eager;
    mod encryption;
    mod events;
    mod expressions;
    mod extensions;
    mod failures;
    mod keys;
    mod membership;
    mod monitors;
    mod protocols;
    mod queries;
    mod refusals;
    mod rotation;
    mod snapshots;
    mod takeover;
}
