//! Somebody who asks one node about memberships again and again, and remembers every "yes".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rollcall::domain::UserId;
use rollcall::journal::Filter;
use tokio::task::JoinHandle;

use crate::world::answer::Answer;
use crate::world::service::{ADMIN_KEY, READ_KEY, World};
use crate::world::wait::until;

pub const ADA: &str = "user_ada";
pub const WORKS: &str = "harbour-works";
/// What the nodes promise, as shipped.
pub const BOUND: Duration = Duration::from_secs(1);
/// Between two questions of one watcher: enough others want the processor.
const PAUSE: Duration = Duration::from_millis(2);

/// Ends when asked to.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    watching: JoinHandle<Vec<Yes>>,
}

/// An answer that says "yes".
#[derive(Debug, Clone)]
pub struct Yes {
    pub organization: String,
    /// When it was asked for.
    pub began: Instant,
    /// How old the reading was, where it came from the node's own memory.
    pub hit_age: Option<Duration>,
}

impl Watch {
    /// Begins to ask node `number` about Ada in these organizations, in turn.
    pub fn begin(world: &World, number: usize, organizations: &[&str]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (http, url, over) = (world.http.clone(), world.nodes[number].url(), is_over.clone());
        let organizations: Vec<_> = organizations.iter().map(|slug| (*slug).to_owned()).collect();
        let watching = tokio::spawn(async move {
            let mut yes = Vec::new();
            for organization in organizations.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                let request = http.get(format!("{url}/v1/users/{ADA}/orgs/{organization}")).bearer_auth(READ_KEY);
                // A node that is being stopped answers nobody.
                if let Ok(answer) = request.send().await {
                    assert!([200, 404, 503].contains(&answer.status().as_u16()), "{answer:?}");
                    let answer = Answer::of(answer).await.expect("a whole answer");
                    if answer.status == 200 {
                        let is_hit = answer.header("cache-status").ends_with("detail=local");
                        let hit_age = is_hit.then(|| Duration::from_millis(answer.number("rollcall-age")));
                        yes.push(Yes { organization: organization.clone(), began, hit_age });
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
            yes
        });
        Self { is_over, watching }
    }

    /// Stops asking; everything that was answered with "yes".
    pub async fn end(self) -> Vec<Yes> {
        self.is_over.store(true, Ordering::Relaxed);
        self.watching.await.expect("no panic")
    }
}

impl World {
    /// Asks a node for one membership of Ada.
    pub async fn ask_of_ada(&self, node: usize, organization: &str) -> anyhow::Result<Answer> {
        self.ask(node, &format!("/v1/users/{ADA}/orgs/{organization}")).await
    }

    /// How the node's first answers stand: Ada is known to it by heart.
    pub async fn learn_by_heart(&self, node: usize) {
        until("a hit", async || {
            let answer = self.ask_of_ada(node, WORKS).await.ok()?;
            answer.header("cache-status").ends_with("detail=local").then(|| answer.is_member())
        })
        .await;
    }

    /// The journal's rows of Ada: state, and who applied them.
    pub async fn rows_of_ada(&self) -> Vec<String> {
        let filter = Filter { user: Some(UserId::parse(ADA).expect("an id")), ..Default::default() };
        let rows = self.journal.list(&filter, 100).await.expect("the journal answers");
        rows.into_iter().map(|row| format!("{} {}", row.state, row.applied_by.unwrap_or_default())).collect()
    }

    /// What a node tells its operator of the stream.
    pub async fn told_of(&self, node: usize) -> anyhow::Result<serde_json::Value> {
        let url = format!("{}/readyz", self.nodes[node].url());
        let request = self.http.get(url).bearer_auth(ADMIN_KEY);
        Ok(Answer::of(request.send().await?).await?.json())
    }
}
