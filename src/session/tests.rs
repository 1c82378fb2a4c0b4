//! Tokens verified, remembered, and refused when what they stand on is gone.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::*;
use crate::cache::Parts;
use crate::domain::{Change, Moment, SessionId, UserId};
use crate::ports::{Fence, KeySource, Origin, OriginAnswer, OriginError, OriginStanding, Priority, StreamSink};
use crate::protocol::freshness::Bounds;
use crate::token::tests::{ISSUER, OURS, THEIRS, claims, header, with};
use crate::token::{Key, KeySet};

/// Nobody's memberships are read here.
struct NoOrigin;

impl Origin for NoOrigin {
    fn read<'a>(&'a self, _: &'a UserId, _: Priority) -> BoxFuture<'a, Result<OriginAnswer, OriginError>> {
        async { Err(OriginError::TimedOut) }.boxed()
    }
    fn standing(&self) -> OriginStanding {
        unreachable!("nobody asks how it stands")
    }
}

/// Publishes a key set, as often as it is let.
struct Published {
    document: Option<Value>,
    asked: AtomicUsize,
    may_answer: Semaphore,
}

impl KeySource for Published {
    fn key_set(&self) -> BoxFuture<'_, Result<KeySet, OriginError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async {
            self.may_answer.acquire().await.expect("never closed").forget();
            let document = self.document.as_ref().ok_or(OriginError::TimedOut)?.to_string();
            KeySet::parse(document.as_bytes()).map_err(|_| OriginError::TimedOut)
        }
        .boxed()
    }
}

fn published(document: Option<Value>, answers: usize) -> Arc<Published> {
    Arc::new(Published { document, asked: AtomicUsize::new(0), may_answer: Semaphore::new(answers) })
}

fn sessions(keys: Keys) -> Sessions {
    sessions_behind(Fence::always(), keys)
}

fn sessions_behind(fence: Fence, keys: Keys) -> Sessions {
    let second = Duration::from_secs(1);
    let bounds = Bounds { staleness: second, ttl: 300 * second, grace: 600 * second, local_age_max: 60 * second };
    let cache =
        Cache::new(Parts { origin: Arc::new(NoOrigin), shared: None, fence, bounds, local_bytes_max: 0, io: Handle::current() });
    Sessions::new(Policy { issuer: Some(ISSUER.to_owned()), ..Policy::default() }, keys, cache)
}

fn pinned() -> Sessions {
    sessions(our_key())
}

fn our_key() -> Keys {
    Keys::Pinned(Key::from_pem(&OURS.pem()).expect("a key").into())
}

/// A token issued so many seconds ago.
fn token(age: i64, members: Value) -> String {
    let issued_at = clock::wall().as_secs() as i64 - age;
    let times = json!({"iat": issued_at, "nbf": issued_at - 10, "exp": issued_at + 120});
    OURS.sign(&header().to_string(), &with(with(claims(), times), members).to_string())
}

fn named(key_id: &str) -> String {
    let issued_at = clock::wall().as_secs() as i64;
    let times = json!({"iat": issued_at, "nbf": issued_at, "exp": issued_at + 60});
    OURS.sign(&with(header(), json!({"kid": key_id})).to_string(), &with(claims(), times).to_string())
}

fn ended(session: &str) -> Change {
    Change::SessionEnded { session: SessionId::parse(session).expect("id"), user: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_verified_once_however_many_bring_it() {
    let source = published(Some(json!({"keys": [OURS.jwk("ins_1")]})), 0);
    let sessions = sessions(Keys::Fetched(source.clone()));
    let token = Arc::new(token(0, json!({})));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (sessions, token) = (sessions.clone(), token.clone());
            tokio::spawn(async move { sessions.verify(&token).await.expect("taken").claims.session.to_string() })
        })
        .collect();
    // All have looked into the memory in vain, and go on together.
    while sessions.inner.keys.waiting() < 64 {
        tokio::task::yield_now().await;
    }
    source.may_answer.add_permits(1);
    assert!(join_all(tasks).await.into_iter().all(|taken| taken.expect("runs") == "sess_1"));
    assert_eq!(sessions.inner.counts.counted(), (1, 63));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_a_token_is_verified_waits_for_that_and_finds_it_remembered() {
    let (sessions, token) = (pinned(), token(0, json!({})));
    let Verified { claims, .. } = pinned().verify(&token).await.expect("taken");
    let tag = sessions.inner.memory.tag(&token);
    let coming = {
        let _turn = sessions.inner.memory.turn(&tag);
        let second = sessions.clone();
        let coming = tokio::spawn(async move { second.verify(&token).await.is_ok() });
        // Every chance to go ahead by itself.
        for _ in 0..100_000 {
            if coming.is_finished() {
                break;
            }
            std::thread::yield_now();
        }
        sessions.inner.memory.land(tag, claims, clock::now());
        coming
    };
    assert!(coming.await.expect("runs"));
    assert_eq!(sessions.inner.counts.counted(), (0, 1), "verified, remembered");
}

#[tokio::test]
async fn an_end_refuses_tokens_that_were_remembered_and_those_that_come_first_after_it() {
    let user = || UserId::parse("user_ada").expect("id");
    let banned = Change::UserBanned { user: user(), tokens_until: clock::wall().as_secs() as i64 + 5 };
    for change in [ended("sess_1"), Change::UserDeleted { user: user() }, banned] {
        let sessions = pinned();
        let (remembered, fresh) = (token(1, json!({})), token(2, json!({})));
        assert!(sessions.verify(&remembered).await.is_ok());
        sessions.inner.cache.apply(&change, clock::now());
        for token in [remembered, fresh] {
            assert_eq!(sessions.verify(&token).await, Err(Refusal::SessionEnded), "{change:?}");
        }
        let another = token(0, json!({"sub": "user_noor", "sid": "sess_2"}));
        assert!(sessions.verify(&another).await.is_ok());
    }
}

#[tokio::test]
async fn who_was_banned_is_let_in_again_by_a_later_token() {
    let sessions = pinned();
    let until = clock::wall().as_secs() as i64 - 10;
    let banned = Change::UserBanned { user: UserId::parse("user_ada").expect("id"), tokens_until: until };
    sessions.inner.cache.apply(&banned, clock::now());
    assert_eq!(sessions.verify(&token(12, json!({}))).await, Err(Refusal::SessionEnded));
    assert!(sessions.verify(&token(5, json!({}))).await.is_ok());
}

#[tokio::test]
async fn a_remembered_token_expires_like_any_other() {
    let sessions = pinned();
    let Verified { claims, .. } = sessions.verify(&token(0, json!({}))).await.expect("taken");
    assert!(sessions.judge(&claims).is_ok());
    let past = Claims { expires_at: clock::wall().as_secs() as i64 - 6, ..(*claims).clone() };
    assert_eq!(sessions.judge(&past), Err(TokenError::Expired.into()));
}

#[tokio::test]
async fn i8_a_token_from_before_a_loss_is_neither_taken_nor_called_dead() {
    let sessions = pinned();
    let (older, younger) = (token(40, json!({})), token(10, json!({})));
    sessions.inner.cache.missed_before(clock::now() - Duration::from_secs(30));
    assert_eq!(sessions.verify(&older).await, Err(Refusal::InDoubt));
    assert!(sessions.verify(&younger).await.is_ok());
    sessions.inner.cache.doubt_before(clock::now());
    assert_eq!(sessions.verify(&younger).await, Err(Refusal::InDoubt));
    sessions.inner.cache.doubt_before(Moment::ZERO);
    assert!(sessions.verify(&younger).await.is_ok());
}

#[tokio::test]
async fn a_node_that_has_not_read_the_stream_yet_takes_no_token() {
    let fence = Fence::asked();
    let (sessions, token) = (sessions_behind(fence.clone(), our_key()), token(0, json!({})));
    assert_eq!(sessions.verify(&token).await, Err(Refusal::InDoubt));
    sessions.inner.cache.apply(&ended("sess_2"), clock::now());
    let dead = self::token(0, json!({"sid": "sess_2"}));
    assert_eq!(sessions.verify(&dead).await, Err(Refusal::SessionEnded), "what is known is known");
    // A fence from as long ago as there can be, also on a machine that was switched on a moment ago.
    fence.advance(Moment::from_micros(1));
    assert!(sessions.verify(&token).await.is_ok(), "a lost fence is another matter");
    // Also where nothing is claimed of how far it is read: not before it is read at all.
    let fence = Fence::asked();
    let sessions = sessions_behind(fence.unvouched(), our_key());
    assert_eq!(sessions.verify(&token).await, Err(Refusal::InDoubt));
    fence.advance(clock::now());
    assert!(sessions.verify(&token).await.is_ok());
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_who_wait() {
    let source = published(Some(json!({"keys": [OURS.jwk("ins_1")]})), 0);
    let sessions = sessions(Keys::Fetched(source.clone()));
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let (sessions, token) = (sessions.clone(), token(n % 3, json!({"sid": format!("sess_{n}")})));
            tokio::spawn(async move { sessions.verify(&token).await.is_ok() })
        })
        .collect();
    while source.asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    source.may_answer.add_permits(100);
    assert!(join_all(waiting).await.into_iter().all(|taken| taken.expect("runs")));
    for n in 0..100 {
        let unknown = sessions.verify(&named(&format!("ins_made_up_{n}"))).await;
        assert!(matches!(unknown, Err(Refusal::Token(TokenError::Invalid { .. }))), "{unknown:?}");
    }
    assert_eq!(source.asked.load(Ordering::Relaxed), 1, "within ten seconds nobody is asked again");
}

#[tokio::test]
async fn once_a_fetch_was_in_vain_nobody_waits_for_the_next_one() {
    let source = published(None, 0);
    let sessions = sessions(Keys::Fetched(source.clone()));
    {
        let set = json!({"keys": [OURS.jwk("ins_1")]}).to_string();
        let (mut ring, minute) = (sessions.inner.keys.ring(), Duration::from_secs(60));
        ring.next(Some("ins_1"), clock::now() - 6 * minute);
        ring.land(KeySet::parse(set.as_bytes()).ok());
        ring.next(Some("ins_1"), clock::now() - minute / 2);
        ring.land(None);
    }
    for age in 0..3 {
        let taken = sessions.verify(&token(age, json!({}))).now_or_never();
        assert!(taken.is_some_and(|taken| taken.is_ok()), "at once");
    }
    while source.asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(sessions.verify(&token(4, json!({}))).now_or_never().is_some_and(|taken| taken.is_ok()), "while it is under way");
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn i8_without_keys_a_token_is_not_called_invalid() {
    let source = published(None, 100);
    let sessions = sessions(Keys::Fetched(source.clone()));
    for _ in 0..20 {
        let refused = sessions.verify(&token(0, json!({}))).await;
        assert!(matches!(refused, Err(Refusal::KeysUnavailable { .. })), "{refused:?}");
    }
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn who_waited_in_vain_leaves_the_fetch_to_others() {
    let source = published(Some(json!({"keys": [OURS.jwk("ins_1")]})), 0);
    let sessions = sessions(Keys::Fetched(source.clone()));
    let token = token(0, json!({}));
    assert!(sessions.verify(&token).now_or_never().is_none(), "it waits, and is dropped");
    source.may_answer.add_permits(1);
    assert!(sessions.verify(&token).await.is_ok());
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_refused_token_is_not_remembered_and_each_reason_is_counted() {
    let sessions = pinned();
    let forged = THEIRS.sign(&header().to_string(), &claims().to_string());
    for _ in 0..3 {
        assert!(sessions.verify(&forged).await.is_err());
    }
    assert_eq!(sessions.verify("ak_1").await, Err(TokenError::KindRefused.into()));
    let mut registry = Registry::default();
    sessions.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    assert!(text.contains("rollcall_tokens_refused_total{reason=\"invalid\"} 3"), "{text}");
    assert!(text.contains("rollcall_tokens_refused_total{reason=\"kind\"} 1"), "{text}");
    assert_eq!(sessions.inner.counts.counted(), (0, 0));
}
