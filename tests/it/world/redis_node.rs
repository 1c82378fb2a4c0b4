//! A node as far as Redis goes: the room's parts, and a sink that remembers what it was told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rollcall::clock;
use rollcall::domain::{Change, List, Membership, MembershipId, Moment, OrganizationId, UserId};
use rollcall::ports::{Break, ChangeStream, Fence, StreamSink};
use rollcall::protocol::freshness::{Bounds, Consistency};
use rollcall::redis::{Redis, RedisShared, RedisStream, Settings, StartError};
use tokio::runtime::Handle;

use super::wait::until_eq;

/// The bounds of a deployment as shipped.
pub const BOUNDS: Bounds = Bounds {
    staleness: Duration::from_secs(1),
    ttl: Duration::from_secs(300),
    grace: Duration::from_secs(600),
    local_age_max: Duration::from_secs(60),
};

/// One node's Redis room, with its tail running.
pub struct RedisNode {
    pub redis: Redis,
    pub shared: Arc<RedisShared>,
    pub stream: Arc<RedisStream>,
    pub fence: Fence,
    pub heard: Arc<Heard>,
}

/// What the sink was told.
#[derive(Default)]
pub struct Heard(Mutex<Vec<Told>>);

/// One call of the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Applied(Change, Moment),
    Unreadable,
    Broke(Break),
    Doubt(Moment),
    Missed(Moment),
}

/// Connects, and starts no tail.
pub async fn connect(url: &str) -> Result<Redis, StartError> {
    connect_waiting_for(url, 0).await
}

async fn connect_waiting_for(url: &str, replicas: u32) -> Result<Redis, StartError> {
    let (prefix, io) = ("user-orgs:".to_owned(), Handle::current());
    Redis::connect(Settings {
        url: url.to_owned().into(),
        replicas,
        consistency: Consistency::Bounded,
        prefix,
        bounds: BOUNDS,
        io,
    })
    .await
}

impl RedisNode {
    /// Connects, starts the tail, and waits for nothing.
    pub async fn start(url: &str) -> Self {
        Self::waiting_for(url, 0).await
    }

    /// The same, of a node whose writes wait for replicas.
    pub async fn waiting_for(url: &str, replicas: u32) -> Self {
        Self::on(connect_waiting_for(url, replicas).await.expect("a Redis to rest on"), "a-journal")
    }

    /// The same, beside nodes that have this journal.
    pub async fn with_journal(url: &str, journal: &str) -> Self {
        Self::on(connect(url).await.expect("a Redis to rest on"), journal)
    }

    fn on(redis: Redis, journal: &str) -> Self {
        let heard = Arc::new(Heard::default());
        redis.spawn_tail(heard.clone(), journal);
        Self { shared: redis.shared(), stream: redis.stream(), fence: redis.fence(), heard, redis }
    }

    /// The same, and waits until the stream was read to its end.
    pub async fn started(url: &str) -> Self {
        let node = Self::start(url).await;
        node.caught_up().await;
        node
    }

    /// Waits until everything appended before now is applied.
    pub async fn caught_up(&self) {
        let now = clock::now();
        until_eq("the fence to pass now", true, || self.fence_at() >= now).await;
    }

    /// Where the fence is.
    pub fn fence_at(&self) -> Moment {
        self.fence.load(clock::now())
    }

    /// Appends, which must be confirmed.
    pub async fn append(&self, change: &Change) {
        self.stream.append(change).await.expect("confirmed");
    }

    /// Waits until this break was told.
    pub async fn broke(&self, cause: Break) {
        until_eq("a break", true, || self.heard.breaks().contains(&cause)).await;
    }
}

impl Heard {
    /// Everything told, in order.
    pub fn all(&self) -> Vec<Told> {
        self.0.lock().expect("unpoisoned").clone()
    }

    /// The users of the changes applied, in order.
    pub fn users(&self) -> Vec<String> {
        let users = |told| match told {
            Told::Applied(change, _) => change.users().iter().map(|user| user.to_string()).collect(),
            Told::Unreadable | Told::Broke(_) | Told::Doubt(_) | Told::Missed(_) => Vec::new(),
        };
        self.all().into_iter().flat_map(users).collect()
    }

    /// When the changes applied passed.
    pub fn moments(&self) -> Vec<Moment> {
        self.all().into_iter().filter_map(|told| if let Told::Applied(_, at) = told { Some(at) } else { None }).collect()
    }

    /// The breaks.
    pub fn breaks(&self) -> Vec<Break> {
        self.all().into_iter().filter_map(|told| if let Told::Broke(cause) = told { Some(cause) } else { None }).collect()
    }

    /// Before what readings are doubted now.
    pub fn doubt(&self) -> Option<Moment> {
        self.all().into_iter().rev().find_map(|told| if let Told::Doubt(since) = told { Some(since) } else { None })
    }

    /// Before what changes may be unknown for good.
    pub fn missed(&self) -> Vec<Moment> {
        self.all().into_iter().filter_map(|told| if let Told::Missed(at) = told { Some(at) } else { None }).collect()
    }

    fn push(&self, told: Told) {
        self.0.lock().expect("unpoisoned").push(told);
    }
}

impl StreamSink for Heard {
    fn apply(&self, change: &Change, at: Moment) {
        self.push(Told::Applied(change.clone(), at));
    }

    fn apply_unreadable(&self) {
        self.push(Told::Unreadable);
    }

    fn broke(&self, cause: Break) {
        self.push(Told::Broke(cause));
    }

    fn doubt_before(&self, since: Moment) {
        self.push(Told::Doubt(since));
    }

    fn missed_before(&self, at: Moment) {
        self.push(Told::Missed(at));
    }
}

/// A user by number.
pub fn user(n: usize) -> UserId {
    UserId::parse(&format!("user_{n}")).expect("an id")
}

/// A change of a user.
pub fn change(n: usize) -> Change {
    Change::UserCreated { user: user(n) }
}

/// A list with one membership, told apart by its role.
pub fn list(role: &str) -> List {
    List::new(&[Membership {
        organization_id: OrganizationId::parse("org_acme").expect("an id"),
        organization_slug: Some("acme".to_owned()),
        organization_name: "Acme".to_owned(),
        role: role.to_owned(),
        image_url: None,
        membership_id: MembershipId::parse("orgmem_1").expect("an id"),
        created_at: 1,
        updated_at: 2,
        organization_updated_at: 3,
    }])
}
