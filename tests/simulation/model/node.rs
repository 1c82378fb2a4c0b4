//! A node's memory: the facts, the counters, the local entry, and what may be answered from it.
//!
//! The freshness of an answer is judged by `protocol::freshness`, the window of a "no" by `protocol::denial`.

use std::time::Duration;

use rollcall::domain::{Moment, OrganizationRef};
use rollcall::protocol::denial::{Denials, Denied};
use rollcall::protocol::freshness::{Bounds, Candidate, Verdict, Wants};

use super::life::{Life, Rows, moment};
use super::rules::Rules;
use super::state::{Local, Node, Task};
use super::world::World;

/// How far behind an answer may be, in ticks.
pub const BOUND: u8 = 1;

/// A step of applying a change to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    Remember,
    Bump,
    Drop,
    MoveCounter,
    ClearStanding,
}

/// An answer that a node would give, and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    pub rows: Rows,
    pub as_of: u8,
    pub fence: Option<u8>,
    /// How often the same was refused before, for a "no".
    pub refusals: u8,
}

impl World {
    fn bounds(&self) -> Bounds {
        let (ttl, grace) = self.scene.ages_max;
        Bounds {
            staleness: Duration::from_secs(BOUND.into()),
            ttl: Duration::from_secs(ttl.into()),
            grace: Duration::from_secs(grace.into()),
            local_age_max: Duration::from_secs(60),
        }
    }

    /// Whether a reading may answer a request that arrived at `arrived`.
    pub fn is_good(&self, as_of: u8, fence: Option<u8>, arrived: u8, now: u8) -> bool {
        let judged = self.bounds().judge(candidate(as_of, fence), &Wants::default(), moment(arrived), moment(now));
        match judged {
            Verdict::Good => true,
            Verdict::TooOld => !self.rules.age_is_judged,
            Verdict::TooFarBehind => !self.rules.fence_is_judged,
        }
    }

    /// Whether it may be given although it is not good, because the origin cannot be asked.
    fn may_outlive(&self, given: &Given, now: u8) -> bool {
        let fence = if self.rules.grace_needs_the_fence { given.fence } else { Some(now) };
        let is_no = given.rows == 0 && self.rules.grace_is_never_a_no;
        let bounds = self.bounds();
        let grace = if self.rules.grace_has_an_end { bounds.grace } else { Duration::from_secs(3600) };
        Bounds { grace, ..bounds }.may_outlive(candidate(given.as_of, fence), &Wants::default(), is_no, moment(now))
    }

    /// How old the reading behind a "no" may be after so many refusals.
    pub fn window(&self, refusals: u8) -> Duration {
        let denied = Denied::Organization(OrganizationRef::parse("acme").expect("a slug"));
        let mut denials = Denials::default();
        for n in 0..refusals {
            denials.record(denied.clone(), moment(n));
        }
        denials.window(&denied, self.bounds().ttl)
    }
}

fn candidate(as_of: u8, fence: Option<u8>) -> Candidate {
    Candidate { as_of: moment(as_of), fence: fence.map_or(Moment::ZERO, moment) }
}

impl Node {
    /// In what order a change is applied here.
    pub fn applications(world: &World, node: usize, change: u8) -> Vec<Application> {
        use Application::{Bump, ClearStanding, Drop, MoveCounter, Remember};
        let (rules, scene) = (&world.rules, &world.scene);
        if scene.is_unreadable_to_second && node == 1 {
            return if rules.unreadable_clears_standing { vec![ClearStanding] } else { vec![] };
        }
        let change = &scene.life.changes[usize::from(change)];
        let mut steps = Vec::new();
        if !change.users().is_empty() {
            steps.extend(if rules.bump_before_drop { [Bump, Drop] } else { [Drop, Bump] });
        }
        let is_moved = change.is_unfiled() && rules.unfiled_fact_moves_counter;
        steps.extend(is_moved.then_some(MoveCounter));
        let is_first = if steps.contains(&Bump) { rules.fact_before_bump } else { rules.fact_before_counter };
        steps.insert(if is_first { 0 } else { steps.len() }, Remember);
        steps
    }

    /// Does one step of applying a change that passed at `at`.
    pub fn apply(&mut self, rules: &Rules, step: Application, change: u8, at: u8) {
        match step {
            Application::Remember => {
                let heard = &mut self.heard[usize::from(change)];
                *heard = (*heard).max(Some(at));
            }
            Application::Bump => self.bump(),
            Application::Drop => self.drop_entry(rules),
            Application::MoveCounter => self.generation += 1,
            Application::ClearStanding => self.clear_standing(),
        }
    }

    fn drop_entry(&mut self, rules: &Rules) {
        self.refused = 0;
        if !rules.change_forgets_refusals {
            self.refusals_kept = self.entry.map_or(0, |entry| entry.refusals);
        }
        if rules.change_drops_entry {
            self.entry = None;
        }
        if let Task::Reading(reading) = &mut self.task
            && reading.is_flight
        {
            reading.is_overtaken = true;
        }
    }

    /// `Facts::clear_standing`.
    pub fn clear_standing(&mut self) {
        self.standing += 1;
        self.generation += 1;
    }

    /// `Facts::doubt_before`.
    pub fn doubt_before(&mut self, since: Option<u8>) {
        self.generation += u8::from(since > self.doubted);
        self.doubted = since;
    }

    /// `Facts::miss_before`.
    pub fn miss_before(&mut self, at: u8) {
        self.floor = self.floor.max(Some(at));
        self.generation += 1;
    }

    /// `Facts::may_trust`: a doubt begins in the middle of its tick, and so does what is missing end.
    pub fn may_trust(&self, as_of: u8) -> bool {
        self.doubted.max(self.floor).is_none_or(|since| as_of > since)
    }

    /// `Facts::has_changed_since`: only of changes that name the user.
    pub fn has_changed_since(&self, life: &Life, as_of: u8) -> bool {
        let names_user = |place: usize| !life.changes[place].users().is_empty();
        self.heard.iter().enumerate().any(|(place, at)| at.is_some_and(|at| as_of <= at) && names_user(place))
    }

    /// `Cache::find`: what a hit answers now, under a fence and a counter loaded before.
    pub fn hit(&self, world: &World, entry: Option<Local>, fence: Option<u8>, generation: u8, now: u8) -> Option<Given> {
        let entry = entry.filter(|entry| entry.generation == generation)?;
        let given = Given { rows: entry.rows, as_of: entry.as_of, fence, refusals: entry.refusals };
        let is_good = world.is_good(entry.as_of, fence, now, now);
        (is_good && world.may_say(&given, now)).then_some(given)
    }

    /// `Cache::known`: the local entry with the facts of now, and whether it may answer without the shared tier.
    pub fn known(&self, world: &World) -> Option<(Local, bool)> {
        let mut entry = self.entry?;
        if entry.generation == self.generation {
            return Some((entry, true));
        }
        if !self.may_trust(entry.as_of) {
            return None;
        }
        let judged = world.outrank(self, entry.rows, entry.as_of);
        if judged.is_void {
            return None;
        }
        entry.rows = judged.rows;
        entry.is_brief |= judged.lacks_expected && world.rules.kept_briefly_without_expected;
        Some((entry, entry.standing == self.standing))
    }

    /// `Cache::outlive`: what is said at `now` when the origin cannot be asked.
    pub fn outlive(&self, world: &World, now: u8) -> Option<Given> {
        let (entry, has_standing) = self.known(world)?;
        let fence = self.fence.filter(|_| has_standing);
        let given = Given { rows: entry.rows, as_of: entry.as_of, fence, refusals: entry.refusals };
        world.may_outlive(&given, now).then_some(given)
    }

    /// `Local::land`: unless the stripe moved, or what is there began later and knows as much.
    pub fn land(&mut self, rules: &Rules, stripe: u8, mut entry: Local) {
        if rules.stripe_is_checked && self.stripe != stripe {
            return;
        }
        if let Some(old) = &self.entry {
            let is_behind = entry.generation <= old.generation && entry.standing <= old.standing;
            if old.as_of > entry.as_of && is_behind {
                return;
            }
            entry.refusals = if entry.rows == old.rows { old.refusals } else { 0 };
            entry.is_refused = old.is_refused && old.as_of == entry.as_of;
        }
        entry.refusals = entry.refusals.max(std::mem::take(&mut self.refusals_kept));
        self.entry = Some(entry);
    }
}
