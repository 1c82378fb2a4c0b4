//! What follows the primary, where replicas are awaited: whether all of them confirm, and whether there are others. The reader
//! of the stream notes it, readiness asks; each change of it is one line in the log.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, info, warn};

use crate::ports::{Replicas, SharedError};

use super::counts::{Counts, Of};

/// The replicas as the last questions found them.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// None: nothing was heard yet. Guards itself only, never held over an await.
    last: Mutex<Option<Replicas>>,
}

impl Following {
    /// How they stand.
    pub(super) fn standing(&self) -> Option<Replicas> {
        *self.last()
    }

    /// A question was confirmed by all that are awaited; so many are connected.
    pub(super) fn note_confirmed(&self, awaited: u32, connected: u32, counts: &Counts) {
        self.note(Replicas { awaited, confirming: awaited, connected }, counts);
    }

    /// A question was not; only if that is for want of replicas does it say anything of them.
    pub(super) fn note_failure(&self, error: &SharedError, counts: &Counts) {
        if let SharedError::Unconfirmed { confirmed, awaited } = *error {
            let connected = self.standing().map_or(confirmed, |last| last.connected);
            self.note(Replicas { awaited, confirming: confirmed, connected }, counts);
        }
    }

    fn note(&self, now: Replicas, counts: &Counts) {
        let before = self.last().replace(now);
        if before == Some(now) {
            return;
        }
        for (of, count) in [("awaited", now.awaited), ("confirming", now.confirming), ("connected", now.connected)] {
            counts.replicas.get_or_create(&Of { of }).set(count.into());
        }
        let state = |replicas: Replicas| (replicas.is_one_missing(), replicas.is_one_unawaited());
        let was = before.map_or((false, false), state);
        match state(now) {
            is if is == was => {}
            (true, _) => warn!(
                awaited = now.awaited,
                confirming = now.confirming,
                "an awaited replica of Redis is missing: until it is back, or ROLLCALL_REDIS_REPLICAS is lower, Clerk is asked instead of memory, and no webhook is acknowledged"
            ),
            (false, true) => error!(
                awaited = now.awaited,
                connected = now.connected,
                "Redis has more replicas than are awaited: if one of the others is promoted, acknowledged changes may be lost; raise ROLLCALL_REDIS_REPLICAS to all of them"
            ),
            (false, false) => info!(awaited = now.awaited, "every replica of Redis is awaited, and confirms"),
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Replicas>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
