//! What this room counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Refusal;
use crate::token::TokenError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Counters of session tokens.
#[derive(Debug, Default)]
pub(super) struct Counts {
    verified: Counter,
    remembered: Counter,
    refused: Family<Reason, Counter>,
}

impl Counts {
    pub(super) fn verified(&self) {
        self.verified.inc();
    }

    pub(super) fn remembered(&self) {
        self.remembered.inc();
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        let reason = match refusal {
            Refusal::Token(TokenError::Invalid { .. }) => "invalid",
            Refusal::Token(TokenError::Expired) => "expired",
            Refusal::Token(TokenError::NotYetValid) => "not-yet-valid",
            Refusal::Token(TokenError::KindRefused) => "kind",
            Refusal::Token(TokenError::PartyUnauthorized) => "party",
            Refusal::Token(TokenError::SessionPending) => "pending",
            Refusal::SessionEnded => "session-ended",
            Refusal::KeysUnavailable { .. } => "keys-unavailable",
            Refusal::InDoubt => "in-doubt",
        };
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Verified and remembered so far.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.verified.get(), self.remembered.get())
    }

    pub(super) fn register(&self, registry: &mut Registry, fetches: Counter, dropped: Counter) {
        registry.register("rollcall_tokens_verified", "Session tokens whose signature was checked", self.verified.clone());
        registry.register("rollcall_tokens_remembered", "Uses of a session token that was remembered", self.remembered.clone());
        registry.register(
            "rollcall_tokens_refused",
            "Session tokens refused; not-yet-valid and expired rising means that a clock is wrong, keys-unavailable that Clerk is away",
            self.refused.clone(),
        );
        registry.register(
            "rollcall_tokens_dropped",
            "Remembered tokens pushed out by the byte limit, expired ones among them; rising means that tokens may be verified more than once",
            dropped,
        );
        registry.register(
            "rollcall_key_fetches",
            "Times the instance's keys were asked for; more than one in five minutes means tokens with keys that are not Clerk's, or that Clerk is away",
            fetches,
        );
    }
}
