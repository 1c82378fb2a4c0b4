//! The memory of tokens that were verified, bounded in bytes. Upholds I12.
//!
//! A token is found under a keyed hash of its whole text, with a key that this process drew and never tells: nobody can make
//! two tokens meet, and no token is kept. Two generations: what is used moves to the young one; when that is full or a minute
//! old, the old one goes. Session tokens live for a minute, so what goes is mostly what nobody can use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use foldhash::fast::RandomState;
use prometheus_client::metrics::counter::Counter;

use crate::domain::Moment;
use crate::token::Claims;

/// All of it: some fifty thousand tokens.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Enough that workers rarely meet.
const SHARDS: usize = 16;
/// What a token costs beyond its claims: two map slots, and what the allocator loses.
const ENTRY_OVERHEAD: usize = 160;
/// The life of a session token.
const YOUNG_FOR: Duration = Duration::from_secs(60);

/// A token's keyed hash.
pub(super) type Tag = [u8; 32];

/// Verified tokens.
pub(super) struct Memory {
    key: hmac::Key,
    shards: Box<[Shard]>,
    /// Of one generation of one shard.
    bytes_max: usize,
    dropped: Counter,
}

#[derive(Default)]
struct Shard {
    /// Guards the tokens; held for one look-up or one insert.
    tokens: Mutex<Tokens>,
    /// Guards nothing but the turn of whoever checks a signature: of one token, one check.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Tokens {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    claims: HashMap<Tag, Arc<Claims>, RandomState>,
    bytes: usize,
    /// When its first token came.
    begun: Moment,
}

impl Default for Memory {
    fn default() -> Self {
        Self::bounded(BYTES_MAX)
    }
}

impl Memory {
    /// With a limit of its own.
    pub(super) fn bounded(bytes_max: usize) -> Self {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).expect("the system has randomness");
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            bytes_max: bytes_max / SHARDS / 2,
            dropped: Counter::default(),
        }
    }

    pub(super) fn tag(&self, token: &str) -> Tag {
        hmac::sign(&self.key, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// The claims of a token that was verified here.
    pub(super) fn get(&self, tag: &Tag) -> Option<Arc<Claims>> {
        let mut tokens = lock(&self.shard(tag).tokens);
        if let Some(claims) = tokens.young.claims.get(tag) {
            return Some(claims.clone());
        }
        let claims = tokens.old.claims.get(tag)?.clone();
        let cost = cost(&claims);
        // Where there is no room it stays where it is, and goes with the others.
        if tokens.young.bytes + cost <= self.bytes_max {
            tokens.old.claims.remove(tag);
            tokens.old.bytes -= cost;
            tokens.young.insert(*tag, claims.clone());
        }
        Some(claims)
    }

    /// The turn to check the signature of this token: held over no await.
    pub(super) fn turn(&self, tag: &Tag) -> MutexGuard<'_, ()> {
        lock(&self.shard(tag).turn)
    }

    /// Remembers a token. One that is larger than all others together may be is not.
    pub(super) fn land(&self, tag: Tag, claims: Arc<Claims>, now: Moment) {
        let cost = cost(&claims);
        if cost > self.bytes_max {
            self.dropped.inc();
            return;
        }
        let mut tokens = lock(&self.shard(&tag).tokens);
        let is_full = tokens.young.bytes + cost > self.bytes_max;
        if is_full || now.since(tokens.young.begun) > YOUNG_FOR {
            let young = std::mem::replace(&mut tokens.young, Generation { begun: now, ..Generation::default() });
            let old = std::mem::replace(&mut tokens.old, young);
            if is_full {
                self.dropped.inc_by(old.claims.len() as u64);
            }
        }
        tokens.young.insert(tag, claims);
    }

    pub(super) fn dropped(&self) -> Counter {
        self.dropped.clone()
    }

    fn shard(&self, tag: &Tag) -> &Shard {
        &self.shards[usize::from(tag[0]) % SHARDS]
    }
}

impl Generation {
    fn insert(&mut self, tag: Tag, claims: Arc<Claims>) {
        self.bytes += cost(&claims);
        if let Some(replaced) = self.claims.insert(tag, claims) {
            self.bytes -= cost(&replaced);
        }
    }
}

fn cost(claims: &Claims) -> usize {
    claims.bytes() + ENTRY_OVERHEAD
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{SessionId, UserId};
    use crate::token::Spelled;

    fn claims(session: usize) -> Arc<Claims> {
        Arc::new(Claims {
            user: UserId::parse("user_1").expect("id"),
            session: SessionId::parse(&format!("sess_{session}")).expect("id"),
            actor: None,
            authorized_party: None,
            issued_at: 0,
            expires_at: 60,
            factor_ages: None,
            status: None,
            organization: None,
            spelled: Spelled::default(),
        })
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(1_000_000 * (100 + seconds))
    }

    fn held(memory: &Memory) -> (usize, usize) {
        let generations = memory.shards.iter().map(|shard| {
            let tokens = lock(&shard.tokens);
            (tokens.young.bytes + tokens.old.bytes, tokens.young.claims.len() + tokens.old.claims.len())
        });
        generations.fold((0, 0), |(bytes, count), (b, c)| (bytes + b, count + c))
    }

    #[test]
    fn a_token_is_found_under_its_own_text_and_its_own_process_only() {
        let memory = Memory::default();
        memory.land(memory.tag("a.b.c"), claims(1), at(0));
        assert_eq!(memory.get(&memory.tag("a.b.c")).expect("remembered").session.as_str(), "sess_1");
        for other in ["a.b.C", "a.b.c ", "", "a.b.cc"] {
            assert!(memory.get(&memory.tag(other)).is_none(), "{other}");
        }
        assert_ne!(memory.tag("a.b.c"), Memory::default().tag("a.b.c"), "each process draws its own key");
    }

    #[test]
    fn i12_a_hundred_thousand_tokens_stay_within_the_bytes() {
        let bytes_max = 1024 * 1024;
        let memory = Memory::bounded(bytes_max);
        for n in 0..100_000 {
            memory.land(memory.tag(&n.to_string()), claims(n), at(0));
            if n % 1_000 == 0 {
                assert!(held(&memory).0 <= bytes_max, "{:?}", held(&memory));
            }
        }
        let (bytes, count) = held(&memory);
        assert!(bytes <= bytes_max && count > 500, "{bytes} bytes, {count} tokens");
        assert!(memory.dropped().get() > 90_000);
        assert!(memory.get(&memory.tag("99999")).is_some());
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let memory = Memory::default();
        // The same shard for all: the first byte of a tag chooses it.
        let tag = |n: u8| [[0; 31].as_slice(), &[n]].concat().try_into().expect("32 bytes");
        memory.land(tag(1), claims(1), at(0));
        memory.land(tag(2), claims(2), at(0));
        for turn in 1..=3 {
            memory.land(tag(10 + turn), claims(10), at(61 * u64::from(turn)));
            assert!(memory.get(&tag(1)).is_some(), "turn {turn}");
        }
        assert!(memory.get(&tag(2)).is_none());
        assert_eq!(memory.dropped().get(), 0, "what was too old is no loss");
    }

    #[test]
    fn i12_what_is_used_and_finds_no_room_stays_where_it_is() {
        let one = cost(&claims(1));
        // Of each generation of each shard: room for two.
        let memory = Memory::bounded(SHARDS * 2 * 2 * one);
        let tag = |n: u8| [[0; 31].as_slice(), &[n]].concat().try_into().expect("32 bytes");
        for n in 1..=4 {
            memory.land(tag(n), claims(1), at(0));
        }
        for turn in 1..=3 {
            assert!(memory.get(&tag(1)).is_some() && memory.get(&tag(2)).is_some(), "turn {turn}");
        }
        assert_eq!((held(&memory), memory.dropped().get()), ((4 * one, 4), 0));
    }

    #[test]
    fn i12_one_token_larger_than_a_generation_is_not_remembered() {
        let memory = Memory::bounded(SHARDS * 2 * 400);
        let large = Claims { status: Some("x".repeat(4096)), ..(*claims(1)).clone() };
        memory.land(memory.tag("large"), Arc::new(large), at(0));
        assert_eq!((held(&memory), memory.dropped().get()), ((0, 0), 1));
    }

    #[test]
    fn a_token_landed_twice_is_counted_once() {
        let memory = Memory::default();
        memory.land(memory.tag("a"), claims(1), at(0));
        let once = held(&memory);
        memory.land(memory.tag("a"), claims(1), at(0));
        assert_eq!(held(&memory), once);
    }
}
