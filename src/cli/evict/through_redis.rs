//! Evicting straight through Redis, without any service: values and leases are voided, and the change stream tells every node.
//! `evict` calls it. It asks no origin and fills nothing.
//!
//! Everybody: a walk over all that Redis holds under the prefix, values and leases, voided step by step; then one entry of the
//! change stream that says "everybody". From it on no node answers from memory what has not passed the shared tier once
//! more, where it is gone; also of users whom Redis had lost, who are in no walk. It comes last: before, an old value not voided
//! yet could have let an old entry pass. Naming every user in the stream instead would fill it, and push out what every node
//! remembers of real changes. Upholds I3, I5 and I12.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;

use super::{Eviction, Usage};
use crate::config::{Environment, Settings, Typed};
use crate::domain::{Change, UserId};
use crate::ports::{ChangeStream, SharedError, SharedTier};
use crate::redis::{self, Redis};

/// Users in one entry of the change stream.
const BATCH_MAX: usize = 1_000;
/// What Redis did not confirm is done again so often, with this pause.
const TIMES_AGAIN: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// Evicts these users; what became of each.
pub(super) async fn users(users: &[UserId]) -> anyhow::Result<Vec<Eviction>> {
    let redis = redis().await?;
    let mut evictions = Vec::with_capacity(users.len());
    for batch in users.chunks(BATCH_MAX) {
        let error = evict(&redis, batch).await.err().map(|error| format!("not confirmed: {error}"));
        let eviction = |user: &UserId| Eviction { user: user.clone(), evicted: error.is_none(), error: error.clone() };
        evictions.extend(batch.iter().map(eviction));
    }
    Ok(evictions)
}

/// Evicts everybody; answers how many values Redis held. Stopped half-way, it is to be run again.
pub(super) async fn everybody() -> anyhow::Result<usize> {
    let redis = redis().await?;
    let mut values = 0;
    let evicted = void_everything(&redis, &mut values).await;
    evicted.with_context(|| format!("not confirmed, after {values} values; run it again"))?;
    Ok(values)
}

async fn void_everything(redis: &Redis, values: &mut usize) -> Result<(), SharedError> {
    let (shared, stream, mut walk) = (redis.shared(), redis.stream(), redis.walk());
    while let Some(step) = again(async || walk.step().await).await? {
        again(async || shared.invalidate(&step.users).await).await?;
        *values += step.values;
    }
    again(async || stream.append(&Change::AllEvicted).await).await
}

/// As a webhook does it: values and leases first, then the entry that every node applies.
async fn evict(redis: &Redis, users: &[UserId]) -> Result<(), SharedError> {
    let change = Change::Evicted { users: users.to_vec(), organizations: Vec::new() };
    let (shared, stream) = (redis.shared(), redis.stream());
    again(async || shared.invalidate(users).await).await?;
    again(async || stream.append(&change).await).await
}

/// Does it again on any doubt, which everything here bears (I3).
async fn again<T>(mut step: impl AsyncFnMut() -> Result<T, SharedError>) -> Result<T, SharedError> {
    for _ in 0..TIMES_AGAIN {
        if let Ok(done) = step().await {
            return Ok(done);
        }
        tokio::time::sleep(PAUSE).await;
    }
    step().await
}

/// The Redis of the configuration. One that cannot be rested on is refused, as `serve` does.
async fn redis() -> anyhow::Result<Redis> {
    let settings = Settings::gather(&Typed::default(), &Environment::of_process())?;
    let Some((url, prefix)) = settings.redis()? else {
        let usage = "name a running service with --server: without Redis there is no other way to its memory";
        return Err(Usage(usage.to_owned()).into());
    };
    let settings = redis::Settings {
        url,
        replicas: settings.redis_replicas()?,
        consistency: settings.consistency()?,
        prefix,
        bounds: settings.bounds()?,
        io: Handle::current(),
    };
    Ok(Redis::connect(settings).await?)
}
