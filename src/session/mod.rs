//! Who is signed in: session tokens, verified once each, remembered until they expire, refused when their session is dead.
//!
//! The context route asks here. A remembered token costs one keyed hash and two look-ups; a new one a signature check as well,
//! and nothing of the network while the instance's keys are at hand. Whether the session still lives is asked of the cache on
//! every use, remembered or not: an end that this node has heard of is not outlived by a memory. Names no adapter: keys come
//! through [`crate::ports::KeySource`].

mod counts;
mod keys;
mod memory;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use counts::Counts;
pub use keys::Keys;
use keys::KeysAtHand;
use memory::{Memory, Tag};
use prometheus_client::registry::Registry;

use crate::cache::{Cache, TokenStanding};
use crate::clock;
use crate::protocol::facts::FACTS_WINDOW;
use crate::token::{Claims, Jws, LIFE_MAX, Policy, SKEW, TokenError};

// What is remembered of a dead session outlives every token of it: issued up to the skew after its end, taken up to the skew
// after its own.
const _: () = assert!(FACTS_WINDOW.as_secs() > LIFE_MAX.as_secs() + 2 * SKEW.as_secs());

/// Verified session tokens of one process. A clone is a handle.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    policy: Policy,
    keys: KeysAtHand,
    memory: Memory,
    cache: Cache,
    counts: Counts,
}

/// A token that may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it says.
    pub claims: Arc<Claims>,
    /// How far behind the stream that is known: an end from before that would have been.
    pub lag: Duration,
}

/// Why a token opens nothing. The last two say nothing about it (I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token itself.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its session ended, or its user is gone or was banned.
    #[error("the session has ended")]
    SessionEnded,
    /// Whether the instance has the key that signed it could not be found out.
    #[error("the instance's keys cannot be asked for")]
    KeysUnavailable {
        /// When asking again has a chance.
        retry_after: Duration,
    },
    /// What would have ended it may have been lost; the session's next token is in no doubt.
    #[error("whether the session has ended cannot be told")]
    InDoubt,
}

impl Sessions {
    /// Remembers nothing yet, and asks for no key before the first token.
    pub fn new(policy: Policy, keys: Keys, cache: Cache) -> Self {
        let keys = KeysAtHand::new(keys, cache.io().clone());
        Self { inner: Arc::new(Inner { policy, keys, memory: Memory::default(), cache, counts: Counts::default() }) }
    }

    /// A token that may be taken now. Waits only for keys that are not at hand, and may be dropped while it does.
    pub async fn verify(&self, token: &str) -> Result<Verified, Refusal> {
        let found = self.find(token).await.and_then(|claims| Ok(Verified { lag: self.judge(&claims)?, claims }));
        found.inspect_err(|refusal| self.inner.counts.refused(*refusal))
    }

    /// The same claims once more, by whoever has waited since: an end that was heard meanwhile refuses them. The lag, as above.
    pub fn verify_again(&self, claims: &Claims) -> Result<Duration, Refusal> {
        self.judge(claims).inspect_err(|refusal| self.inner.counts.refused(*refusal))
    }

    /// Registers everything that is counted here.
    pub fn register(&self, registry: &mut Registry) {
        self.inner.counts.register(registry, self.inner.keys.fetches(), self.inner.memory.dropped());
    }

    async fn find(&self, token: &str) -> Result<Arc<Claims>, Refusal> {
        let inner = &*self.inner;
        let tag = inner.memory.tag(token);
        if let Some(claims) = inner.memory.get(&tag) {
            inner.counts.remembered();
            return Ok(claims);
        }
        let jws = Jws::parse(token)?;
        let key = inner.keys.find(jws.key_id()).await?;
        // Who comes with the same token at the same time finds it remembered.
        let _turn = inner.memory.turn(&tag);
        match inner.memory.get(&tag) {
            Some(claims) => {
                inner.counts.remembered();
                Ok(claims)
            }
            None => self.remember(tag, inner.policy.admit(&jws.verify(&key)?, clock::wall())?),
        }
    }

    fn remember(&self, tag: Tag, claims: Claims) -> Result<Arc<Claims>, Refusal> {
        let claims = Arc::new(claims);
        self.inner.counts.verified();
        self.inner.memory.land(tag, claims.clone(), clock::now());
        Ok(claims)
    }

    /// What no memory may say: whether the token is still in its time, and its session alive; and how far behind the stream
    /// that is known.
    fn judge(&self, claims: &Claims) -> Result<Duration, Refusal> {
        let (wall, now) = (clock::wall(), clock::now());
        if claims.has_expired(wall, SKEW) {
            return Err(TokenError::Expired.into());
        }
        // The skew makes it older than it may be, never younger.
        let issued_at = Duration::from_secs(u64::try_from(claims.issued_at).unwrap_or_default());
        let as_of = now - wall.saturating_sub(issued_at) - SKEW;
        let (standing, fence) = self.inner.cache.token_standing(&claims.user, &claims.session, claims.issued_at, as_of, now);
        match standing {
            TokenStanding::Alive => Ok(now.since(fence)),
            TokenStanding::Dead => Err(Refusal::SessionEnded),
            TokenStanding::InDoubt => Err(Refusal::InDoubt),
        }
    }
}
