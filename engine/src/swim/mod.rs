//! The members of the cluster: SWIM with Lifeguard, as memberlist implements it.
//!
//! `probe` pings members, `state` decides what a message about a member changes, `suspicion` computes how long a
//! suspect may refute, `merge` exchanges whole states, `claims` and `former` decide which address a name belongs to.

pub(crate) mod awareness;
mod claims;
mod corroborate;
mod former;
mod incarnation;
mod merge;
mod obituary;
mod probe;
mod round_trip;
mod state;
mod suspicion;
mod unanswered;

pub(crate) use claims::CLAIMS_MAX;
pub use merge::push_pull_scale;
pub(crate) use merge::{encode_local_states, verify_versions};
pub(crate) use obituary::departed_in;
pub(crate) use state::encoded_meta;
#[cfg(feature = "sim")]
pub(crate) use suspicion::timeout_min as suspicion_min;
pub(crate) use unanswered::UNANSWERED_MIN;

use hashbrown::HashMap;

use crate::config::Config;
use crate::context::Context;
use crate::roster::MemberIndex;
use crate::swim::awareness::Awareness;
use crate::swim::claims::Claims;
use crate::swim::former::Former;
use crate::swim::incarnation::IncarnationSteps;
use crate::swim::obituary::Obituary;
use crate::swim::probe::Prober;
use crate::swim::suspicion::Suspicion;
use crate::swim::unanswered::Unanswered;
use crate::wire::Incarnation;

/// The SWIM state of one node, apart from its view.
pub(crate) struct Swim {
    /// This node's incarnation. No other node raises it.
    incarnation: Incarnation,
    /// This node has announced its departure: no message revives it.
    leaving: bool,
    /// It has left: it does not answer to its name any more, which another node may have by now.
    pub(crate) has_left: bool,
    /// The meta comes from the delegate and not from the tags.
    pub(crate) meta_is_delegates: bool,
    pub(crate) awareness: Awareness,
    prober: Prober,
    suspicions: HashMap<MemberIndex, Suspicion, foldhash::fast::FixedState>,
    suspicion_generation: u32,
    /// Tombstones sent since the last probe to members that announced themselves as they were before they left.
    challenges: u32,
    unanswered: Unanswered,
    steps: IncarnationSteps,
    /// Departures that are still to be sent to the members that departed.
    obituaries: Vec<Obituary>,
    claims: Claims,
    former: Former,
}

impl Swim {
    pub(crate) fn new(config: &Config) -> Swim {
        Swim {
            incarnation: Incarnation(0),
            leaving: false,
            has_left: false,
            meta_is_delegates: false,
            awareness: Awareness::new(config.awareness_max_multiplier),
            prober: Prober::default(),
            suspicions: HashMap::default(),
            suspicion_generation: 0,
            challenges: 0,
            unanswered: Unanswered::default(),
            steps: IncarnationSteps::default(),
            obituaries: Vec::new(),
            claims: Claims::default(),
            former: Former::default(),
        }
    }

    /// Releases all references to names; the node ends.
    pub(crate) fn clear(&mut self, ctx: &mut Context) {
        self.claims.clear(ctx);
        self.former.clear(ctx);
        for (_, suspicion) in self.suspicions.drain() {
            for &accuser in suspicion.accusers() {
                ctx.roster.release_name(accuser);
            }
        }
    }
}
