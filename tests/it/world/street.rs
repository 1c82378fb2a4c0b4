//! Life before several nodes: the world changes at random, messages come twice, late, out of order, are lost and sent again
//! to any node until they are taken, and readers ask every node meanwhile. What happened and what was answered is kept, to be
//! judged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rollcall::dev::{AsOf, Message, Sender, StandIn, WorldHandle};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::changes::{Change, ORGANIZATIONS, USERS, organization, user};
use super::dice::Dice;
use super::history::{Event, History, Row, Said, truth};
use super::readers::{Caller, Question};
use super::wait::until;

/// Changes that readers ask about more than about others: enough to reach back to where the bound passes.
const LATEST: usize = 160;
/// Whoever does not answer a delivery for so long is given up: many that hang would keep the others from being sent.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(4);
/// A message that was not taken is sent again after this long.
const SEND_AGAIN: Duration = Duration::from_millis(20);
/// One that was lost is sent again after a second, and at most so much more.
const LOST_FOR_MS_MAX: usize = 2_000;

/// What the tasks of a run share.
pub struct Street {
    pub(super) clerk: WorldHandle,
    sender: Sender,
    pub(super) caller: Caller,
    /// The living users and organizations, in this order. Locked before the world, the world before the history, the history
    /// before the last changes; none over an await.
    pub(super) users: Mutex<Vec<String>>,
    pub(super) organizations: Mutex<Vec<String>>,
    /// Who was changed where, the last few times.
    pub(super) latest: Mutex<VecDeque<(String, String)>>,
    history: Mutex<History>,
    /// No organization is renamed or deleted: only memberships and users change.
    are_organizations_lasting: AtomicBool,
    /// The changes are over: what is on its way is to arrive.
    hurry: watch::Sender<bool>,
    pub(super) is_over: AtomicBool,
}

impl Street {
    /// Before these nodes, which promise this bound. The world is that of `changes::crowd`.
    pub fn of(clerk: &StandIn, http: reqwest::Client, nodes: Vec<String>, bound: Duration) -> Arc<Self> {
        let users: Vec<_> = (0..USERS).map(user).collect();
        let organizations: Vec<_> = (0..ORGANIZATIONS).map(organization).collect();
        let history = History::of(&clerk.world().lock(), &users, &organizations, bound);
        Arc::new(Self {
            clerk: clerk.world().clone(),
            sender: clerk.sender().clone(),
            caller: Caller { http, nodes },
            users: Mutex::new(users),
            organizations: Mutex::new(organizations),
            latest: Mutex::default(),
            history: Mutex::new(history),
            are_organizations_lasting: AtomicBool::new(false),
            hurry: watch::channel(false).0,
            is_over: AtomicBool::new(false),
        })
    }

    fn latest(&self) -> MutexGuard<'_, VecDeque<(String, String)>> {
        self.latest.lock().expect("unpoisoned")
    }

    /// What happened so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("unpoisoned")
    }

    /// From now on no organization is renamed or deleted.
    pub fn let_organizations_last(&self) {
        self.are_organizations_lasting.store(true, Ordering::Relaxed);
    }

    /// Changes the world at random, at most so often a second, while `goes_on` says so of the number of changes, and has every
    /// message delivered; ends when all of them were taken. Answers how many changes there were.
    pub async fn change_while(self: &Arc<Self>, goes_on: impl Fn(usize) -> bool, per_second: u32, dice: &mut Dice) -> usize {
        let mut pace = interval(Duration::from_secs(1) / per_second);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut post, mut changes) = (JoinSet::new(), 0);
        while goes_on(changes) {
            pace.tick().await;
            changes += 1;
            let (event, messages) = self.change_something(dice);
            for (n, message) in messages.into_iter().enumerate() {
                // The first one tells of the change; what cascades from it tells less.
                let event = (n == 0).then_some(event);
                post.spawn(self.clone().deliver(message, event, dice.fork()));
            }
        }
        self.hurry.send_replace(true);
        while let Some(delivered) = post.join_next().await {
            delivered.expect("no panic");
        }
        changes
    }

    fn change_something(&self, dice: &mut Dice) -> (Event, Vec<Message>) {
        let may_change = !self.are_organizations_lasting.load(Ordering::Relaxed);
        loop {
            let mut users = self.users.lock().expect("unpoisoned");
            let mut organizations = self.organizations.lock().expect("unpoisoned");
            let mut world = self.clerk.lock();
            let mut change = Change { world: &mut world, history: &mut self.history(), began: Instant::now() };
            // Some users are changed all the time, some hardly ever.
            let who = dice.below(users.len()).min(dice.below(users.len())).min(dice.below(users.len()));
            let at = dice.below(organizations.len());
            let (user, id) = (users[who].clone(), organizations[at].clone());
            let changed = match dice.below(1_000) {
                0..3 => {
                    let changed = change.replace_user(&user);
                    users[who] = changed.2.clone();
                    Some((changed.0, changed.1))
                }
                3..20 if may_change => {
                    let changed = change.replace(&id, dice);
                    organizations[at] = changed.2.clone();
                    Some((changed.0, changed.1))
                }
                20..130 if may_change => change.rename(&id, dice),
                _ => change.join_or_leave(&user, &id, dice),
            };
            if let Some(changed) = changed {
                let mut latest = self.latest();
                latest.push_front((user, id));
                latest.truncate(LATEST);
                return changed;
            }
        }
    }

    /// Late, to any node, until it is taken; some a second time, later and elsewhere. Of some the first try is lost on its way,
    /// of some its answer: they were taken, and nobody knows.
    async fn deliver(self: Arc<Self>, message: Message, event: Option<Event>, mut dice: Dice) {
        let times = if dice.chance(25) { 2 } else { 1 };
        for _ in 0..times {
            let late_ms_max = *dice.pick(&[5, 5, 5, 5, 150, 150, 150, 3_000]);
            self.wait(dice.below(late_ms_max)).await;
            let endpoint = |dice: &mut Dice| format!("{}/webhooks/clerk", dice.pick(&self.caller.nodes));
            if dice.chance(10) {
                if dice.chance(50) {
                    self.attempt(&message, &endpoint(&mut dice)).await;
                }
                self.wait(1_000 + dice.below(LOST_FOR_MS_MAX)).await;
            }
            while !self.attempt(&message, &endpoint(&mut dice)).await {
                sleep(SEND_AGAIN).await;
            }
            if let Some(event) = event {
                self.history().acknowledge(event);
            }
        }
    }

    /// One delivery. Whether it is known to have been taken.
    async fn attempt(&self, message: &Message, endpoint: &str) -> bool {
        let delivered = tokio::time::timeout(GIVEN_UP_AFTER, self.sender.deliver_now(message, endpoint)).await;
        delivered.is_ok_and(|delivery| delivery.is_taken())
    }

    /// So long, unless it is time to hurry.
    async fn wait(&self, late_ms: usize) {
        let mut hurry = self.hurry.subscribe();
        // Over at whichever comes first.
        let _ = tokio::time::timeout(Duration::from_millis(late_ms as u64), hurry.wait_for(|hurry| *hurry)).await;
    }

    /// Half of the time it is about what has just changed.
    pub(super) fn something(&self, dice: &mut Dice) -> Question {
        let users = self.users.lock().expect("unpoisoned");
        let organizations = self.organizations.lock().expect("unpoisoned");
        let anything = (dice.pick(&users).clone(), dice.pick(&organizations).clone());
        let latest = Some(self.latest()).filter(|latest| !latest.is_empty() && dice.chance(50));
        let (user, id) = latest.map_or(anything, |latest| latest[dice.below(latest.len())].clone());
        Question::about(user, id, &self.clerk.lock(), dice)
    }

    /// Every node, and every value left in Redis, read by this, says what the origin says.
    pub async fn expect_the_truth_everywhere(&self, value: impl Fn(&str) -> String) -> anyhow::Result<()> {
        let users = self.history().users();
        for user in users {
            let truth = truth(&self.clerk.lock(), &user);
            for node in 0..self.caller.nodes.len() {
                let read = self.caller.ask(node, Question::list(&user)).await;
                let expected = truth.clone().map_or(Said::UserUnknown, Said::Rows);
                assert_eq!(read.said, expected, "node {node} of {user}");
            }
            let value = value(&format!("user-orgs:{user}"));
            if !value.is_empty() {
                // What is told of an organization, its name or its end, voids no value.
                let lives = |row: &Row| self.clerk.lock().organization(&row.organization_id, AsOf::Now).is_some();
                let who = |rows: Vec<Row>| {
                    let living = rows.into_iter().filter(lives);
                    living.map(|row| (row.membership_id, row.role)).collect::<Vec<_>>()
                };
                assert_eq!(who(serde_json::from_str(&value)?), who(truth.unwrap_or_default()), "Redis of {user}");
            }
        }
        Ok(())
    }

    /// The same, as soon as an origin that lagged is forgotten: what it left out may be kept for some seconds.
    pub async fn expect_the_truth_everywhere_soon(&self) {
        let users = self.history().users();
        for user in users {
            let expected = truth(&self.clerk.lock(), &user).map_or(Said::UserUnknown, Said::Rows);
            for node in 0..self.caller.nodes.len() {
                until(&format!("node {node} to tell of {user} what is so: {expected:?}"), async || {
                    (self.caller.ask(node, Question::list(&user)).await.said == expected).then_some(())
                })
                .await;
            }
        }
    }

    /// Whether it is time to go home.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}
