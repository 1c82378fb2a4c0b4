//! Three nodes on one Redis, thousands of random changes, delivered twice, late and out of order to any node, and readers on
//! all of them meanwhile. Every answer is held against the acknowledged history; at the end every node agrees with the origin.
//! I3 to I6, I10.
//!
//! Two seeds, unless `ROLLCALL_TEST_SEEDS` names others: `ROLLCALL_TEST_SEEDS=3,4,5 cargo test --test it three_nodes`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollcall::dev::{AsOf, Done, Faults, Message, NewOrganization, NewUser, Sender, World as ClerkWorld, WorldHandle};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::world::answer::Answer;
use crate::world::dice::Dice;
use crate::world::history::{About, Event, History, Read, Row, Said, truth};
use crate::world::redis_server::RedisServer;
use crate::world::service::{Deployment, READ_KEY, Setup, World, run_test};
use crate::world::wait::until;

const USERS: usize = 40;
const ORGANIZATIONS: usize = 12;
const CHANGES: usize = 2_000;
/// At most so many changes a second, and so many reads a second of each of the six readers.
const CHANGES_PER_SECOND: u64 = 400;
const READS_PER_SECOND: u64 = 80;
/// Changes that readers ask about more than about others.
const LATEST: usize = 20;
const ROLES: [&str; 3] = ["org:admin", "org:member", "org:billing_manager"];

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_agrees_with_the_acknowledged_history_and_in_the_end_with_the_origin() {
    let seeds = std::env::var("ROLLCALL_TEST_SEEDS").unwrap_or_else(|_| "1,7".to_owned());
    for seed in seeds.split(',').map(|seed| seed.trim().parse().expect("seeds are numbers")) {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut setup = Setup { clerk: crowd(&mut dice), ..Setup::default() };
    setup.bounds.staleness = Duration::from_millis(*dice.pick(&[1_000, 500, 250]));
    setup.bounds.ttl = Duration::from_secs(*dice.pick(&[300, 3]));
    let latency_ms = *dice.pick(&[0, 5, 25]);
    let (bound, ttl) = (setup.bounds.staleness, setup.bounds.ttl);
    println!("seed {seed}: a bound of {bound:?}, a TTL of {ttl:?}, an origin that takes {latency_ms} ms");
    run_test(Deployment::Redis(3), setup, async |world: &mut World| {
        world.clerk.faults().set(Faults { latency_ms, ..Faults::default() });
        let street = Arc::new(Street::of(world));
        let began = Instant::now();
        let readers: Vec<_> = (0..6).map(|n| tokio::spawn(street.clone().read(n % 3, dice.fork()))).collect();
        street.change_the_world(&mut dice).await;
        let took = began.elapsed();
        let last = street.history().all_acknowledged().expect("every message was taken");
        until("the bound to pass", async || (last.elapsed() > world.bounds().staleness).then_some(())).await;
        street.expect_the_truth_everywhere(world.redis()).await?;
        street.is_over.store(true, Ordering::Relaxed);
        let mut reads = Vec::new();
        for reader in readers {
            reads.extend(reader.await??);
        }
        street.judge(seed, &reads, took);
        Ok(())
    })
    .await;
}

/// Everybody is in a third of the organizations.
fn crowd(dice: &mut Dice) -> ClerkWorld {
    let mut world = ClerkWorld::new();
    world.set_cascades(dice.chance(50));
    world.seed(|world| {
        for n in 0..ORGANIZATIONS {
            let (id, slug) = (Some(organization(n)), Some(format!("slug-{n}")));
            let new = NewOrganization { id, name: format!("Organization {n}"), slug, created_by: None };
            world.create_organization(new).expect("a new organization");
        }
        for n in 0..USERS {
            world.create_user(NewUser { id: Some(user(n)), ..NewUser::default() }).expect("a new user");
            for at in 0..ORGANIZATIONS {
                if dice.chance(66) {
                    continue;
                }
                let role = *dice.pick(&ROLES);
                world.grant(&user(n), &organization(at), role).expect("a new member");
            }
        }
    });
    world
}

fn user(n: usize) -> String {
    format!("user_{n}")
}

fn organization(n: usize) -> String {
    format!("org_{n}")
}

/// What the tasks of a run share.
struct Street {
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
    is_over: AtomicBool,
}

impl Street {
    fn of(world: &World) -> Self {
        let users: Vec<_> = (0..USERS).map(user).collect();
        let organizations: Vec<_> = (0..ORGANIZATIONS).map(organization).collect();
        let history = History::of(&world.clerk.world().lock(), &users, &organizations, world.bounds().staleness);
        Self {
            clerk: world.clerk.world().clone(),
            sender: world.clerk.sender().clone(),
            http: world.http.clone(),
            nodes: world.nodes.iter().map(|node| node.url()).collect(),
            users,
            organizations: Mutex::new(organizations),
            latest: Mutex::default(),
            history: Mutex::new(history),
            is_over: AtomicBool::new(false),
        }
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, String)>> {
        self.latest.lock().expect("unpoisoned")
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().expect("unpoisoned")
    }

    /// Changes the world at random and has every message delivered; ends when all of them were taken.
    async fn change_the_world(self: &Arc<Self>, dice: &mut Dice) {
        let mut pace = interval(Duration::from_secs(1) / CHANGES_PER_SECOND as u32);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut post = JoinSet::new();
        for _ in 0..CHANGES {
            pace.tick().await;
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
    }

    fn change_something(&self, dice: &mut Dice) -> (Event, Vec<Message>) {
        loop {
            let mut organizations = self.organizations.lock().expect("unpoisoned");
            let mut world = self.clerk.lock();
            let mut change = Change { world: &mut world, history: &mut self.history(), began: Instant::now() };
            let (user, at) = (dice.pick(&self.users), dice.below(organizations.len()));
            let id = organizations[at].clone();
            let changed = match dice.below(1_000) {
                0..3 => change.delete_user(user),
                3..20 => {
                    let changed = change.replace(&id, dice);
                    organizations[at] = changed.2.clone();
                    Some((changed.0, changed.1))
                }
                20..130 => change.rename(&id, dice),
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
            let late_ms = if dice.chance(10) { dice.below(3_000) } else { dice.below(120) };
            sleep(Duration::from_millis(late_ms as u64)).await;
            let endpoint = format!("{}/webhooks/clerk", dice.pick(&self.nodes));
            while !self.sender.deliver_now(&message, &endpoint).await.is_taken() {}
            if let Some(event) = event {
                self.history().acknowledge(event);
            }
        }
    }

    /// Asks one node one thing after another until all is over.
    async fn read(self: Arc<Self>, node: usize, mut dice: Dice) -> anyhow::Result<Vec<Read>> {
        let mut pace = interval(Duration::from_secs(1) / READS_PER_SECOND as u32);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reads = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            let (user, about) = self.something(&mut dice);
            let is_demanded = dice.chance(5);
            reads.push(self.ask(node, user, about, is_demanded).await?);
        }
        Ok(reads)
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

    async fn ask(&self, node: usize, user: String, about: About, is_demanded: bool) -> anyhow::Result<Read> {
        let mut url = format!("{}/v1/users/{user}/orgs", self.nodes[node]);
        if let About::Id(name) | About::Slug(name) = &about {
            url = format!("{url}/{name}");
        }
        let request = self.http.get(url).bearer_auth(READ_KEY);
        let request = if is_demanded { request.header("cache-control", "no-cache") } else { request };
        let began = Instant::now();
        let answer = Answer::of(request.send().await?).await?;
        let ended = Instant::now();
        Ok(Read { node, user, about, is_demanded, began, ended, said: said(&answer) })
    }

    /// Every node, and every value left in Redis, says what the origin says.
    async fn expect_the_truth_everywhere(&self, redis: &mut RedisServer) -> anyhow::Result<()> {
        for user in &self.users {
            let truth = truth(&self.clerk.lock(), user);
            for node in 0..self.nodes.len() {
                let read = self.ask(node, user.clone(), About::List, false).await?;
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

    fn judge(&self, seed: u64, reads: &[Read], took: Duration) {
        let mut history = self.history();
        let wrong = history.judge(reads);
        assert!(wrong.is_empty(), "seed {seed}: {} of {} answers are wrong, first {}", wrong.len(), reads.len(), wrong[0]);
        let count = |is_meant: fn(&Said) -> bool| reads.iter().filter(|read| is_meant(&read.said)).count();
        let (yes, no) = (count(|said| matches!(said, Said::Rows(_))), count(|said| *said == Said::NotAMember));
        let nothing = count(|said| *said == Said::Nothing);
        let late = history.latest_yes(reads);
        println!(
            "{CHANGES} changes in {took:?}; {} reads: {yes} yes, {no} no, {nothing} nothing; latest yes {late:?}",
            reads.len()
        );
        assert!(yes > 500 && no > 200, "too few to mean anything");
        assert!(nothing * 100 < reads.len(), "nothing was away");
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

/// One change at the origin, noted as it happens.
struct Change<'a> {
    world: &'a mut ClerkWorld,
    history: &'a mut History,
    began: Instant,
}

impl Change<'_> {
    fn join_or_leave(&mut self, user: &str, organization: &str, dice: &mut Dice) -> Option<(Event, Vec<Message>)> {
        self.world.user(user, AsOf::Now)?;
        let role = *dice.pick(&ROLES);
        let done: Done = match self.world.membership(user, organization).map(|row| row.role.clone()) {
            None => {
                let done = self.world.grant(user, organization, role).expect("no member yet");
                let event = self.history.happened(self.began);
                let at = self.world.membership(user, organization).expect("a member now").updated_at;
                self.history.granted(event, user, organization, &done.id, role, at);
                return Some((event, done.messages));
            }
            Some(current) if current != role && dice.chance(45) => {
                let done = self.world.change_role(user, organization, role).expect("a member");
                let event = self.history.happened(self.began);
                let at = self.world.membership(user, organization).expect("still a member").updated_at;
                self.history.role_changed(event, &done.id, role, at);
                return Some((event, done.messages));
            }
            Some(_) => self.world.revoke(user, organization).expect("a member"),
        };
        let event = self.history.happened(self.began);
        self.history.ended(event, &done.id);
        Some((event, done.messages))
    }

    fn rename(&mut self, organization: &str, dice: &mut Dice) -> Option<(Event, Vec<Message>)> {
        let name = format!("Name {}", dice.below(1_000));
        // Some slugs have been somebody else's.
        let slug = format!("slug-{}", dice.below(30));
        let slug = Some(slug).filter(|slug| dice.chance(50) && self.world.organization(slug, AsOf::Now).is_none());
        let done = self.world.rename(organization, Some(&name), slug.as_deref()).expect("a living organization");
        let event = self.history.happened(self.began);
        self.history.called(event, self.world, organization);
        Some((event, done.messages))
    }

    /// Deletes an organization and makes another one, which may take over its slug; answers its id too.
    fn replace(&mut self, organization: &str, dice: &mut Dice) -> (Event, Vec<Message>, String) {
        let slug = self.world.organization(organization, AsOf::Now).and_then(|row| row.slug.clone());
        let done = self.world.delete_organization(organization).expect("a living organization");
        let event = self.history.happened(self.began);
        self.history.organization_ended(event, organization);
        let slug = slug.filter(|_| dice.chance(70));
        let new = NewOrganization { id: None, name: "Successor".to_owned(), slug, created_by: None };
        let made = self.world.create_organization(new).expect("a free slug");
        let born = self.history.happened(self.began);
        self.history.called(born, self.world, &made.id);
        self.history.acknowledge(born);
        (event, done.messages, made.id)
    }

    fn delete_user(&mut self, user: &str) -> Option<(Event, Vec<Message>)> {
        self.world.user(user, AsOf::Now)?;
        let done = self.world.delete_user(user).expect("a living user");
        let event = self.history.happened(self.began);
        self.history.user_ended(event, user);
        Some((event, done.messages))
    }
}
