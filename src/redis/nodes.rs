//! The heartbeat: this node is alive, and how many others are; their number divides the origin's budget. One task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deadpool_redis::redis;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info};

use crate::ports::SharedError;

use super::keys::Keys;
use super::link::{ANSWER_TIME_MAX, Link, read};
use super::scripts;
use super::shared::{millis, one};
use super::token::token;

/// How often a node says that it is alive.
const BEAT: Duration = Duration::from_secs(2);
/// A node that was silent for longer does not count.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The heartbeat of this node.
pub(super) struct Heartbeat {
    pub link: Link,
    pub keys: Arc<Keys>,
    pub alive: Alive,
}

/// How many nodes are alive, this one included. While Redis is away it stays what it was.
#[derive(Debug, Clone)]
pub(super) struct Alive(Arc<AtomicU32>);

impl Default for Alive {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Alive {
    /// The number, at least one.
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Heartbeat {
    /// Beats until told to stop, then takes its leave, so that the others' share grows at once.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let id = token();
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beats.tick() => {}
                _ = stop.wait_for(|is_stopped| *is_stopped) => break,
            }
            if let Err(error) = self.beat(&id).await {
                debug!(%error, "a heartbeat was not heard");
            }
        }
        let mut leave = redis::cmd("ZREM");
        leave.arg(self.keys.nodes()).arg(&id);
        // Not heard: the others notice by its silence.
        let _ = one(&self.link, leave, ANSWER_TIME_MAX).await;
    }

    async fn beat(&self, id: &str) -> Result<(), SharedError> {
        let mut call = scripts::HEARTBEAT.on(&[self.keys.nodes()]);
        call.arg(id).arg(millis(SILENCE_MAX));
        let alive = one(&self.link, call, ANSWER_TIME_MAX).await.and_then(read::<u32>)?.max(1);
        if self.alive.0.swap(alive, Ordering::Relaxed) != alive {
            info!(nodes = alive, "the number of nodes changed");
        }
        Ok(())
    }
}
