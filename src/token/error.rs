//! Why a token is not taken: one variant for each answer the caller can be given.

/// A refusal. `what` is for logs and tests: a caller is never told which part was wrong, and no text of the token is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this instance: its form, algorithm, key, signature, issuer or claims alike.
    #[error("the token is invalid: {what}")]
    Invalid {
        /// What was wrong.
        what: &'static str,
    },
    /// It was valid.
    #[error("the token has expired")]
    Expired,
    /// It will be valid, or one of the clocks is wrong.
    #[error("the token is not yet valid")]
    NotYetValid,
    /// A machine's token, an API key, a template's: not of a session.
    #[error("the token is not of a session")]
    KindRefused,
    /// Minted for an origin that is not among the authorized parties.
    #[error("the token was minted for another party")]
    PartyUnauthorized,
    /// The session still has tasks before it counts as signed in.
    #[error("the session is pending")]
    SessionPending,
}

impl TokenError {
    pub(super) const fn invalid(what: &'static str) -> Self {
        Self::Invalid { what }
    }
}
