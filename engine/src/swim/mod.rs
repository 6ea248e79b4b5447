//! Who is in the cluster: SWIM with Lifeguard, as memberlist speaks it.
//!
//! The parts: `probe` asks members whether they live, `state` decides what a message about a member changes,
//! `suspicion` gives the accused time to refute, `merge` exchanges whole states.

pub(crate) mod awareness;
mod merge;
mod probe;
mod state;
mod suspicion;

pub use merge::push_pull_scale;
pub(crate) use merge::{encode_local_states, verify_versions};
pub(crate) use state::encoded_meta;
#[cfg(feature = "sim")]
pub(crate) use suspicion::timeout_min as suspicion_min;

use hashbrown::HashMap;

use crate::config::Config;
use crate::context::Context;
use crate::roster::MemberIndex;
use crate::swim::awareness::Awareness;
use crate::swim::probe::Prober;
use crate::swim::suspicion::Suspicion;
use crate::wire::Incarnation;

/// The SWIM state of one node, apart from its view.
pub(crate) struct Swim {
    /// The own incarnation; only this node raises it.
    incarnation: Incarnation,
    /// Set once the own graceful leave told the cluster: nothing revives this node.
    leaving: bool,
    /// The delegate gave the meta, not the tags.
    pub(crate) meta_is_delegates: bool,
    pub(crate) awareness: Awareness,
    prober: Prober,
    suspicions: HashMap<MemberIndex, Suspicion, foldhash::fast::FixedState>,
    suspicion_generation: u32,
    #[cfg(feature = "sim")]
    pub(crate) canary: crate::canary::Canary,
    /// Tombstones shown to who claims to live, since the last probe.
    challenges: u32,
}

impl Swim {
    pub(crate) fn new(config: &Config) -> Swim {
        Swim {
            incarnation: Incarnation(0),
            leaving: false,
            meta_is_delegates: false,
            awareness: Awareness::new(config.awareness_max_multiplier),
            prober: Prober::default(),
            suspicions: HashMap::default(),
            suspicion_generation: 0,
            #[cfg(feature = "sim")]
            canary: crate::canary::Canary::None,
            challenges: 0,
        }
    }

    /// Gives all references to names back; the node is gone.
    pub(crate) fn clear(&mut self, ctx: &mut Context) {
        for (_, suspicion) in self.suspicions.drain() {
            for &accuser in suspicion.accusers() {
                ctx.roster.release_name(accuser);
            }
        }
    }
}
