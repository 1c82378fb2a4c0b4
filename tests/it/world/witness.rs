//! A witness of a test: notes what the test does to the origin, what was acknowledged of it, and every answer, and in the end
//! lets the judge of the history say what was wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rollcall::dev::{Done, World as ClerkWorld};
use rollcall::protocol::freshness::Bounds;

use super::history::{Event, History, Read, Value};
use super::service::World;
use super::wait::until;

/// Everybody who has a part in the test holds it.
#[derive(Clone)]
pub struct Witness(Arc<Mutex<Notes>>);

struct Notes {
    history: History,
    /// By the first message that tells of it.
    events: HashMap<String, Event>,
    reads: Vec<Read>,
    values: Vec<Value>,
}

impl Witness {
    /// Of what happens from now on in this world, before nodes with these limits.
    fn of(world: &ClerkWorld, bounds: Bounds) -> Self {
        let all = world.describe();
        let ids = |of: &str| -> Vec<String> {
            let rows = all[of].as_array().expect("rows").iter();
            rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
        };
        let mut history = History::of(world, &ids("users"), &ids("organizations"), bounds.staleness);
        history.limit_ages(bounds.ttl, bounds.grace);
        Self(Arc::new(Mutex::new(Notes { history, events: HashMap::new(), reads: Vec::new(), values: Vec::new() })))
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().expect("unpoisoned")
    }

    /// Something was done at the origin, begun then.
    pub fn saw_a_change(&self, began: Instant, world: &ClerkWorld, done: &Done) {
        let notes = &mut *self.notes();
        let event = notes.history.note(began, world, done);
        notes.events.extend(done.messages.first().map(|message| (message.id.clone(), event)));
    }

    /// All messages of it were taken.
    pub fn saw_it_taken(&self, done: &Done) {
        let notes = &mut *self.notes();
        let event = done.messages.first().and_then(|message| notes.events.get(&message.id));
        notes.history.acknowledge(*event.expect("it was seen"));
    }

    /// An eviction of this user, asked for then, was taken.
    pub fn saw_an_eviction(&self, user: &str, asked: Instant) {
        self.notes().history.acknowledge_all_of(user, asked);
    }

    /// A question was answered.
    pub fn heard(&self, read: Read) {
        self.notes().reads.push(read);
    }

    /// When anything was last acknowledged.
    pub fn last_acknowledged(&self) -> Instant {
        self.notes().history.last_acknowledged()
    }

    /// What the judge says of all this; nothing, if nothing is wrong.
    pub fn verdict(&self) -> Option<String> {
        let notes = &mut *self.notes();
        let mut wrong = notes.history.judge(&notes.reads);
        wrong.extend(notes.history.judge_values(&notes.values));
        verdict(notes.reads.len() + notes.values.len(), &wrong)
    }
}

/// How every verdict begins.
pub const FINDING: &str = "the judge finds";

/// So many answers were judged, and this is wrong with some of them.
pub fn verdict(judged: usize, wrong: &[String]) -> Option<String> {
    let first = wrong.first()?;
    Some(format!("{FINDING} {} of {judged} answers wrong, the first: {first}", wrong.len()))
}

impl World {
    /// From now on everything is noted.
    pub fn call_a_witness(&mut self) {
        let witness = Witness::of(&self.clerk.world().lock(), self.bounds());
        self.witness = Some(witness);
    }

    /// Who notes everything.
    pub fn witness(&self) -> &Witness {
        self.witness.as_ref().expect("one was called")
    }

    /// Whoever was told of this change may rely on it from now on, however he was told.
    pub fn acknowledge(&self, done: &Done) {
        self.witness().saw_it_taken(done);
    }

    /// Waits until every answer has to know of all that was acknowledged.
    pub async fn until_due(&self) {
        let last = self.witness().last_acknowledged();
        let bound = self.bounds().staleness;
        until("the bound to pass", async || (last.elapsed() > bound).then_some(())).await;
    }

    /// Waits until no list may lack anything because the origin lagged.
    pub async fn until_gaps_end(&self) {
        let end = self.witness().notes().history.gaps_end();
        until("lists to be whole", async || (Instant::now() > end).then_some(())).await;
    }

    /// Reads what Redis holds of a user as others may who know the documented key.
    pub fn look_into_redis(&self, user: &str) {
        let began = Instant::now();
        let value = self.redis_ref().query(&["GET", &format!("user-orgs:{user}")]);
        if !value.is_empty() {
            let rows = serde_json::from_str(&value).expect("a list of memberships");
            self.witness().notes().values.push(Value { user: user.to_owned(), rows, began });
        }
    }

    /// The witness knows how far reads of the origin are behind.
    pub(super) fn tell_of_origin_lag(&self, lag: Option<Duration>) {
        let Some(witness) = &self.witness else { return };
        let history = &mut witness.notes().history;
        match lag {
            Some(lag) => history.let_origin_lag(lag),
            None => history.end_origin_lag(),
        }
    }
}
