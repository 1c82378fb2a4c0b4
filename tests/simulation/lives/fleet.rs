//! The nodes, the stream between them, and what may happen next.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rollcall::domain::{Change, Moment, OrganizationRef};
use rollcall::ports::{Fence, StreamSink};
use tokio::runtime::Runtime;

use super::cache::{Answer, Ask, Cache, Parts, Question};
use super::doors::{Clerk, Link, Manner, Redis};
use super::judge::{BRIEFLY, is_true, judge};
use super::town::{ORGANIZATIONS, Step, Town, USERS, organization, steps, user};
use super::{BOUNDS, LAG_MAX, NODES, TTL};
use crate::clock;

/// What happens next.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passes, as long as there is some left.
    Wait(Duration),
    /// A node's link to Redis is cut, or heals.
    Cut { node: usize, is_cut: bool },
    /// A node is stopped, and started with nothing. What it had begun may still land in Redis.
    Restart { node: usize },
    /// Something becomes true at the origin. What it tells is on its way, or lost.
    Live { step: Step, is_lost: bool },
    /// One of the messages that are on their way, or have come before, comes to a node and passes Redis. A deletion may not say whose it is.
    Deliver { message: usize, node: usize, names_user: bool },
    /// A node reads the stream to its end.
    Hear { node: usize },
    /// Somebody asks a node.
    Ask { node: usize, user: usize, about: Option<usize> },
    /// The origin answers who has waited longest.
    Release,
}

/// A history: what happens, and how the origin answers while it does.
#[derive(Debug, Clone)]
pub struct History {
    pub events: Vec<Event>,
    pub manners: Vec<(u8, bool)>,
}

/// All that a history waits: with the wait at its end it is less than the quarter of an hour for which an end outranks any
/// reading.
const WAIT_MAX: Duration = Duration::from_secs(500);

/// Any history of so many events at most.
pub fn histories(events_max: usize) -> impl Strategy<Value = History> {
    let (node, user) = (0..NODES, 0..USERS);
    let event = prop_oneof![
        4 => (0..=12_000u64).prop_map(|millis| Event::Wait(Duration::from_millis(millis))),
        1 => (0..=150u64).prop_map(|seconds| Event::Wait(Duration::from_secs(seconds))),
        1 => node.clone().prop_map(|node| Event::Restart { node }),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, is_cut)| Event::Cut { node, is_cut }),
        5 => (steps(), prop::bool::weighted(0.15)).prop_map(|(step, is_lost)| Event::Live { step, is_lost }),
        5 => (0..1_000usize, node.clone(), prop::bool::weighted(0.9))
            .prop_map(|(message, node, names_user)| Event::Deliver { message, node, names_user }),
        6 => node.clone().prop_map(|node| Event::Hear { node }),
        9 => (node, user, prop::option::of(0..ORGANIZATIONS)).prop_map(|(node, user, about)| Event::Ask { node, user, about }),
        3 => Just(Event::Release),
    ];
    let manners = prop::collection::vec((0..=30u8, prop::bool::weighted(0.3)), 1..8);
    (prop::collection::vec(event, 1..events_max), manners).prop_map(|(events, manners)| History { events, manners })
}

struct Node {
    cache: Cache,
    link: Arc<Link>,
    fence: Fence,
    /// Entries of the stream that were applied.
    read: usize,
    /// Everything it was told, by the stream or ahead of it.
    heard: Arc<Mutex<Vec<Change>>>,
}

impl Node {
    fn is_cut_off(&self) -> bool {
        self.link.is_cut.load(Ordering::Relaxed)
    }
}

/// The fleet on its way through a history.
pub struct Fleet {
    io: Runtime,
    clerk: Arc<Clerk>,
    redis: Arc<Redis>,
    nodes: Vec<Node>,
    stream: Vec<(Change, Moment)>,
    /// What was told; which of it has come.
    messages: Vec<(Change, bool)>,
    /// Something that nobody will ever be told.
    is_anything_lost: bool,
    /// The first breach.
    breach: Arc<Mutex<Option<String>>>,
}

impl Fleet {
    fn new(manners: &[(u8, bool)]) -> Self {
        clock::set(clock::NOW);
        let io = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let manner = |(lag, is_slow): &(u8, bool)| Manner { lag: Duration::from_secs((*lag).into()), is_slow: *is_slow };
        let clerk = Arc::new(Clerk::new(Town::new(clock::now() - LAG_MAX), manners.iter().map(manner).collect()));
        let redis = Arc::new(Redis::default());
        let breach = Arc::default();
        let (nodes, stream, messages) = (vec![], vec![], vec![]);
        let mut fleet = Self { io, clerk, redis, nodes, stream, messages, is_anything_lost: false, breach };
        fleet.nodes = (0..NODES).map(|_| fleet.started()).collect();
        (0..NODES).for_each(|node| fleet.hear(node));
        fleet
    }

    /// A node that knows nothing, and has read nothing.
    fn started(&self) -> Node {
        let fence = Fence::asked();
        let link = Arc::new(Link { redis: self.redis.clone(), is_cut: false.into() });
        let parts = Parts {
            origin: self.clerk.clone(),
            shared: Some(link.clone()),
            fence: fence.clone(),
            bounds: BOUNDS,
            local_bytes_max: 1 << 20,
            io: self.io.handle().clone(),
        };
        Node { cache: Cache::new(parts), link, fence, read: 0, heard: Arc::default() }
    }

    /// Lives through the history to a quiet end; answers what was wrong on the way or in the end.
    pub fn run(history: &History) -> Option<String> {
        let mut fleet = Self::new(&history.manners);
        for event in &history.events {
            fleet.step(event);
            if let Some(breach) = fleet.breach() {
                return Some(breach);
            }
        }
        fleet.end()
    }

    fn breach(&self) -> Option<String> {
        self.breach.lock().expect("nothing panics while it is held").clone()
    }

    fn step(&mut self, event: &Event) {
        clock::advance(Duration::from_millis(1));
        match event {
            Event::Wait(time) if clock::now().since(clock::NOW) + *time > WAIT_MAX => {}
            Event::Wait(time) => clock::advance(*time),
            Event::Cut { node, is_cut } => self.nodes[*node].link.is_cut.store(*is_cut, Ordering::Relaxed),
            Event::Restart { node } => self.nodes[*node] = self.started(),
            Event::Live { step, is_lost } => {
                let told = self.clerk.town(|town| town.live(*step, clock::now()));
                self.is_anything_lost |= told.is_some() && *is_lost;
                self.messages.extend(told.filter(|_| !is_lost).map(|change| (change, false)));
            }
            Event::Deliver { message, node, names_user } if !self.messages.is_empty() => {
                self.deliver(*message % self.messages.len(), *node, *names_user);
            }
            Event::Hear { node } => self.hear(*node),
            Event::Ask { node, user, about } => self.ask(*node, *user, *about),
            Event::Release => _ = self.clerk.release(),
            Event::Deliver { .. } => {}
        }
        self.settle();
    }

    /// A message passes: the node it came to, then Redis, then the stream; or only the node, if it is cut off: it will come again.
    fn deliver(&mut self, message: usize, node: usize, names_user: bool) {
        let change = match self.messages[message].0.clone() {
            Change::MembershipDeleted { membership, .. } if !names_user => Change::MembershipDeleted { membership, user: None },
            change => change,
        };
        let now = clock::now();
        self.nodes[node].cache.apply_early(&change, now);
        self.nodes[node].heard.lock().expect("nothing panics while it is held").push(change.clone());
        if !self.nodes[node].is_cut_off() {
            self.messages[message].1 = true;
            change.users().iter().for_each(|user| self.redis.void(user));
            self.stream.push((change, now));
        }
    }

    fn hear(&mut self, node: usize) {
        let (node, now) = (&mut self.nodes[node], clock::now());
        if node.is_cut_off() {
            return;
        }
        for (change, at) in &self.stream[node.read..] {
            node.cache.apply(change, *at);
            node.heard.lock().expect("nothing panics while it is held").push(change.clone());
        }
        node.read = self.stream.len();
        node.fence.advance(now);
    }

    /// Somebody asks, and waits as long as it takes. The answer is judged in the moment in which it is given.
    fn ask(&self, node: usize, user: usize, about: Option<usize>) {
        let (cache, heard, breach) = (self.nodes[node].cache.clone(), self.nodes[node].heard.clone(), self.breach.clone());
        let ask = question(user, about);
        self.io.spawn(async move {
            let answer = answered(&cache, ask.clone()).await;
            let heard = heard.lock().expect("nothing panics while it is held");
            let found = answer.map_or_else(Some, |answer| judge(&heard, user, &ask, &answer));
            let mut breach = breach.lock().expect("nothing panics while it is held");
            *breach = breach.take().or(found);
        });
    }

    /// Lets everybody do what he can do now.
    fn settle(&self) {
        self.io.block_on(async {
            for _ in 0..40 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// What nobody will be told is not known before the readings are too old; all else is, as soon as the origin is up to date.
    fn end(&mut self) -> Option<String> {
        self.nodes.iter().for_each(|node| node.link.is_cut.store(false, Ordering::Relaxed));
        while self.clerk.release() {
            self.settle();
        }
        for message in 0..self.messages.len() {
            if !self.messages[message].1 {
                self.deliver(message, message % NODES, true);
            }
        }
        clock::advance(LAG_MAX.max(BRIEFLY) + Duration::from_secs(1));
        self.clerk.recover();
        let is_told = !self.is_anything_lost;
        let soon = is_told.then(|| self.is_all_true("is all told")).flatten();
        soon.or_else(|| {
            clock::advance(TTL + Duration::from_secs(1));
            self.is_all_true("is all too old")
        })
    }

    fn is_all_true(&mut self, when: &str) -> Option<String> {
        (0..NODES).for_each(|node| self.hear(node));
        self.settle();
        if let Some(breach) = self.breach() {
            return Some(breach);
        }
        for (node, n) in (0..NODES).flat_map(|node| (0..USERS).map(move |n| (node, n))) {
            let answer = self.io.block_on(answered(&self.nodes[node].cache, question(n, None)));
            let truth = self.clerk.town(|town| town.truth(n, clock::now()).clone());
            match answer {
                Ok(answer) if is_true(&answer, &truth) => {}
                Ok(answer) => return Some(format!("I4: node {node} when it {when}: {answer:?} is not {truth:?}")),
                Err(breach) => return Some(breach),
            }
        }
        None
    }
}

fn question(n: usize, about: Option<usize>) -> Ask {
    let by_id = |o| Question::Member(OrganizationRef::parse(organization(o).as_str()).expect("an id"));
    Ask {
        user: user(n),
        question: about.map_or(Question::List, by_id),
        wants: Default::default(),
        arrived: clock::now(),
        deadline: clock::now() + Duration::from_secs(3_600),
        allowance: None,
        waits: Default::default(),
    }
}

async fn answered(cache: &Cache, ask: Ask) -> Result<Answer, String> {
    match cache.hit(&ask.user, &ask.question, &ask.wants, ask.arrived, clock::now()) {
        Some(answer) => Ok(answer),
        None => cache.read(ask).await.map_err(|error| format!("I8: {error}, while everything is there")),
    }
}
