//! Probes of a node that can't send.

use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::event::Notice;
use thane_engine::fixtures::{Lone, members};

/// What a node that knows three silent members says in ten seconds, where its system refuses all datagrams or none.
fn said(refuses: bool) -> Vec<Notice> {
    let mut lone = Lone::new(|_| {});
    lone.learn(&members(3));
    let mut said = Vec::new();
    for _ in 0..100 {
        lone.pass(Duration::from_millis(100));
        said.extend(lone.ctx.out.notices.iter().map(|(_, notice)| notice.clone()));
        let sent: Vec<SocketAddr> = lone.ctx.out.datagrams.iter().map(|datagram| datagram.to).collect();
        lone.ctx.out.clear();
        if refuses {
            sent.into_iter().for_each(|to| lone.node.datagram_refused(&mut lone.ctx, to));
        }
    }
    said
}

#[test]
fn a_node_that_can_not_send_accuses_nobody() {
    let accusations =
        |said: &[Notice]| said.iter().filter(|notice| matches!(notice, Notice::SuspectNoAck { .. })).count();
    let refusals =
        |said: &[Notice]| said.iter().filter(|notice| matches!(notice, Notice::PingRefused { .. })).count();
    let heard_nothing = said(false);
    assert!(accusations(&heard_nothing) > 0);
    assert_eq!(refusals(&heard_nothing), 0);
    let sent_nothing = said(true);
    assert_eq!(accusations(&sent_nothing), 0);
    let count = refusals(&sent_nothing);
    assert!(count >= 4, "probes go on, {count} in ten seconds");
}
