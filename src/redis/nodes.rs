//! The heartbeat: this node is alive, and how many others are; their number divides the origin's budget. One task. It also says
//! which journal the node has: two nodes with a journal each could not put a lost history back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deadpool_redis::redis::{self, Value};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info};

use crate::ports::SharedError;

use super::keys::Keys;
use super::link::{ANSWER_TIME_MAX, Link, read, unavailable};
use super::scripts;
use super::shared::{millis, one};
use super::start::StartError;
use super::token::token;

/// How often a node says that it is alive.
const BEAT: Duration = Duration::from_secs(2);
/// A node that was silent for longer does not count.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Between a node's journal and its own id; in neither.
const SEPARATOR: char = '/';
/// How often a node of another journal is looked for, while its silence may end by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Whether every node alive has this journal; waits for one that has not, for as long as a dead node counts.
pub(super) async fn check_journal(link: &Link, keys: &Keys, journal: &str) -> Result<(), StartError> {
    let until = Instant::now() + SILENCE_MAX + BEAT;
    loop {
        let unreachable = |error: SharedError| StartError::Unreachable { what: error.to_string() };
        let stranger = stranger(link, keys, journal).await.map_err(unreachable)?;
        match stranger {
            None => return Ok(()),
            Some(_) if Instant::now() < until => sleep(LOOK_AGAIN).await,
            Some(found) => return Err(StartError::OtherJournal { found, ours: journal.to_owned() }),
        }
    }
}

/// The journal of a node that has another one and was heard of lately.
async fn stranger(link: &Link, keys: &Keys, journal: &str) -> Result<Option<String>, SharedError> {
    let mut question = redis::pipe();
    question.cmd("TIME");
    question.cmd("ZRANGE").arg(keys.nodes()).arg(0).arg(-1).arg("WITHSCORES");
    let replies = link.ask(&question, ANSWER_TIME_MAX).await?;
    let [time, nodes] = <[Value; 2]>::try_from(replies).map_err(|_| unavailable("an answer that cannot be read"))?;
    let ((seconds, micros), nodes) = (read::<(u64, u64)>(time)?, read::<Vec<(String, f64)>>(nodes)?);
    let oldest = (seconds * 1_000 + micros / 1_000).saturating_sub(millis(SILENCE_MAX)) as f64;
    let journals = nodes.iter().filter(|(_, beat)| *beat >= oldest).filter_map(|(id, _)| id.split_once(SEPARATOR));
    let mut strangers = journals.map(|(found, _)| found).filter(|found| *found != journal);
    Ok(strangers.next().map(str::to_owned))
}

/// The heartbeat of this node.
pub(super) struct Heartbeat {
    pub link: Link,
    pub keys: Arc<Keys>,
    pub alive: Alive,
    /// Which journal this node has; the others must have the same.
    pub journal: String,
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
        let id = format!("{}{SEPARATOR}{}", self.journal, token());
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
