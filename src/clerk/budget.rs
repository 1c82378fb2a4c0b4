//! The budget: who may ask the origin now, who waits, who is told to come back and when. The client takes one from it for
//! every request that leaves, pages and retries included.
//!
//! Upholds I12: the wait, the queue and the appointment book each have a limit. The lock guards the three of them, is held
//! for a few hundred nanoseconds and never over an await. A wait that is dropped leaves the queue and wakes the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::bucket::Bucket;
use super::turns::{Kind, Ticket, Turns};
use crate::clock;
use crate::domain::Moment;
use crate::ports::Priority;

/// A caller that waits longer for its turn would rather be told to come back.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// However high the rate, no more wait than this.
const WAITING_MAX: usize = 4_096;
/// Appointments are given at most this far ahead of the first free one.
const BOOK_MAX: Duration = Duration::from_secs(30);
/// Callers round to whole seconds, so appointments are blurred by one.
const BLUR: Duration = Duration::from_secs(1);

/// Requests per 10 s for this kind of key: four fifths of what Clerk allows it (1,000 live, 100 in development).
pub fn rate_by_key_kind(secret_key: &str) -> u32 {
    match secret_key.trim().starts_with("sk_live_") {
        true => 800,
        false => 80,
    }
}

/// Not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// When asking again has a chance: at least a second.
    pub(super) retry_after: Duration,
}

/// The budget of this node.
#[derive(Debug)]
pub(super) struct Budget(Mutex<State>);

#[derive(Debug)]
struct State {
    bucket: Bucket,
    turns: Turns,
    /// Up to when the callers that were told to come back have been given appointments.
    booked: Moment,
}

/// What the budget says to a newcomer.
#[derive(Debug)]
enum Admission {
    Granted,
    Queued(Ticket, Arc<Notify>),
    Refused,
}

/// What it says to one who waits.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Granted,
    /// Not at the front: wait for the bell.
    Behind,
    /// At the front: the bucket has one after this time.
    After(Duration),
}

impl Budget {
    /// A budget of `rate` requests per 10 s of the whole fleet.
    pub(super) fn new(rate: u32) -> Self {
        Self(Mutex::new(State { bucket: Bucket::new(rate), turns: Turns::default(), booked: Moment::ZERO }))
    }

    /// Takes one request's worth, waiting for it as the priority allows but never longer than `patience`.
    pub(super) async fn acquire(&self, priority: Priority, patience: Duration) -> Result<(), Refused> {
        let patience = patience.min(WAIT_MAX);
        let now = clock::now();
        let admission = self.lock().admit(priority, patience, now);
        let (ticket, bell) = match admission {
            Admission::Granted => return Ok(()),
            Admission::Refused => return Err(self.refusal(priority)),
            Admission::Queued(ticket, bell) => (ticket, bell),
        };
        let turn = Turn { budget: self, ticket };
        match turn.wait(&bell, now + patience).await {
            true => Ok(()),
            false => {
                drop(turn);
                Err(self.refusal(priority))
            }
        }
    }

    /// When to come back, for a caller that the origin or the budget refused.
    pub(super) fn refusal(&self, priority: Priority) -> Refused {
        let blur = random();
        Refused { retry_after: self.lock().appointment(priority, blur, clock::now()) }
    }

    /// The origin's 429.
    pub(super) fn slow_down(&self, retry_after: Option<Duration>) {
        self.lock().bucket.slow_down(retry_after, clock::now());
    }

    /// Divides the fleet's budget by the nodes alive.
    pub(super) fn set_nodes(&self, nodes: u32) {
        self.lock().bucket.set_nodes(nodes);
    }

    /// The part of the full budget in use.
    pub(super) fn factor(&self) -> f64 {
        self.lock().bucket.factor(clock::now())
    }

    /// Whether the next request would have to wait.
    pub(super) fn is_spent(&self) -> bool {
        let state = self.lock();
        !state.turns.is_empty() || state.bucket.is_spent(clock::now())
    }

    /// Whether the origin's 429 is being obeyed.
    pub(super) fn is_paused(&self) -> bool {
        self.lock().bucket.is_paused(clock::now())
    }

    /// Time between two requests that this node may sustain.
    pub(super) fn interval(&self) -> Duration {
        self.lock().bucket.slot(clock::now())
    }

    /// Reads that wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.lock().turns.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way; a poisoned one is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit(&mut self, priority: Priority, patience: Duration, now: Moment) -> Admission {
        // Whoever waits goes first: nobody passes a queue, least of all those who may not wait.
        let may_try = self.turns.is_empty() && (priority != Priority::Refresh || self.bucket.is_ample(now));
        if may_try && self.bucket.take(now).is_ok() {
            return Admission::Granted;
        }
        let kind = match priority {
            Priority::Cold => Kind::Cold,
            Priority::FirstDenial => Kind::Denial,
            Priority::RepeatedDenial | Priority::NoCache | Priority::Refresh => return Admission::Refused,
        };
        let ahead = self.turns.ahead_of(kind) as u64;
        if self.turns.len() >= WAITING_MAX || self.bucket.wait_for(ahead + 1, now) > patience {
            return Admission::Refused;
        }
        let (ticket, bell) = self.turns.enter(kind);
        Admission::Queued(ticket, bell)
    }

    fn step(&mut self, ticket: Ticket, now: Moment) -> Step {
        if !self.turns.is_first(ticket) {
            return Step::Behind;
        }
        match self.bucket.take(now) {
            Ok(()) => {
                self.turns.serve(ticket);
                Step::Granted
            }
            Err(wait) => Step::After(wait),
        }
    }

    /// The time until a caller that comes back has a chance. A crowd that is refused at once gets one appointment after
    /// the other, at the pace of the budget, so that it does not come back at once. `blur` is from 0 to 1.
    fn appointment(&mut self, priority: Priority, blur: f64, now: Moment) -> Duration {
        let patience = match priority {
            Priority::Cold | Priority::FirstDenial => WAIT_MAX,
            Priority::RepeatedDenial | Priority::NoCache | Priority::Refresh => Duration::ZERO,
        };
        let backlog = self.bucket.wait_for(self.turns.len() as u64 + 1, now);
        let first_free = now + backlog.saturating_sub(patience);
        if priority == Priority::Refresh {
            return first_free.since(now).max(BLUR);
        }
        self.booked = self.booked.max(first_free) + self.bucket.slot(now);
        let wait = match self.booked.since(first_free) <= BOOK_MAX {
            true => self.booked.since(now) + BLUR.mul_f64(blur),
            // The book is full: anywhere in it.
            false => {
                self.booked = first_free + BOOK_MAX;
                first_free.since(now) + BOOK_MAX.mul_f64(blur)
            }
        };
        wait.max(BLUR + BLUR.mul_f64(blur) / 2)
    }
}

/// A place in the queue, given up when dropped.
struct Turn<'a> {
    budget: &'a Budget,
    ticket: Ticket,
}

impl Turn<'_> {
    /// Waits until served; false when that would be after `until`.
    async fn wait(&self, bell: &Notify, until: Moment) -> bool {
        loop {
            let now = clock::now();
            let step = self.budget.lock().step(self.ticket, now);
            let left = until.since(now);
            match step {
                Step::Granted => return true,
                Step::Behind if timeout(left, bell.notified()).await.is_err() => return false,
                Step::Behind => {}
                Step::After(wait) if wait > left => return false,
                Step::After(wait) => sleep(wait).await,
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.budget.lock().turns.leave(self.ticket);
    }
}

/// From 0 to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness callers come back a little more together; nothing else depends on it.
    let _ = rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
