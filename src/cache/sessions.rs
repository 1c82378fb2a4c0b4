//! Whether a session token still counts, as far as this node has heard. Asked on every use of one; upholds I5 for tokens.

use super::Cache;
use super::facts::TokenStanding;
use crate::domain::{Moment, SessionId, UserId};

impl Cache {
    /// Whether the stream was never read to its end yet, or changes before now may be lost until they are put back.
    pub fn is_in_doubt(&self) -> bool {
        self.inner.parts.fence.is_unreached() || self.inner.facts.has_doubts()
    }

    /// What is known of a token of this session, issued to this user at this second (`as_of` on this node's clock), and the
    /// fence that says how far. One look-up under a lock that is only written while a change is merged.
    ///
    /// A node that has not read the stream to its end once, since it started, knows no end at all: everything is in doubt. One
    /// that has, and lost the fence since, goes on by what it knows.
    pub fn token_standing(
        &self,
        user: &UserId,
        session: &SessionId,
        issued_at: i64,
        as_of: Moment,
        now: Moment,
    ) -> (TokenStanding, Moment) {
        // First of all. Asked after the look-up, a stream read to its end in between would vouch for what was not yet there:
        //   1: looks for the session, and nothing has ended it
        //      the stream's reader applies its end, and reaches the stream's end for the first time
        //   1: sees that the stream was read, and calls the session alive
        // And one that moves in between would say of an end that was not looked at that it had been (I6).
        let (is_unreached, fence) = (self.inner.parts.fence.is_unreached(), self.inner.parts.fence.load(now));
        let standing = match self.inner.facts.token_standing(user, session, issued_at, as_of) {
            TokenStanding::Alive if is_unreached => TokenStanding::InDoubt,
            standing => standing,
        };
        (standing, fence)
    }
}
