//! The journal's worker: applies what a delivery could not, what was open at start, and what an operator asks for again.
//! Upholds I2 and I3: an outcome is written only after the effect was seen, and doing it twice is doing it once.
//!
//! Messages are claimed in batches, and each user's values voided once per batch. While Redis is away one probe a second
//! finds out, and the first success, whoever had it, makes everything due. A drop at any await loses nothing: what was
//! claimed is due again when its lease ends.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::apply::Applier;
use super::payload::{self, Todo};
use crate::clock;
use crate::domain::{Change, MessageId, Moment};
use crate::ports::{AppliedBy, Claimed, Deferred, Journal, JournalError, Settled, Which};
use crate::protocol::retry::retry_in;

/// Messages applied together.
const BATCH_MAX: u32 = 500;
/// Longer than a batch takes at worst (8 s), short enough that what a dead node held is done by another within 10 s of it.
const LEASE: Duration = Duration::from_secs(9);
/// How often the journal is looked at when nobody tells of anything: another node, or an operator, may have left something.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After somebody told: the first delay of a message that failed.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// How often it is tried whether applying, or the journal, works again.
const PROBE: Duration = Duration::from_secs(1);
/// A change that this release cannot read is left to a later one, that may run beside it.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(60);

/// The worker.
pub struct Worker {
    journal: Arc<dyn Journal>,
    applier: Arc<Applier>,
    /// Told when a message is left to the worker.
    left: Arc<Notify>,
    started_at: Moment,
    /// What was open at start is due.
    has_begun: bool,
    complaints: clock::Pace,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many were applied: there may be more.
    Applied(usize),
    /// Nothing is due.
    Idle,
    /// Applying does not work now.
    Deferred,
}

impl Worker {
    /// Connects it.
    pub fn new(journal: Arc<dyn Journal>, applier: Arc<Applier>, left: Arc<Notify>) -> Self {
        let complaints = clock::Pace::new(Duration::from_secs(10));
        Self { journal, applier, left, started_at: clock::now(), has_begun: false, complaints }
    }

    /// Makes everything open due: nobody else can be at it after a crash, and where somebody is, doing it twice is doing it
    /// once. Called before anybody can deliver: what a delivery opens is its own. If it fails, or is dropped,
    /// [`run`](Self::run) does it.
    pub async fn begin(&mut self) {
        match self.journal.make_all_due().await {
            Ok(open) => {
                self.has_begun = true;
                if open > 0 {
                    info!(messages = open, "messages were open at start");
                }
            }
            Err(error) => self.complain(&error),
        }
    }

    /// Works until told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let work = async {
            while !self.has_begun {
                sleep(PROBE).await;
                self.begin().await;
            }
            let mut is_deferred = false;
            loop {
                match self.step(is_deferred).await {
                    Ok(Step::Applied(count)) => {
                        debug!(messages = count, "messages applied by the worker");
                        if std::mem::replace(&mut is_deferred, false) {
                            self.make_all_due().await;
                        }
                    }
                    Ok(Step::Idle) => {
                        is_deferred = false;
                        tokio::select! {
                            () = self.left.notified() => sleep(FIRST_DELAY).await,
                            () = self.applier.recovered() => self.make_all_due().await,
                            () = sleep(LOOK_AGAIN) => {}
                        }
                    }
                    Ok(Step::Deferred) => {
                        is_deferred = true;
                        tokio::select! {
                            () = self.applier.recovered() => {
                                is_deferred = false;
                                self.make_all_due().await;
                            }
                            () = sleep(PROBE) => {}
                        }
                    }
                    Err(error) => {
                        self.complain(&error);
                        sleep(PROBE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            // Whatever is under way is dropped; it is still open.
            _ = stop.wait_for(|is_stopped| *is_stopped) => {}
        }
    }

    /// Claims what is due, or one message as a probe, and applies it.
    pub async fn step(&self, is_probe: bool) -> Result<Step, JournalError> {
        let (which, rows_max) = if is_probe { (Which::Probe, 1) } else { (Which::Due, BATCH_MAX) };
        let running_for = clock::now().since(self.started_at);
        let claimed = self.journal.claim(which, rows_max, LEASE).await?;
        if claimed.is_empty() {
            return Ok(Step::Idle);
        }
        let (readable, unreadable): (Vec<_>, Vec<_>) = claimed
            .into_iter()
            .map(|claimed| (payload::read(claimed.payload.as_deref()), claimed))
            .partition(|(todo, _)| todo.is_some());
        self.leave_to_others(unreadable.into_iter().map(|(_, claimed)| claimed).collect()).await?;
        let todo: Vec<(Todo, Claimed)> = readable.into_iter().filter_map(|(todo, claimed)| Some((todo?, claimed))).collect();
        if todo.is_empty() {
            // A probe of what nobody here can read has found nothing out.
            return Ok(if is_probe { Step::Deferred } else { Step::Idle });
        }
        self.apply(&todo, running_for).await
    }

    async fn apply(&self, claimed: &[(Todo, Claimed)], running_for: Duration) -> Result<Step, JournalError> {
        let changes: Vec<Change> = claimed.iter().map(|(todo, _)| todo.change.clone()).collect();
        if let Err(error) = self.applier.apply_all(&changes).await {
            if self.complaints.is_due(clock::now()) {
                warn!(messages = claimed.len(), error = %error.0, "open messages cannot be applied: tried again once a second");
            }
            let deferred: Vec<Deferred> = claimed.iter().map(|(_, claimed)| deferred(claimed)).collect();
            if let Err(error) = self.journal.defer(&deferred, &error.0.to_string()).await {
                // They become due by themselves when the lease ends.
                self.complain(&error);
            }
            return Ok(Step::Deferred);
        }
        for by in [AppliedBy::Worker, AppliedBy::Boot, AppliedBy::Replay] {
            let settled: Vec<Settled> = claimed
                .iter()
                .filter(|(_, claimed)| applied_by(claimed, running_for) == by)
                .map(|(todo, claimed)| settled(todo, claimed))
                .collect();
            if !settled.is_empty() {
                self.journal.settle(&settled, by).await?;
            }
        }
        Ok(Step::Applied(claimed.len()))
    }

    async fn leave_to_others(&self, claimed: Vec<Claimed>) -> Result<(), JournalError> {
        if claimed.is_empty() {
            return Ok(());
        }
        if self.complaints.is_due(clock::now()) {
            warn!(messages = claimed.len(), "messages hold changes that this release cannot read: left to a later one");
        }
        let left = |claimed: &Claimed| Deferred { retry_in: LEFT_TO_OTHERS, ..deferred(claimed) };
        let left: Vec<Deferred> = claimed.iter().map(left).collect();
        self.journal.defer(&left, "a change that this release cannot read").await
    }

    async fn make_all_due(&self) {
        match self.journal.make_all_due().await {
            Ok(open) => info!(messages = open, "changes are confirmed again: what is open is due"),
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&self, error: &JournalError) {
        if self.complaints.is_due(clock::now()) {
            warn!(%error, "the journal cannot be asked for open messages");
        }
    }
}

/// The outcome of a message whose change was confirmed.
pub(super) fn settled(todo: &Todo, claimed: &Claimed) -> Settled {
    Settled { id: claimed.id.clone(), buried_because: todo.unreadable.clone() }
}

fn deferred(claimed: &Claimed) -> Deferred {
    Deferred { id: claimed.id.clone(), retry_in: retry_in(claimed.attempts, spread(&claimed.id)) }
}

/// `running_for`: how long this process had been running when it was claimed.
fn applied_by(claimed: &Claimed, running_for: Duration) -> AppliedBy {
    match (claimed.is_replayed, claimed.open_for > running_for) {
        (true, _) => AppliedBy::Replay,
        (false, true) => AppliedBy::Boot,
        (false, false) => AppliedBy::Worker,
    }
}

/// A number of its own for every message.
fn spread(id: &MessageId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.as_str().hash(&mut hasher);
    hasher.finish()
}
