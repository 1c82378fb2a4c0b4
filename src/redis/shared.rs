//! The shared tier: values and guards in Redis. Called by the cache through its port, on the I/O runtime.
//!
//! It never decides whether a value may be an answer, and never takes a value for granted: what its guard does not vouch for
//! is a miss, to be overwritten. Upholds I5 (leases), I7 (life from the as-of), I8 (foreign is no "no"), I13.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{self, Pipeline, Value};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::debug;

use crate::clock;
use crate::domain::{List, UserId, digest_of};
use crate::ports::{Fence, Landed, Lease, SharedError, SharedTier, SharedValue};
use crate::protocol::rules::{self, Rule};

use super::clock::StreamClock;
use super::counts::Counts;
use super::keys::Keys;
use super::link::{ANSWER_TIME_MAX, Link, read, unavailable};
use super::links::Links;
use super::scripts;
use super::token::{hex, token};

/// A fill is over by then: three readings of 4 s, and time to land.
const FILL_TIME_MAX: Duration = Duration::from_secs(60);
/// A guard outlives its need by this.
const GUARD_BEYOND: Duration = Duration::from_secs(60);
/// Users invalidated in one pipeline, a script each.
const BATCH_MAX: usize = 100;

/// Values and guards in Redis.
pub struct RedisShared {
    pub(super) values: Links,
    pub(super) changes: Links,
    /// The server of the change stream, whose clock dates readings.
    pub(super) stream: Link,
    pub(super) keys: Arc<Keys>,
    pub(super) clock: StreamClock,
    pub(super) ttl: Duration,
    /// To tell whether Redis is there.
    pub(super) fence: Fence,
    pub(super) staleness: Duration,
    pub(super) counts: Counts,
}

/// What was found under a user's keys.
enum Looked {
    Hit(SharedValue),
    Absent,
    /// Not written by us, or not readable.
    Foreign,
    /// The guard vouches for another value: torn by a change between the two reads, or overwritten by somebody else.
    Mismatch,
}

impl RedisShared {
    async fn look(&self, user: &UserId) -> Result<Looked, SharedError> {
        let mut question = redis::pipe();
        question.cmd("GET").arg(self.keys.value(user));
        question.cmd("HMGET").arg(self.keys.guard(user)).arg(&["lease", "as_of", "digest"]);
        let replies = self.values.ask(&self.keys.value(user), &question, ANSWER_TIME_MAX).await?;
        let [value, guard] = <[Value; 2]>::try_from(replies).map_err(|_| unavailable("an answer that cannot be read"))?;
        if is_wrong_type(&value) || is_wrong_type(&guard) {
            return Ok(Looked::Foreign);
        }
        let Some(body) = read::<Option<Vec<u8>>>(value)? else { return Ok(Looked::Absent) };
        // A guard that cannot be read vouches for nothing; the next landing writes it anew.
        let Ok(guard) = read::<(Option<String>, Option<u64>, Option<String>)>(guard) else { return Ok(Looked::Foreign) };
        Ok(self.vouch(&body, guard))
    }

    fn vouch(&self, body: &[u8], guard: (Option<String>, Option<u64>, Option<String>)) -> Looked {
        let (Some(token), Some(stamp), Some(digest)) = guard else {
            return if List::decode(body).is_ok() { Looked::Mismatch } else { Looked::Foreign };
        };
        let nothing = || (!rules::is_on(Rule::ForeignShapeIsAMiss)).then(|| List::new(&[]));
        let Some(list) = List::decode(body).ok().or_else(nothing) else { return Looked::Foreign };
        if hex(&digest_of(body)) != digest && rules::is_on(Rule::DigestTiesValueToGuard) {
            return Looked::Mismatch;
        }
        let as_of = self.clock.as_of_to_moment(stamp, self.stream.epoch());
        match as_of.map(|as_of| if rules::is_on(Rule::AgeOutlivesTheTier) { as_of } else { clock::now() }) {
            Some(as_of) => Looked::Hit(SharedValue { list, as_of, stamp, token: token.into() }),
            // When it was read cannot be told, so it cannot be an answer.
            None => Looked::Absent,
        }
    }

    async fn get(&self, user: &UserId) -> Result<Option<SharedValue>, SharedError> {
        let mut looked = self.look(user).await?;
        if matches!(looked, Looked::Mismatch) {
            looked = self.look(user).await?;
        }
        match looked {
            Looked::Hit(value) => return Ok(Some(value)),
            Looked::Absent => {}
            Looked::Foreign => {
                self.counts.foreign_values.inc();
            }
            Looked::Mismatch => {
                self.counts.digest_mismatches.inc();
            }
        }
        Ok(None)
    }

    async fn begin(&self, user: &UserId) -> Result<Lease, SharedError> {
        let guard = self.keys.guard(user);
        let mut call = scripts::BEGIN.on(&[&guard]);
        call.arg(token()).arg(millis(FILL_TIME_MAX + GUARD_BEYOND));
        // A stamp is only ever read with the clock of the stream's server: no other server's TIME will do.
        let estimated = match self.values.are_many() {
            true => Some(self.clock.time(self.stream.epoch()).ok_or_else(|| unavailable("the stream's clock is not known"))?),
            false => None,
        };
        let reply = self.values.one(&guard, call, ANSWER_TIME_MAX).await?;
        let (token, seconds, micros) = read::<(String, u64, u64)>(reply)?;
        let stamp = estimated.unwrap_or(seconds * 1_000_000 + micros);
        Ok(Lease { user: user.clone(), token: token.into(), stamp })
    }

    async fn land(&self, lease: Lease, list: &List, keep: Option<Duration>) -> Result<Landed, SharedError> {
        let value = self.keys.value(&lease.user);
        let mut call = scripts::LAND.on(&[&value, &self.keys.guard(&lease.user)]);
        call.arg(&*lease.token).arg(lease.stamp).arg(hex(&list.digest())).arg(&list.body()[..]);
        call.arg(millis(self.ttl)).arg(millis(keep.unwrap_or(self.ttl))).arg(millis(GUARD_BEYOND));
        if self.values.are_many() {
            let as_of = self.clock.as_of_to_moment(lease.stamp, self.stream.epoch());
            let as_of = as_of.ok_or_else(|| unavailable("the stream's clock is not known"))?;
            call.arg(millis(clock::now().since(as_of)));
        }
        let landed = match self.values.one(&value, call, ANSWER_TIME_MAX).await {
            Ok(reply) => read::<String>(reply),
            Err(error) => Err(error),
        };
        match landed.as_deref() {
            Ok("landed") => Ok(Landed::Landed),
            Ok("lease") => {
                self.counts.refused("lease");
                Ok(Landed::RefusedLease)
            }
            Ok("newer") => {
                self.counts.refused("newer");
                Ok(Landed::RefusedNewer)
            }
            Ok(_) => Err(unavailable("an answer that cannot be read")),
            Err(error) => {
                self.counts.refused("unavailable");
                Err(error.clone())
            }
        }
    }

    async fn release(&self, lease: Lease) {
        let guard = self.keys.guard(&lease.user);
        let mut call = scripts::RELEASE.on(&[&guard]);
        call.arg(&*lease.token);
        if let Err(error) = self.values.one(&guard, call, ANSWER_TIME_MAX).await {
            debug!(%error, "a lease is left to expire");
        }
    }

    /// Whole batches are done again on any doubt: voiding twice voids once (I3).
    async fn invalidate(&self, users: &[UserId]) -> Result<(), SharedError> {
        for batch in users.chunks(BATCH_MAX) {
            if let Err(error) = self.invalidate_batch(batch).await {
                debug!(%error, "an invalidation is done again");
                self.invalidate_batch(batch).await?;
            }
        }
        Ok(())
    }

    async fn invalidate_batch(&self, users: &[UserId]) -> Result<(), SharedError> {
        let call = |user: &UserId| {
            let value = self.keys.value(user);
            let call = invalidation(&value, &self.keys.guard(user));
            (value, call)
        };
        let calls: Vec<_> = users.iter().map(call).collect();
        let replies = self.changes.confirm(&calls, ANSWER_TIME_MAX).await?;
        for (user, reply) in users.iter().zip(replies) {
            match (&reply, self.changes.are_many()) {
                (Value::ServerError(_), true) => self.invalidate_moving(user).await?,
                _ => read::<u64>(reply).map(|_| ())?,
            }
        }
        Ok(())
    }

    /// While a slot moves between masters, its keys may be on two of them, and a script that makes a key again is refused
    /// half-way. One by one, and the guard first: without it no fill lands and no value is vouched for.
    async fn invalidate_moving(&self, user: &UserId) -> Result<(), SharedError> {
        for key in [self.keys.guard(user), self.keys.value(user)] {
            let mut delete = redis::cmd("DEL");
            delete.arg(&key);
            read::<u64>(self.changes.confirm_moving(&key, &delete, ANSWER_TIME_MAX).await?)?;
        }
        Ok(())
    }
}

impl SharedTier for RedisShared {
    fn get<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<SharedValue>, SharedError>> {
        self.get(user).boxed()
    }

    fn begin<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Lease, SharedError>> {
        self.begin(user).boxed()
    }

    fn land<'a>(&'a self, lease: Lease, list: &'a List, keep: Option<Duration>) -> BoxFuture<'a, Result<Landed, SharedError>> {
        self.land(lease, list, keep).boxed()
    }

    fn release<'a>(&'a self, lease: Lease) -> BoxFuture<'a, ()> {
        self.release(lease).boxed()
    }

    fn invalidate<'a>(&'a self, users: &'a [UserId]) -> BoxFuture<'a, Result<(), SharedError>> {
        self.invalidate(users).boxed()
    }

    fn is_reachable(&self) -> bool {
        // The fence moves only while a primary answers; a connection that nobody used lately knows nothing.
        let now = clock::now();
        now.since(self.fence.load(now)) <= self.staleness
    }
}

/// A change of the user passes.
fn invalidation(value: &str, guard: &str) -> redis::Cmd {
    let mut call = scripts::INVALIDATE.on(&[value, guard]);
    call.arg(token()).arg(millis(GUARD_BEYOND));
    call
}

/// One command and its reply.
pub(super) async fn one(link: &Link, command: redis::Cmd, within: Duration) -> Result<Value, SharedError> {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.add_command(command);
    let replies = link.ask(&pipeline, within).await?;
    replies.into_iter().next().ok_or_else(|| unavailable("no reply"))
}

/// Whole milliseconds, for Redis.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_wrong_type(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "WRONGTYPE")
}
