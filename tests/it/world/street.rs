//! Life before several nodes: the world changes at random, messages come twice, late, out of order and to any node until they
//! are taken, and readers ask every node meanwhile. What happened and what was answered is kept, to be judged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rollcall::dev::{AsOf, Message, Sender, StandIn, WorldHandle};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::answer::Answer;
use super::changes::{Change, ORGANIZATIONS, USERS, organization, user};
use super::dice::Dice;
use super::history::{About, Event, History, Read, Row, Said, Stamp, truth};
use super::redis_server::RedisServer;
use super::service::READ_KEY;

/// At most so many reads a second of each reader.
const READS_PER_SECOND: u32 = 40;
/// Changes that readers ask about more than about others: enough to reach back to where the bound passes.
const LATEST: usize = 160;
/// A message that was not taken is sent again after this long.
const SEND_AGAIN: Duration = Duration::from_millis(20);
/// The lag that a demanding caller bears.
const LITTLE_LAG: Duration = Duration::from_millis(200);

/// What a caller asks for beside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Anything,
    NewReading,
    LittleLag,
}

/// What the tasks of a run share.
pub struct Street {
    clerk: WorldHandle,
    sender: Sender,
    http: reqwest::Client,
    nodes: Vec<String>,
    users: Vec<String>,
    /// The living ones. Locked before the world, the world before the history, the history before the last changes; none over
    /// an await.
    organizations: Mutex<Vec<String>>,
    /// Who was changed where, the last few times.
    latest: Mutex<VecDeque<(String, String)>>,
    history: Mutex<History>,
    /// No organization is renamed or deleted: only memberships and users change.
    are_organizations_lasting: AtomicBool,
    is_over: AtomicBool,
}

/// Readers at work.
pub struct Readers(Vec<JoinHandle<Vec<Read>>>);

impl Street {
    /// Before these nodes, which promise this bound. The world is that of `changes::crowd`.
    pub fn of(clerk: &StandIn, http: reqwest::Client, nodes: Vec<String>, bound: Duration) -> Arc<Self> {
        let users: Vec<_> = (0..USERS).map(user).collect();
        let organizations: Vec<_> = (0..ORGANIZATIONS).map(organization).collect();
        let history = History::of(&clerk.world().lock(), &users, &organizations, bound);
        Arc::new(Self {
            clerk: clerk.world().clone(),
            sender: clerk.sender().clone(),
            http,
            nodes,
            users,
            organizations: Mutex::new(organizations),
            latest: Mutex::default(),
            history: Mutex::new(history),
            are_organizations_lasting: AtomicBool::new(false),
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
        while let Some(delivered) = post.join_next().await {
            delivered.expect("no panic");
        }
        changes
    }

    fn change_something(&self, dice: &mut Dice) -> (Event, Vec<Message>) {
        let can_be_renamed = !self.are_organizations_lasting.load(Ordering::Relaxed);
        loop {
            let mut organizations = self.organizations.lock().expect("unpoisoned");
            let mut world = self.clerk.lock();
            let mut change = Change { world: &mut world, history: &mut self.history(), began: Instant::now() };
            // Some users are changed all the time, some hardly ever.
            let user = &self.users[dice.below(USERS).min(dice.below(USERS)).min(dice.below(USERS))];
            let at = dice.below(organizations.len());
            let id = organizations[at].clone();
            let changed = match dice.below(1_000) {
                0..3 => change.delete_user(user),
                3..20 if can_be_renamed => {
                    let changed = change.replace(&id, dice);
                    organizations[at] = changed.2.clone();
                    Some((changed.0, changed.1))
                }
                20..130 if can_be_renamed => change.rename(&id, dice),
                _ => change.join_or_leave(user, &id, dice),
            };
            if let Some(changed) = changed {
                let mut latest = self.latest();
                latest.push_front((user.clone(), id));
                latest.truncate(LATEST);
                return changed;
            }
        }
    }

    /// Late, to any node, until it is taken; some a second time, later and elsewhere.
    async fn deliver(self: Arc<Self>, message: Message, event: Option<Event>, mut dice: Dice) {
        let times = if dice.chance(25) { 2 } else { 1 };
        for _ in 0..times {
            let late_ms_max = *dice.pick(&[5, 5, 5, 5, 150, 150, 150, 3_000]);
            let late_ms = dice.below(late_ms_max);
            sleep(Duration::from_millis(late_ms as u64)).await;
            let endpoint = |dice: &mut Dice| format!("{}/webhooks/clerk", dice.pick(&self.nodes));
            while !self.sender.deliver_now(&message, &endpoint(&mut dice)).await.is_taken() {
                sleep(SEND_AGAIN).await;
            }
            if let Some(event) = event {
                self.history().acknowledge(event);
            }
        }
    }

    /// Sends readers off, as many to each node.
    pub fn gather(self: &Arc<Self>, readers_per_node: usize, dice: &mut Dice) -> Readers {
        let nodes = self.nodes.len();
        Readers((0..nodes * readers_per_node).map(|n| tokio::spawn(self.clone().read(n % nodes, dice.fork()))).collect())
    }

    /// Calls the readers home; answers what they were told.
    pub async fn end(&self, readers: Readers) -> Vec<Read> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut reads = Vec::new();
        for reader in readers.0 {
            reads.extend(reader.await.expect("no panic"));
        }
        reads
    }

    /// Asks one node one thing after another until all is over.
    async fn read(self: Arc<Self>, node: usize, mut dice: Dice) -> Vec<Read> {
        let mut pace = interval(Duration::from_secs(1) / READS_PER_SECOND);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reads = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            let (user, about) = self.something(&mut dice);
            let wants = match dice.below(100) {
                0..5 => Wants::NewReading,
                5..20 => Wants::LittleLag,
                _ => Wants::Anything,
            };
            reads.push(self.ask(node, user, about, wants).await);
        }
        reads
    }

    /// Half of the time it is about what has just changed.
    fn something(&self, dice: &mut Dice) -> (String, About) {
        let anything = (dice.pick(&self.users).clone(), dice.pick(&self.organizations.lock().expect("unpoisoned")).clone());
        let latest = Some(self.latest()).filter(|latest| !latest.is_empty() && dice.chance(50));
        let (user, id) = latest.map_or(anything, |latest| latest[dice.below(latest.len())].clone());
        let about = match dice.below(10) {
            0..3 => About::List,
            3..8 => About::Id(id),
            _ => {
                let slug = self.clerk.lock().organization(&id, AsOf::Now).and_then(|row| row.slug.clone());
                slug.map_or(About::Id(id), About::Slug)
            }
        };
        (user, about)
    }

    async fn ask(&self, node: usize, user: String, about: About, wants: Wants) -> Read {
        let mut url = format!("{}/v1/users/{user}/orgs", self.nodes[node]);
        if let About::Id(name) | About::Slug(name) = &about {
            url = format!("{url}/{name}");
        }
        let request = self.http.get(url).bearer_auth(READ_KEY);
        let request = match wants {
            Wants::Anything => request,
            Wants::NewReading => request.header("cache-control", "no-cache"),
            Wants::LittleLag => request.header("rollcall-max-lag", LITTLE_LAG.as_millis().to_string()),
        };
        let began = Instant::now();
        let answer = async { Answer::of(request.send().await?).await }.await.ok();
        let ended = Instant::now();
        let (said, stamp) = answer.as_ref().map_or((Said::Lost, None), |answer| (said(answer), stamp(answer)));
        let (is_demanded, lag_max) = (wants == Wants::NewReading, (wants == Wants::LittleLag).then_some(LITTLE_LAG));
        Read { node, user, about, is_demanded, lag_max, began, ended, said, stamp }
    }

    /// Every node, and every value left in Redis, says what the origin says.
    pub async fn expect_the_truth_everywhere(&self, redis: &RedisServer) -> anyhow::Result<()> {
        for user in &self.users {
            let truth = truth(&self.clerk.lock(), user);
            for node in 0..self.nodes.len() {
                let read = self.ask(node, user.clone(), About::List, Wants::Anything).await;
                let expected = truth.clone().map_or(Said::UserUnknown, Said::Rows);
                assert_eq!(read.said, expected, "node {node} of {user}");
            }
            let value = redis.query(&["GET", &format!("user-orgs:{user}")]);
            if !value.is_empty() {
                // An organization's name may be as old as the value is: nothing voids it.
                let who = |rows: Vec<Row>| rows.into_iter().map(|row| (row.membership_id, row.role)).collect::<Vec<_>>();
                assert_eq!(who(serde_json::from_str(&value)?), who(truth.unwrap_or_default()), "Redis of {user}");
            }
        }
        Ok(())
    }
}

fn said(answer: &Answer) -> Said {
    match (answer.status, answer.header("rollcall-decision")) {
        (200, "list") => Said::Rows(serde_json::from_slice(&answer.body).expect("a list")),
        (200, "member") => Said::Rows(vec![serde_json::from_slice(&answer.body).expect("a membership")]),
        (404, "not-a-member") => Said::NotAMember,
        (404, "user-unknown") => Said::UserUnknown,
        (503, "") => Said::Nothing,
        _ => panic!("an answer that should not be: {answer:?}"),
    }
}

/// What a decision says of its age and lag.
fn stamp(answer: &Answer) -> Option<Stamp> {
    let is_decision = !answer.header("rollcall-decision").is_empty();
    let ms = |name| Duration::from_millis(answer.number(name));
    is_decision.then(|| Stamp { age: ms("rollcall-age"), lag: ms("rollcall-lag") })
}
