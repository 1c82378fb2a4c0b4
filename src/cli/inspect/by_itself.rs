//! An inspection without a service: a cache of this command's own, fed from the change stream once, asks Redis and Clerk as any
//! node would. It has no memory of its own to show, and lands nothing.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::cache::{Cache, Parts};
use crate::clerk::{self, Clerk};
use crate::config::{Environment, Settings, Typed};
use crate::domain::{OrganizationId, UserId};
use crate::http::{Inspection, Tier};
use crate::ports::{Fence, SharedError, SharedTier};
use crate::redis::{self, Redis};

/// Each waits 250 ms, or not at all where nobody listens.
const TRIES: usize = 8;
/// One user's pages.
const REQUESTS: u32 = 100;

pub(super) async fn look(user: &UserId, organization: Option<&OrganizationId>) -> anyhow::Result<Inspection> {
    let settings = Settings::gather(&Typed::default(), &Environment::of_process())?;
    let (secret_key, api_url) = settings.clerk()?;
    let origin = Arc::new(Clerk::new(clerk::Settings { secret_key, api_url, rate: REQUESTS })?);
    let redis = redis(&settings)?;
    let cache = Cache::new(Parts {
        origin,
        shared: redis.as_ref().map(|redis| redis.shared() as Arc<dyn SharedTier>),
        fence: Fence::unknown(),
        bounds: settings.bounds()?,
        local_bytes_max: 0,
        io: Handle::current(),
    });
    let heard = match &redis {
        Some(redis) => {
            connect(redis, user).await;
            Some(redis.read_window(&cache).await)
        }
        None => None,
    };
    let found = Inspection::of(user.clone(), cache.inspect(user, organization).await);
    let found = Inspection { local: Tier::NotAsked, ..found };
    Ok(match heard {
        Some(Ok(())) => found,
        Some(Err(error)) => unheard(found, &error),
        // What a process without Redis remembers it alone knows.
        None => Inspection { facts: None, ..found },
    })
}

/// The change stream was not read to its end: nobody knows what is remembered. Nor, without its clock, how old a value in Redis
/// is: that none is found says nothing then.
fn unheard(found: Inspection, error: &SharedError) -> Inspection {
    let shared = match found.shared {
        Tier::Nothing => Tier::Unavailable { error: error.to_string() },
        other => other,
    };
    Inspection { shared, facts: None, facts_error: Some(error.to_string()), ..found }
}

/// The connection for values is made at the first question, in whose time it may not come.
async fn connect(redis: &Redis, user: &UserId) {
    for _ in 0..TRIES {
        if redis.shared().get(user).await.is_ok() {
            return;
        }
    }
}

fn redis(settings: &Settings) -> anyhow::Result<Option<Redis>> {
    let Some((url, prefix)) = settings.redis()? else { return Ok(None) };
    let settings = redis::Settings {
        url,
        replicas: settings.redis_replicas()?,
        consistency: settings.consistency()?,
        prefix,
        bounds: settings.bounds()?,
        io: Handle::current(),
    };
    Ok(Some(Redis::prepare(settings)?))
}
