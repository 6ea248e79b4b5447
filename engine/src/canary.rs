//! For simulations only: rules of the protocol that a node can be made to break, so that tests can show that
//! the checkers notice. Nothing but a World's `set_canary` sets one, and only with feature `sim`.

/// The rule that a node breaks on purpose.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Canary {
    /// None.
    #[default]
    None,
    /// Accused, it does not raise its incarnation (SWIM 4.2).
    IgnoresAccusations,
    /// A member that does not answer its probe is not suspected (SWIM 4.2).
    IgnoresFailedProbes,
    /// Believes that a dead member is alive without a higher incarnation (SWIM 4.2).
    RevivesTheDead,
    /// Accuses a member under a higher incarnation than that member gave itself (SWIM 4.2).
    RaisesOthersIncarnations,
    /// Takes an older incarnation of a member for news (SWIM 4.2).
    BelievesOldNews,
    /// Believes old news that a member is alive that has left or was pruned.
    RevivesTheDeparted,
    /// Lists a member as failed that announced that it leaves.
    ForgetsLeaves,
    /// Does not erase a member that another node prunes.
    IgnoresPrunes,
    /// Sets its event clock back to the time of an older event.
    SetsItsClockBack,
    /// Forgets which user events it delivered (Serf delivers each once).
    ForgetsEvents,
    /// Reports the end of a query again and again.
    EndsQueriesTwice,
    /// Does not report the end of a query.
    NeverEndsQueries,
    /// Keeps more broadcasts than its queues may have.
    IgnoresQueueLimits,
    /// Puts more into a datagram than fits it.
    OverfillsDatagrams,
    /// Announces the digest that its view had when it knew nobody but itself.
    AnnouncesAnOldDigest,
}

impl Canary {
    /// All of them, without [`None`](Canary::None).
    pub const ALL: [Canary; 15] = [
        Canary::IgnoresAccusations,
        Canary::IgnoresFailedProbes,
        Canary::RevivesTheDead,
        Canary::RaisesOthersIncarnations,
        Canary::BelievesOldNews,
        Canary::RevivesTheDeparted,
        Canary::ForgetsLeaves,
        Canary::IgnoresPrunes,
        Canary::SetsItsClockBack,
        Canary::ForgetsEvents,
        Canary::EndsQueriesTwice,
        Canary::NeverEndsQueries,
        Canary::IgnoresQueueLimits,
        Canary::OverfillsDatagrams,
        Canary::AnnouncesAnOldDigest,
    ];
}
