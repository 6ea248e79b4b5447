//! What a node announces of itself in the extension of its pings and acks, and since when it is so.

use std::time::Duration;

use crate::digest::Digest;
use crate::time::Time;
use crate::wire::extension::Extension;

/// What this node is compared by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compared {
    extension: Extension,
    changed_at: Time,
}

/// The unit of an extension's age.
const AGE_UNIT: Duration = Duration::from_millis(100);

impl Compared {
    /// Takes the digests of view and messages after an input.
    pub(crate) fn observe(&mut self, view: &Digest, messages: u64, now: Time) {
        let alive = view.alive();
        if (self.extension.members, self.extension.messages) != (alive.sum, messages) {
            self.changed_at = now;
        }
        self.extension = Extension {
            members: alive.sum,
            count: alive.count,
            messages,
            gone: (view.gone() >> 32) as u32,
            age: 0,
        };
    }

    /// The extension of a message that is sent now.
    pub(crate) fn at(&self, now: Time) -> Extension {
        let age = now.since(self.changed_at).as_nanos() / AGE_UNIT.as_nanos();
        Extension { age: u8::try_from(age).unwrap_or(u8::MAX), ..self.extension }
    }
}

/// Whether an extension is at least that old.
pub(crate) fn is_as_old_as(extension: &Extension, age: Duration) -> bool {
    u32::from(extension.age) * AGE_UNIT >= age.min(AGE_UNIT * 255)
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
        assert_eq!((compared.at(at(3050)).age, compared.at(at(3050)).count), (20, 1));
        assert!(is_as_old_as(&compared.at(at(3050)), Duration::from_secs(2)));
        compared.observe(&digest, 5, at(3100));
        assert_eq!(compared.at(at(3150)).age, 0);
        assert!(!is_as_old_as(&compared.at(at(4050)), Duration::from_secs(1)));
        assert_eq!(compared.at(at(1_000_000)).age, 255);
    }
}
