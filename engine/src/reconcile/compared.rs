//! What a node announces of itself in the extension of its pings and acks, and since when it is so.

use std::time::Duration;

use crate::digest::Digest;
use crate::time::Time;
use crate::wire::extension::Extension;

/// What this node is compared by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compared {
    extension: Extension,
    members_changed_at: Time,
    messages_changed_at: Time,
    /// The node takes streams by TLS.
    pub(crate) announces_tls: bool,
}

/// The unit of an extension's age.
const AGE_UNIT: Duration = Duration::from_millis(100);

impl Compared {
    /// Takes the digests of view and messages after an input.
    #[inline]
    pub(crate) fn observe(&mut self, view: &Digest, messages: u64, now: Time) {
        let Extension { members, count, messages: before, gone, .. } = self.extension;
        let (alive, is_gone) = (view.alive(), (view.gone() >> 32) as u32);
        if (members, count, before, gone) != (alive.sum, alive.count, messages, is_gone) {
            self.change(view, messages, now);
        }
    }

    fn change(&mut self, view: &Digest, messages: u64, now: Time) {
        let alive = view.alive();
        if self.extension.members != alive.sum {
            self.members_changed_at = now;
        }
        if self.extension.messages != messages {
            self.messages_changed_at = now;
        }
        self.extension = Extension {
            members: alive.sum,
            count: alive.count,
            messages,
            gone: (view.gone() >> 32) as u32,
            ..Extension::default()
        };
    }

    /// The extension of a message that is sent now.
    pub(crate) fn at(&self, now: Time) -> Extension {
        let age =
            |since: Time| u8::try_from(now.since(since).as_nanos() / AGE_UNIT.as_nanos()).unwrap_or(u8::MAX);
        Extension {
            members_age: age(self.members_changed_at),
            messages_age: age(self.messages_changed_at),
            tls: self.announces_tls,
            ..self.extension
        }
    }
}

/// Whether an age of an extension is at least that.
pub(crate) fn is_as_old_as(age: u8, least: Duration) -> bool {
    u32::from(age) * AGE_UNIT >= least.min(AGE_UNIT * 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::member_version;
    use crate::wire::Incarnation;

    #[test]
    fn the_age_begins_anew_with_every_change() {
        let (mut compared, mut digest) = (Compared::default(), Digest::default());
        let at = |millis| Time::ZERO + Duration::from_millis(millis);
        digest.enter(7, member_version(Incarnation(1), false));
        compared.observe(&digest, 0, at(1000));
        compared.observe(&digest, 0, at(3000));
        assert_eq!((compared.at(at(3050)).members_age, compared.at(at(3050)).count), (20, 1));
        assert!(is_as_old_as(compared.at(at(3050)).members_age, Duration::from_secs(2)));
        compared.observe(&digest, 5, at(3100));
        let both = |at: Extension| (at.members_age, at.messages_age);
        assert_eq!(both(compared.at(at(3150))), (21, 0));
        assert!(!is_as_old_as(compared.at(at(4050)).messages_age, Duration::from_secs(1)));
        assert_eq!(both(compared.at(at(1_000_000))), (255, 255));
    }
}
