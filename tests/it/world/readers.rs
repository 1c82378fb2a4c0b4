//! Those who ask: one thing after another of one node, lists, single memberships, roles, and many questions in one request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use rollcall::dev::{AsOf, World as ClerkWorld};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::answer::Answer;
use super::changes::ROLES;
use super::dice::Dice;
use super::history::{About, Read, Said, Stamp};
use super::service::READ_KEY;
use super::street::Street;

/// At most so many reads a second of each reader, unless asked for another pace.
const READS_PER_SECOND: u32 = 40;
/// The lag that a demanding caller bears.
const LITTLE_LAG: Duration = Duration::from_millis(200);
/// Questions in one request, at most.
const BATCH_MAX: usize = 6;

/// What a caller asks for beside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Anything,
    NewReading,
    LittleLag,
}

/// What is asked, and how.
#[derive(Debug, Clone)]
pub struct Question {
    user: String,
    about: About,
    role: Option<String>,
    wants: Wants,
}

impl Question {
    /// A list, wanted as it is.
    pub fn list(user: &str) -> Self {
        Self { user: user.to_owned(), about: About::List, role: None, wants: Wants::Anything }
    }

    /// What is asked for at this path under these headers, if it is anything that a history can judge.
    pub fn at(path: &str, headers: &[(&str, &str)]) -> Option<Self> {
        let wants = match headers {
            [] => Wants::Anything,
            [("cache-control", "no-cache")] => Wants::NewReading,
            _ => return None,
        };
        // One role, at most.
        let path = Some(path).filter(|path| !path.contains('&'))?;
        let (user, rest) = path.strip_prefix("/v1/users/")?.split_once("/orgs")?;
        let (name, role) = rest.split_once("?role=").map_or((rest, None), |(name, role)| (name, Some(role.to_owned())));
        let about = match name.strip_prefix('/') {
            None => About::List,
            Some(id) if id.starts_with("org_") => About::Id(id.to_owned()),
            Some(slug) => About::Slug(slug.to_owned()),
        };
        Some(Self { user: user.to_owned(), about, role, wants })
    }

    /// What node `node` was asked then and has just answered.
    pub fn answered(self, node: usize, began: Instant, answer: &Answer) -> Read {
        read(node, self, (began, Instant::now()), (said(answer), stamp(answer)))
    }

    /// Something about this user and this organization.
    pub fn about(user: String, organization: String, world: &ClerkWorld, dice: &mut Dice) -> Self {
        let slug = || world.organization(&organization, AsOf::Now).and_then(|row| row.slug.clone());
        let about = match dice.below(10) {
            0..3 => About::List,
            3..8 => About::Id(organization),
            _ => slug().map_or(About::Id(organization), About::Slug),
        };
        let role = (about != About::List && dice.chance(25)).then(|| (*dice.pick(&ROLES)).to_owned());
        let wants = match dice.below(100) {
            0..5 => Wants::NewReading,
            5..20 => Wants::LittleLag,
            _ => Wants::Anything,
        };
        Self { user, about, role, wants }
    }

    fn name(&self) -> Option<&str> {
        match &self.about {
            About::List => None,
            About::Id(name) | About::Slug(name) => Some(name),
        }
    }

    fn path(&self) -> String {
        let role = self.role.as_ref().map(|role| format!("?role={role}")).unwrap_or_default();
        let name = self.name().map(|name| format!("/{name}")).unwrap_or_default();
        format!("/v1/users/{}/orgs{name}{role}", self.user)
    }

    /// As an item of a batch, which asks no lists.
    fn item(&self) -> Option<Value> {
        let name = self.name()?;
        Some(json!({ "userId": self.user, "org": name, "role": self.role }))
    }
}

/// Who asks the nodes, by number.
pub struct Caller {
    pub http: reqwest::Client,
    pub nodes: Vec<String>,
}

impl Caller {
    /// Asks one thing.
    pub async fn ask(&self, node: usize, question: Question) -> Read {
        let request = self.http.get(format!("{}{}", self.nodes[node], question.path()));
        let (began, answer, ended) = send(request, question.wants).await;
        let (said, stamp) = answer.map_or((Said::Lost, None), |answer| (said(&answer), stamp(&answer)));
        read(node, question, (began, ended), (said, stamp))
    }

    /// Asks several things in one request, all wanted as the first one is.
    async fn ask_all(&self, node: usize, mut questions: Vec<Question>) -> Vec<Read> {
        questions.retain(|question| question.name().is_some());
        let Some(wants) = questions.first().map(|first| first.wants) else { return Vec::new() };
        let items: Vec<_> = questions.iter().filter_map(Question::item).collect();
        let request = self.http.post(format!("{}/v1/checks", self.nodes[node])).json(&json!({ "checks": items }));
        let (began, answer, ended) = send(request, wants).await;
        // A 503 is one for every item.
        let nothing = || if answer.is_some() { Said::Nothing } else { Said::Lost };
        let mut results = answer.as_ref().map_or_else(Vec::new, results).into_iter();
        let of = |question| {
            let said = results.next().unwrap_or_else(|| (nothing(), None));
            read(node, Question { wants, ..question }, (began, ended), said)
        };
        questions.into_iter().map(of).collect()
    }
}

async fn send(request: RequestBuilder, wants: Wants) -> (Instant, Option<Answer>, Instant) {
    let request = request.bearer_auth(READ_KEY);
    let request = match wants {
        Wants::Anything => request,
        Wants::NewReading => request.header("cache-control", "no-cache"),
        Wants::LittleLag => request.header("rollcall-max-lag", LITTLE_LAG.as_millis().to_string()),
    };
    let began = Instant::now();
    let answer = async { Answer::of(request.send().await?).await }.await.ok();
    (began, answer, Instant::now())
}

fn read(node: usize, question: Question, (began, ended): (Instant, Instant), (said, stamp): (Said, Option<Stamp>)) -> Read {
    let Question { user, about, role, wants } = question;
    let (is_demanded, lag_max) = (wants == Wants::NewReading, (wants == Wants::LittleLag).then_some(LITTLE_LAG));
    Read { node, user, about, role, is_demanded, lag_max, began, ended, said, stamp }
}

fn said(answer: &Answer) -> Said {
    match (answer.status, answer.header("rollcall-decision")) {
        (200, "list") => Said::Rows(serde_json::from_slice(&answer.body).expect("a list")),
        (200, "member") => Said::Rows(vec![serde_json::from_slice(&answer.body).expect("a membership")]),
        (404, "not-a-member") => Said::NotAMember,
        (403, "role-missing") => Said::RoleMissing,
        (404, "user-unknown") => Said::UserUnknown,
        (503, "") => Said::Nothing,
        _ => panic!("an answer that should not be: {answer:?}"),
    }
}

/// What a decision says of its age and lag.
fn stamp(answer: &Answer) -> Option<Stamp> {
    let is_decision = !answer.header("rollcall-decision").is_empty();
    is_decision.then(|| stamp_at(answer, answer.number("rollcall-age")))
}

fn stamp_at(answer: &Answer, age_ms: u64) -> Stamp {
    let ms = |name| Duration::from_millis(answer.number(name));
    Stamp {
        age: Duration::from_millis(age_ms),
        lag: ms("rollcall-lag"),
        oldest: ms("rollcall-age"),
        oldest_seconds: answer.number("age"),
        is_grace: answer.header("cache-status").ends_with("detail=grace"),
        is_one_of_many: false,
    }
}

/// What each item of a batch was told.
fn results(answer: &Answer) -> Vec<(Said, Option<Stamp>)> {
    if answer.status == 503 {
        return Vec::new();
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let result = |row: &Value| {
        let said = match (row["allowed"].as_bool(), row["reason"].as_str().unwrap_or_default()) {
            (Some(true), "member") => Said::Rows(vec![serde_json::from_value(row["membership"].clone()).expect("a membership")]),
            (Some(false), "not-a-member") => Said::NotAMember,
            (Some(false), "role-missing") => Said::RoleMissing,
            (Some(false), "user-unknown") => Said::UserUnknown,
            (None, "unavailable") => return (Said::Nothing, None),
            _ => panic!("a result that should not be: {row}"),
        };
        let stamp = stamp_at(answer, row["ageMs"].as_u64().expect("an age"));
        (said, Some(Stamp { is_one_of_many: true, ..stamp }))
    };
    answer.json()["results"].as_array().expect("results").iter().map(result).collect()
}

/// Readers at work.
pub struct Readers(Vec<JoinHandle<Vec<Read>>>);

impl Street {
    /// Sends readers off, as many to each node.
    pub fn gather(self: &Arc<Self>, per_node: usize, dice: &mut Dice) -> Readers {
        self.gather_at(Some(READS_PER_SECOND), per_node, dice)
    }

    /// The same, each of whom asks at most so often a second; or without a pause.
    pub fn gather_at(self: &Arc<Self>, per_second: Option<u32>, per_node: usize, dice: &mut Dice) -> Readers {
        let nodes = self.caller.nodes.len();
        let read = |n| tokio::spawn(self.clone().read(n % nodes, per_second, dice.fork()));
        Readers((0..nodes * per_node).map(read).collect())
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

    /// Asks one node one thing after another until all is over; now and then several at once.
    async fn read(self: Arc<Self>, node: usize, per_second: Option<u32>, mut dice: Dice) -> Vec<Read> {
        let mut pace = per_second.map(|per_second| interval(Duration::from_secs(1) / per_second));
        if let Some(pace) = &mut pace {
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut reads = Vec::new();
        while !self.is_over() {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            if dice.chance(10) {
                let questions = (0..1 + dice.below(BATCH_MAX)).map(|_| self.something(&mut dice)).collect();
                reads.extend(self.caller.ask_all(node, questions).await);
            } else {
                reads.push(self.caller.ask(node, self.something(&mut dice)).await);
            }
        }
        reads
    }
}
