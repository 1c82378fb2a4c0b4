//! What a flight brought, to whoever boarded it.

use crate::ports::OriginError;
use crate::protocol::freshness::Candidate;

use super::answer::Content;

/// How a flight ended.
#[derive(Debug, Clone)]
pub enum Flown {
    /// With a reading that was landed where it could be.
    Landed(Reading),
    /// With a reading that a change overtook: landed nowhere.
    Overtaken(Reading),
    /// Without one.
    Failed(OriginError),
    /// Its task panicked or was cancelled.
    Lost,
}

/// What a flight brought: the facts are applied, by the fence in the candidate.
#[derive(Debug, Clone)]
pub struct Reading {
    /// What it says.
    pub content: Content,
    /// When it began, and the fence loaded before the facts were applied.
    pub candidate: Candidate,
}
