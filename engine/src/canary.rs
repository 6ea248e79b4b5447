//! For simulations only: rules of the protocol that a node can be made to break, so that tests can show that
//! the checkers notice. Nothing but a World's [`set_canary`](crate::sim::World::set_canary) sets one.

/// The rule that a node breaks on purpose.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Canary {
    /// None.
    #[default]
    None,
    /// Accused, it does not raise its incarnation (SWIM 4.2).
    IgnoresAccusations,
    /// Believes that a dead member is alive without a higher incarnation (SWIM 4.2).
    RevivesTheDead,
    /// Forgets which user events it delivered (Serf delivers each once).
    ForgetsEvents,
    /// Believes old news that a member is alive that has left or was pruned.
    RevivesTheDeparted,
    /// Announces the digest that its view had when it knew nobody but itself.
    AnnouncesAnOldDigest,
}
