//! The heartbeat: this node is alive, and how many others are; their number divides the origin's budget. One task. It also says
//! which journal the node has: two nodes with a journal each could not put a lost history back, so the second one is refused;
//! and where both are running all the same, neither takes the right to do it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use deadpool_redis::redis::{self, Pipeline, Value};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, error, info};

use crate::ports::SharedError;

use super::keys::Keys;
use super::link::{ANSWER_TIME_MAX, Link, read, unavailable};
use super::scripts;
use super::shared::{millis, one};
use super::start::CHECK_TIME_MAX;
use super::start_error::StartError;
use super::token::token;

/// How often a node says that it is alive.
const BEAT: Duration = Duration::from_secs(2);
/// A node that was silent for longer does not count.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Between a node's journal and its own id; in neither.
const SEPARATOR: char = '/';
/// Behind the id of a node that asks whether it may start: heeded by others that do, and by nobody who runs.
const CANDIDATE: char = '?';
/// How often a node that starts beats and looks for others.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A node of another journal whose beat stands still for so long is dead, and only its beat is left.
const STANDSTILL_MAX: Duration = Duration::from_secs(5);

/// A node alive, by its last beat, in milliseconds of Redis' clock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Beat {
    id: String,
    at_ms: u64,
}

impl Beat {
    /// Of another journal.
    fn is_strange(&self, journal: &str) -> bool {
        self.journal().is_some_and(|found| found != journal)
    }

    /// Of a node that runs.
    fn is_running(&self) -> bool {
        !self.id.ends_with(CANDIDATE)
    }

    fn journal(&self) -> Option<&str> {
        self.id.split_once(SEPARATOR).map(|(journal, _)| journal)
    }
}

/// This node as the others see it.
#[derive(Clone)]
pub(super) struct Node {
    link: Link,
    keys: Arc<Keys>,
    /// Which journal it has; the others must have the same.
    journal: String,
    id: String,
}

impl Node {
    pub(super) fn new(link: Link, keys: Arc<Keys>, journal: &str) -> Self {
        Self { link, keys, journal: journal.to_owned(), id: format!("{journal}{SEPARATOR}{}", token()) }
    }

    /// Whether every node alive has this journal. It beats itself meanwhile, as a candidate: of two that start at once neither
    /// overlooks the other. A stranger whose beat moves is alive; one whose beat stands still died a moment ago, and is
    /// forgotten.
    pub(super) async fn check_journal(&self) -> Result<(), StartError> {
        let candidate = Self { id: format!("{}{CANDIDATE}", self.id), ..self.clone() };
        let checked = candidate.look_for_strangers().await;
        candidate.forget([&candidate.id]).await;
        if checked.is_ok() {
            // Seen from now on, however long the rest of the start takes. Not heard: with the first beat.
            let _ = self.beat().await;
        }
        checked
    }

    async fn look_for_strangers(&self) -> Result<(), StartError> {
        let unreachable = |error: SharedError| StartError::Unreachable { what: error.to_string() };
        let mut first = self.beat_within(CHECK_TIME_MAX).await.map_err(unreachable)?;
        first.retain(|beat| beat.is_strange(&self.journal));
        if first.is_empty() {
            return Ok(());
        }
        info!("a node with another journal was heard a moment ago: waiting to see whether it is alive");
        let until = Instant::now() + STANDSTILL_MAX;
        while Instant::now() < until {
            sleep(LOOK_AGAIN).await;
            // Not heard: whoever was seen is looked for again.
            let beats = self.beat_within(CHECK_TIME_MAX).await.unwrap_or_default();
            let moved = beats.iter().find(|beat| beat.is_strange(&self.journal) && !first.contains(beat));
            if let Some(found) = moved.and_then(Beat::journal) {
                return Err(StartError::OtherJournal { found: found.to_owned(), ours: self.journal.clone() });
            }
        }
        self.forget(first.iter().map(|beat| &beat.id)).await;
        Ok(())
    }

    /// Says that it is alive; everybody who is.
    async fn beat(&self) -> Result<Vec<Beat>, SharedError> {
        self.beat_within(ANSWER_TIME_MAX).await
    }

    async fn beat_within(&self, within: Duration) -> Result<Vec<Beat>, SharedError> {
        let mut call = scripts::HEARTBEAT.on(&[self.keys.nodes()]);
        call.arg(&self.id).arg(millis(SILENCE_MAX));
        let beats = one(&self.link, call, within).await.and_then(read::<Vec<(String, f64)>>)?;
        Ok(beats.into_iter().map(|(id, at)| Beat { id, at_ms: at as u64 }).collect())
    }

    /// Takes its leave, so that the others' share grows at once.
    async fn leave(&self) {
        self.forget([&self.id]).await;
    }

    /// Takes ids off the list. Not heard: their silence is noticed.
    async fn forget(&self, ids: impl IntoIterator<Item = &String>) {
        let mut forget = redis::cmd("ZREM");
        forget.arg(self.keys.nodes()).arg(ids.into_iter().collect::<Vec<_>>());
        let _ = one(&self.link, forget, ANSWER_TIME_MAX).await;
    }
}

/// Asks who is alive, without saying that anybody is here: everybody who beat lately, and TIME.
pub(super) fn roll_call(keys: &Keys) -> Pipeline {
    let mut question = redis::pipe();
    question.cmd("TIME").cmd("ZRANGE").arg(keys.nodes()).arg(0).arg(-1).arg("WITHSCORES");
    question
}

/// The journals of the nodes that run, one for each. A beat that lies ahead is from before the clock was set back.
pub(super) fn journals(replies: Vec<Value>) -> Result<Vec<String>, SharedError> {
    let [time, beats] = <[Value; 2]>::try_from(replies).map_err(|_| unavailable("an answer that cannot be read"))?;
    let (seconds, micros) = read::<(u64, u64)>(time)?;
    let now_ms = seconds * 1_000 + micros / 1_000;
    let lately = now_ms.saturating_sub(millis(SILENCE_MAX))..=now_ms;
    let beats = read::<Vec<(String, f64)>>(beats)?.into_iter().map(|(id, at)| Beat { id, at_ms: at as u64 });
    let running = beats.filter(|beat| beat.is_running() && lately.contains(&beat.at_ms));
    Ok(running.filter_map(|beat| beat.journal().map(str::to_owned)).collect())
}

/// The heartbeat of this node.
pub(super) struct Heartbeat {
    pub node: Node,
    pub alive: Alive,
}

/// Who is alive, as last heard. While Redis is away it stays what it was.
#[derive(Debug, Clone, Default)]
pub(super) struct Alive(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    nodes: AtomicU32,
    has_stranger: AtomicBool,
}

impl Alive {
    /// How many nodes, at least one: this one.
    pub(super) fn nodes(&self) -> u32 {
        self.0.nodes.load(Ordering::Relaxed).max(1)
    }

    /// Whether one of them has another journal.
    pub(super) fn has_stranger(&self) -> bool {
        self.0.has_stranger.load(Ordering::Relaxed)
    }
}

impl Heartbeat {
    /// Beats until told to stop, then takes its leave.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beats.tick() => {}
                _ = stop.wait_for(|is_stopped| *is_stopped) => break,
            }
            match self.node.beat().await {
                Ok(beats) => self.note(beats),
                Err(error) => debug!(%error, "a heartbeat was not heard"),
            }
        }
        self.node.leave().await;
    }

    fn note(&self, mut beats: Vec<Beat>) {
        beats.retain(Beat::is_running);
        let nodes = u32::try_from(beats.len()).unwrap_or(u32::MAX).max(1);
        if self.alive.0.nodes.swap(nodes, Ordering::Relaxed).max(1) != nodes {
            info!(nodes, "the number of nodes changed");
        }
        let has_stranger = beats.iter().any(|beat| beat.is_strange(&self.node.journal));
        if has_stranger && !self.alive.0.has_stranger.swap(has_stranger, Ordering::Relaxed) {
            error!(
                "a node with another journal runs on this Redis: a lost history cannot be put back; give all nodes one DATABASE_URL"
            );
        }
        self.alive.0.has_stranger.store(has_stranger, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_beat_lately_and_is_no_candidate_runs() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let time = Value::Array(vec![text("1000"), text("500000")]);
        let beats = [
            ("a/lately", "1000500"),
            ("b/long-ago", "990499"),
            ("c/ahead", "1000501"),
            ("d/candidate?", "1000000"),
            ("e/still", "990500"),
        ];
        let beats = beats.iter().flat_map(|(id, at)| [text(id), text(at)]).collect();
        assert_eq!(journals(vec![time, Value::Array(beats)]).expect("readable"), ["a", "e"]);
        assert!(journals(Vec::new()).is_err());
    }
}
