//! Readers who ask every node, and count what is wrong from when on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::path;
use crate::world::service::{Node, READ_KEY, World};
use crate::world::wait::until;

/// Not yet.
const NEVER: usize = usize::MAX;

/// Asks nodes for users over and over.
pub(super) struct Watch {
    shared: Arc<Shared>,
    bound: Duration,
    readers: Vec<JoinHandle<Seen>>,
}

/// What the readers and who watches tell each other, in milliseconds after the beginning.
struct Shared {
    is_over: AtomicBool,
    began: Instant,
    users: Vec<Watched>,
    /// When each node was last asked for all of them, one after the other, and answered: when the first was asked for.
    asked: Vec<AtomicUsize>,
}

struct Watched {
    path: String,
    /// Who asks later must not be told "yes".
    wrong_after: AtomicUsize,
}

/// Of so many answers, so many could not be given; so many were asked for when a "yes" was wrong, and so many were one. The
/// latest "yes" was asked for so long after the acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub answers: usize,
    pub failures: usize,
    pub judged: usize,
    pub wrong: usize,
    pub latest_yes: Option<Duration>,
}

impl Watch {
    /// Begins to ask every node.
    pub(super) fn begin(world: &World, users: &[String], bound: Duration) -> Self {
        Self::begin_at(&world.nodes, world.http.clone(), users, bound)
    }

    /// Begins to ask these nodes, which have a bound of their own.
    pub(super) fn begin_at(nodes: &[Node], http: reqwest::Client, users: &[String], bound: Duration) -> Self {
        let watched = |user: &String| Watched { path: path(user), wrong_after: AtomicUsize::new(NEVER) };
        let shared = Arc::new(Shared {
            is_over: AtomicBool::new(false),
            began: Instant::now(),
            users: users.iter().map(watched).collect(),
            asked: nodes.iter().map(|_| AtomicUsize::new(0)).collect(),
        });
        let read = |(number, node): (usize, &Node)| tokio::spawn(read(shared.clone(), http.clone(), bound, number, node.url()));
        let readers = nodes.iter().enumerate().map(read).collect();
        Self { shared, bound, readers }
    }

    /// That this user, by its place, is no member more was acknowledged now: a bound later nobody may say "yes".
    pub(super) fn acknowledged(&self, user: usize) {
        self.shared.users[user].wrong_after.store(self.shared.now() + self.bound.as_millis() as usize, Ordering::SeqCst);
    }

    /// Nothing is wrong any more.
    pub(super) fn forgive(&self) {
        self.shared.users.iter().for_each(|user| user.wrong_after.store(NEVER, Ordering::SeqCst));
    }

    /// Waits until every node was asked for everybody half a bound later than anybody may say "yes".
    pub(super) async fn until_judged(&self) {
        let after = self.shared.users.iter().map(|user| user.wrong_after.load(Ordering::SeqCst)).max().expect("users");
        assert_ne!(after, NEVER, "everybody was acknowledged");
        let enough = after + self.bound.as_millis() as usize / 2;
        let is_asked = |node: &AtomicUsize| node.load(Ordering::SeqCst) > enough;
        let all = async || self.shared.asked.iter().all(is_asked).then_some(());
        until("everybody to be asked for after the bound", all).await;
    }

    /// What was seen.
    pub(super) async fn end(self) -> Seen {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for seen in join_all(self.readers).await {
            let seen = seen.expect("no panic");
            all.answers += seen.answers;
            all.failures += seen.failures;
            all.judged += seen.judged;
            all.wrong += seen.wrong;
            all.latest_yes = all.latest_yes.max(seen.latest_yes);
        }
        assert!(all.judged > 0, "nothing was judged: {all:?}");
        all
    }
}

impl Shared {
    fn now(&self) -> usize {
        self.began.elapsed().as_millis() as usize
    }
}

async fn read(shared: Arc<Shared>, http: reqwest::Client, bound: Duration, node: usize, url: String) -> Seen {
    let mut seen = Seen::default();
    while !shared.is_over.load(Ordering::SeqCst) {
        let round = shared.now();
        for user in &shared.users {
            let asked = shared.now();
            let request = http.get(format!("{url}{}", user.path)).bearer_auth(READ_KEY);
            let status = request.send().await.expect("an answer").status().as_u16();
            // Looked at only now: who is forgiven may have joined again since it was asked.
            let wrong_after = user.wrong_after.load(Ordering::SeqCst);
            let is_judged = asked > wrong_after;
            let acknowledged = wrong_after.saturating_sub(bound.as_millis() as usize);
            if let (200, Some(after)) = (status, asked.checked_sub(acknowledged)) {
                seen.latest_yes = seen.latest_yes.max(Some(Duration::from_millis(after as u64)));
            }
            seen.answers += 1;
            seen.failures += usize::from(status >= 500);
            seen.judged += usize::from(is_judged);
            seen.wrong += usize::from(is_judged && status == 200);
        }
        shared.asked[node].store(round, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    seen
}
