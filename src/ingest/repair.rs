//! Puts a lost history back: after a break that may have lost acknowledged changes, every message of the journal's window is
//! applied again in full, by one node, and only then the history counts as whole. Upholds I2, I3 and I5.
//!
//! Until then every node refuses readings from before the break, whatever tier they are in. Whoever is at it holds a right
//! that ends by itself: a holder that dies is followed by another, who begins anew. With one process there is no stream to
//! lose; its memory is put back from the same window when it starts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::apply::Applier;
use super::payload::{self, Todo};
use super::worker::settled;
use crate::clock;
use crate::domain::Change;
use crate::ports::{Claimed, Doubt, History, Journal, JournalError, SharedError, Which};
use crate::protocol::rules::{self, Rule};

/// Messages applied together, and between two renewals of the right.
const BATCH_MAX: u32 = 500;
/// How long the right lasts in the journal, for what is open.
const LEASE: Duration = Duration::from_secs(9);
/// How soon it is tried again, after a failure or while another node holds the right.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the reader of the stream may take to see that the history is whole.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// How long the right is left to others by who could not make use of it: they ask more often than that.
const GIVE_WAY: Duration = Duration::from_secs(2);
/// The same, by who can read only a part, and has applied it.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(60);

/// The repair.
pub struct Repair {
    journal: Arc<dyn Journal>,
    applier: Arc<Applier>,
    /// What was applied longer ago cannot outrank a reading that is still answered.
    age: Duration,
    complaints: clock::Pace,
}

/// Why a repair did not come to its end; it is begun anew.
#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    #[error("a change is not confirmed")]
    Shared(#[from] SharedError),
    #[error("{messages} messages hold changes that only a later release can read")]
    Unreadable { messages: usize },
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// The history is whole, so far as this doubt goes.
    Whole,
    /// Another node is at it, or the doubt has changed.
    NotOurs,
}

impl Repair {
    /// Connects it. `age`: how old a message may be that still outranks a reading.
    pub fn new(journal: Arc<dyn Journal>, applier: Arc<Applier>, age: Duration) -> Self {
        Self { journal, applier, age, complaints: clock::Pace::new(Duration::from_secs(10)) }
    }

    /// Repairs whenever the history is in doubt, until told to stop.
    pub async fn run(self, history: Arc<dyn History>, mut stop: watch::Receiver<bool>) {
        let mut doubts = history.doubts();
        let work = async {
            loop {
                let doubt = doubts.borrow_and_update().clone();
                match doubt {
                    None => {
                        if doubts.changed().await.is_err() {
                            return;
                        }
                    }
                    Some(doubt) => {
                        if self.attempt(&*history, &doubt).await == Tried::Whole {
                            // The reader sees it with its next answer, which may be slow to come. To be put back twice is
                            // harmless, and much work.
                            let is_seen = doubts.wait_for(|now| now.as_ref() != Some(&doubt));
                            _ = tokio::time::timeout(SEEN_WITHIN, is_seen).await;
                        } else {
                            sleep(PAUSE).await;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|is_stopped| *is_stopped) => {}
        }
    }

    async fn attempt(&self, history: &dyn History, doubt: &Doubt) -> Tried {
        match self.try_to_repair(history, doubt).await {
            Ok(tried) => tried,
            Err(error) => {
                if self.complaints.is_due(clock::now()) {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "the history is put back later");
                }
                // Another node may reach what this one does not, or be of a later release.
                history.let_go().await;
                sleep(match error {
                    RepairError::Journal(_) | RepairError::Shared(_) => GIVE_WAY,
                    RepairError::Unreadable { .. } => LEFT_TO_OTHERS,
                })
                .await;
                Tried::NotOurs
            }
        }
    }

    async fn try_to_repair(&self, history: &dyn History, doubt: &Doubt) -> Result<Tried, RepairError> {
        if !history.hold().await? {
            return Ok(Tried::NotOurs);
        }
        if !rules::is_on(Rule::RepairBeforeWhole) {
            return Ok(if history.make_whole(doubt).await? { Tried::Whole } else { Tried::NotOurs });
        }
        let (mut count, mut unreadable) = (0, 0);
        // First what is open, so that nothing slips from open to applied between the two. Twice: an outcome may be half
        // written when the first look passes it over, and the second waits for it.
        for _ in 0..2 {
            self.journal.make_all_due().await?;
            loop {
                let open = self.journal.claim(Which::Due, BATCH_MAX, LEASE).await?;
                if open.is_empty() {
                    break;
                }
                self.apply_again(open, &mut count, &mut unreadable).await?;
                if !history.hold().await? {
                    return Ok(Tried::NotOurs);
                }
            }
        }
        let mut window = self.journal.window(self.age).await?;
        loop {
            let applied = self.journal.applied(&mut window, BATCH_MAX).await?;
            if applied.is_empty() {
                break;
            }
            self.apply_again(applied, &mut count, &mut unreadable).await?;
            if !history.hold().await? {
                return Ok(Tried::NotOurs);
            }
        }
        if unreadable > 0 {
            return Err(RepairError::Unreadable { messages: unreadable });
        }
        let is_whole = history.make_whole(doubt).await?;
        if is_whole {
            info!(messages = count, "the history is whole again");
        }
        Ok(if is_whole { Tried::Whole } else { Tried::NotOurs })
    }

    /// Applies what can be read, and counts both kinds.
    async fn apply_again(&self, claimed: Vec<Claimed>, count: &mut usize, unreadable: &mut usize) -> Result<(), RepairError> {
        let messages = claimed.len();
        let todo: Vec<(Todo, Claimed)> =
            claimed.into_iter().filter_map(|claimed| Some((payload::read(claimed.payload.as_deref())?, claimed))).collect();
        *unreadable += messages - todo.len();
        let changes: Vec<Change> = todo.iter().map(|(todo, _)| todo.change.clone()).collect();
        self.applier.apply_all(&changes).await.map_err(|error| error.0)?;
        let done: Vec<_> = todo.iter().map(|(todo, claimed)| settled(todo, claimed)).collect();
        if !done.is_empty() {
            self.journal.reaffirm(&done).await?;
        }
        *count += done.len();
        Ok(())
    }

    /// One process: puts its memory back from what was applied before it ended, and from what is open, which may have been
    /// acknowledged though its outcome could not be written. The worker settles that.
    pub async fn remember(&self) -> Result<(), JournalError> {
        let mut count = 0;
        self.journal.make_all_due().await?;
        loop {
            let open = self.journal.claim(Which::Due, BATCH_MAX, LEASE).await?;
            if open.is_empty() {
                break;
            }
            count += self.apply_here(&open);
        }
        let mut window = self.journal.window(self.age).await?;
        loop {
            let applied = self.journal.applied(&mut window, BATCH_MAX).await?;
            if applied.is_empty() {
                break;
            }
            count += self.apply_here(&applied);
        }
        if count > 0 {
            info!(messages = count, "what was recorded before the start is remembered");
        }
        Ok(())
    }

    /// The stream is this process's memory, so nothing can fail but the process.
    fn apply_here(&self, claimed: &[Claimed]) -> usize {
        let todo = claimed.iter().filter_map(|claimed| payload::read(claimed.payload.as_deref()));
        todo.map(|todo| self.applier.apply_here(&todo.change)).count()
    }
}
