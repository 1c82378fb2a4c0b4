//! Answers that have read the world and are not sent until a test says so: how a schedule is forced.
//!
//! 1: the stand-in reads the world; 2: `reached` resolves; 3: the test changes the world; 4: `release` lets the old answer
//! go. Dropping a hold releases it; a hold nobody releases lets go after a minute (I12).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};

use super::faults::WAIT_MAX;

/// How long a test waits for a request that does not come.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
const HOLDS_MAX: usize = 256;

/// One answer that is held, or will be.
#[derive(Debug)]
pub struct Held {
    reached: watch::Receiver<bool>,
    release: oneshot::Sender<()>,
}

impl Held {
    /// Waits until the answer has read the world; an error after ten seconds.
    pub async fn reached(&self) -> anyhow::Result<()> {
        let mut reached = self.reached.clone();
        let waited = tokio::time::timeout(REACHED_WITHIN, reached.wait_for(|is_reached| *is_reached)).await;
        waited.map_err(|_| anyhow::anyhow!("no request came to be held"))??;
        Ok(())
    }

    /// Whether the answer has read the world.
    pub fn is_reached(&self) -> bool {
        *self.reached.borrow()
    }

    /// Lets the answer go.
    pub fn release(self) {
        // The request may have been given up meanwhile.
        let _ = self.release.send(());
    }
}

/// The holds that wait for a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Arc<Mutex<Vec<Hold>>>);

#[derive(Debug)]
struct Hold {
    user: Option<String>,
    reached: watch::Sender<bool>,
    release: oneshot::Receiver<()>,
}

impl Holds {
    /// Holds the next answer about `user`, or about anybody. Beyond 256 the oldest give way.
    pub(super) fn next(&self, user: Option<&str>) -> Held {
        let (reached, is_reached) = watch::channel(false);
        let (release, released) = oneshot::channel();
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if holds.len() == HOLDS_MAX {
            holds.remove(0);
        }
        holds.push(Hold { user: user.map(str::to_owned), reached, release: released });
        Held { reached: is_reached, release }
    }

    /// Waits if this answer is to be held. The lock is not held meanwhile.
    pub(super) async fn pass(&self, user: Option<&str>) {
        let Some(hold) = self.take(user) else { return };
        hold.reached.send_replace(true);
        // Released, dropped or forgotten: all let go.
        let _ = tokio::time::timeout(WAIT_MAX, hold.release).await;
    }

    fn take(&self, user: Option<&str>) -> Option<Hold> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was released or dropped before it was reached holds nobody.
        holds.retain_mut(|hold| matches!(hold.release.try_recv(), Err(TryRecvError::Empty)));
        let is_meant = |hold: &Hold| hold.user.as_deref().is_none_or(|meant| user == Some(meant));
        let at = holds.iter().position(is_meant)?;
        Some(holds.remove(at))
    }
}
