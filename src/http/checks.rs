//! `POST /v1/checks`: many decisions in one request. First everything that needs Redis or the origin is fetched, then all
//! items are decided in one pass without an await, so that the batch is of one moment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde_json::Value;

use super::auth::Scope;
use super::body;
use super::call::Call;
use super::description::{Checks, Freshness, Results, refusals};
use super::freshness;
use super::headers::{Ages, Decision, plain};
use super::names::JSON;
use super::problem::{Code, Problem};
use super::reads::decide;
use crate::cache::{Answer, Ask, Content, Question, Source};
use crate::clock;
use crate::domain::{Moment, OrganizationRef, Role, UserId};
use crate::protocol::freshness::{Verdict, Wants};

/// Items in a batch.
const CHECKS_MAX: usize = 1000;
/// Bytes of a batch.
const BYTES_MAX: usize = 1 << 20;
/// The whole batch, once its body is there, is answered within this.
const TIME_MAX: Duration = Duration::from_secs(2);
/// What of that is kept for deciding and writing.
const TIME_TO_DECIDE: Duration = Duration::from_millis(100);
/// Origin reads that a batch may start.
const ORIGIN_READS_MAX: usize = 50;
/// What a change took away while the batch was fetched is fetched once more.
const ROUNDS_MAX: usize = 2;

/// One question of a batch.
struct Check {
    user: UserId,
    organization: OrganizationRef,
    roles: Vec<Role>,
}

refusals!(Refusals: CallerUnknown, ParameterInvalid, BodyMalformed, BodyTimeout, BodyTooLarge, MediaTypeUnsupported);

/// `POST /v1/checks`
#[utoipa::path(
    post,
    path = "/v1/checks",
    operation_id = "checkMany",
    tag = "reads",
    summary = "Many checks in one request, of one moment",
    description = "Answered within 2 s. Freshness is asked of each; `Age` is that of the oldest.",
    params(Freshness),
    request_body(content = Checks, description = "At most 1 MiB."),
    security(("serviceKey" = ["read"])),
    responses((status = 200, description = "One result per check, in order.", body = Results), Refusals)
)]
pub async fn checks(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let call = Call::begin(&request);
    call.end(answer_checks(&call, payload).await)
}

async fn answer_checks(call: &Call<'_>, payload: web::Payload) -> Result<HttpResponse, Problem> {
    call.authorize(Scope::Read)?;
    let wants = freshness::wants(call.request.headers())?;
    demand_json(call.request)?;
    let received = body::read(call.request, payload, BYTES_MAX).await;
    call.stopwatch.lap("body");
    let checks = parse(&received?)?;

    let batch =
        Batch { call, wants: &wants, ends: clock::now() + TIME_MAX, allowance: Arc::new(AtomicUsize::new(ORIGIN_READS_MAX)) };
    let mut known = HashMap::new();
    for _ in 0..ROUNDS_MAX {
        if !batch.fetch(&checks, &mut known).await {
            break;
        }
    }
    let now = clock::now();
    let answers: Vec<_> = checks.iter().map(|check| batch.answer(check, &known, now)).collect();
    Ok(respond(call, &checks, &answers, now))
}

/// What was fetched, by question: the same question twice is read once. None: it could not be found out.
type Known = HashMap<(UserId, OrganizationRef), Option<Answer>>;

/// What holds for all items.
struct Batch<'a> {
    call: &'a Call<'a>,
    wants: &'a Wants,
    ends: Moment,
    allowance: Arc<AtomicUsize>,
}

impl Batch<'_> {
    /// Asks for everything that this process cannot answer by itself. False when there was nothing to ask for, or no time.
    async fn fetch(&self, checks: &[Check], known: &mut Known) -> bool {
        let (cache, now) = (&self.call.state.cache, clock::now());
        if self.ends.since(now) < TIME_TO_DECIDE {
            return false;
        }
        let mut asked = HashSet::new();
        let missing = checks.iter().filter(|check| self.is_missing(check, known, now) && asked.insert(check.key()));
        let reads: Vec<_> = missing
            .map(|check| {
                let ask = Ask {
                    user: check.user.clone(),
                    question: check.question(),
                    wants: *self.wants,
                    arrived: self.call.arrived,
                    // Each read ends by itself, with what may still be said, before the batch does.
                    deadline: self.ends - TIME_TO_DECIDE,
                    allowance: Some(self.allowance.clone()),
                    waits: self.call.stopwatch.waits(),
                };
                let reader = cache.clone();
                let read = cache.io().spawn(async move { reader.read(ask).await });
                async move { (check.key(), read.await.ok().and_then(Result::ok)) }
            })
            .collect();
        if reads.is_empty() {
            return false;
        }
        known.extend(join_all(reads).await);
        true
    }

    /// Whether an item is to be asked for: nothing answers it, and it was not asked for in vain.
    fn is_missing(&self, check: &Check, known: &Known, now: Moment) -> bool {
        let (cache, question) = (&self.call.state.cache, check.question());
        let is_known = match known.get(&check.key()) {
            Some(Some(fetched)) => self.is_still_good(fetched, &question, now),
            Some(None) => true,
            None => false,
        };
        !is_known && !cache.has(&check.user, &question, self.wants, self.call.arrived, now)
    }

    /// The answer of this process at `now`, else the one fetched, if it may still be decided by. A change of any organization
    /// sets every entry one step back; without the catching up, items known all along would become unavailable by it.
    fn answer(&self, check: &Check, known: &Known, now: Moment) -> Option<Answer> {
        let (cache, question) = (&self.call.state.cache, check.question());
        let hit = || cache.hit(&check.user, &question, self.wants, self.call.arrived, now);
        let caught_up = || cache.catch_up(&check.user).then(hit).flatten();
        let fetched = || known.get(&check.key()).and_then(Option::as_ref);
        hit().or_else(caught_up).or_else(|| fetched().filter(|fetched| self.is_still_good(fetched, &question, now)).cloned())
    }

    /// The bound is one at the moment of decision (I6), also for what was labelled when it was fetched.
    fn is_still_good(&self, fetched: &Answer, question: &Question, now: Moment) -> bool {
        let bounds = self.call.state.cache.bounds();
        let is_no = fetched.content.denies(question).is_some();
        match fetched.source {
            Source::Grace => bounds.may_outlive(fetched.candidate, self.wants, is_no, now),
            _ => bounds.judge(fetched.candidate, self.wants, self.call.arrived, now) == Verdict::Good,
        }
    }
}

fn respond(call: &Call<'_>, checks: &[Check], answers: &[Option<Answer>], now: Moment) -> HttpResponse {
    let mut body = Vec::with_capacity(64 + checks.len() * 96);
    body.extend_from_slice(b"{\"results\":[");
    let mut oldest = Ages { age_ms: 0, lag_ms: call.state.cache.knows_its_lag().then_some(0) };
    for (index, (check, answer)) in checks.iter().zip(answers).enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let ages = answer.as_ref().map(|answer| Ages::of(answer, call, now));
        if let Some(ages) = ages {
            oldest = Ages { age_ms: oldest.age_ms.max(ages.age_ms), lag_ms: oldest.lag_ms.max(ages.lag_ms) };
        }
        write_result(&mut body, check, answer.as_ref(), ages);
    }
    body.extend_from_slice(b"]}");
    let mut response = plain(call, StatusCode::OK).insert_header((CONTENT_TYPE, JSON)).body(body);
    oldest.write(response.headers_mut());
    response
}

fn write_result(body: &mut Vec<u8>, check: &Check, answer: Option<&Answer>, ages: Option<Ages>) {
    let (Some(answer), Some(ages)) = (answer, ages) else {
        body.extend_from_slice(br#"{"allowed":null,"reason":"unavailable"}"#);
        return;
    };
    let decided = match &answer.content {
        Content::Unknown => Err(Decision::UserUnknown),
        Content::List(list) => decide(list, &check.organization, &check.roles).map(|row| list.membership(row)),
    };
    match decided {
        Ok(membership) => {
            body.extend_from_slice(br#"{"allowed":true,"reason":"member","membership":"#);
            body.extend_from_slice(&membership);
        }
        Err(decision) => {
            body.extend_from_slice(br#"{"allowed":false,"reason":""#);
            body.extend_from_slice(decision.as_str().as_bytes());
            body.push(b'"');
        }
    }
    body.extend_from_slice(br#","ageMs":"#);
    body.extend_from_slice(itoa::Buffer::new().format(ages.age_ms).as_bytes());
    body.push(b'}');
}

impl Check {
    fn question(&self) -> Question {
        Question::Member(self.organization.clone())
    }

    fn key(&self) -> (UserId, OrganizationRef) {
        (self.user.clone(), self.organization.clone())
    }
}

fn demand_json(request: &HttpRequest) -> Result<(), Problem> {
    let Some(given) = request.headers().get(CONTENT_TYPE) else { return Ok(()) };
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => {
            Err(Problem::new(Code::MediaTypeUnsupported, "the body is not declared as JSON")
                .at("Content-Type", "application/json"))
        }
    }
}

fn parse(body: &[u8]) -> Result<Vec<Check>, Problem> {
    let malformed =
        |field: &str, accepted: &str| Problem::new(Code::BodyMalformed, format!("{field} is malformed")).at(field, accepted);
    let body: Value = serde_json::from_slice(body).map_err(|_| malformed("body", "a JSON object {\"checks\":[…]}"))?;
    let items = body.get("checks").and_then(Value::as_array);
    let items =
        items.filter(|items| items.len() <= CHECKS_MAX).ok_or_else(|| malformed("checks", "an array of at most 1000 items"))?;
    let item = |(index, item): (usize, &Value)| {
        let at = |member: &str| format!("checks[{index}].{member}");
        if !item.is_object() {
            return Err(malformed(&format!("checks[{index}]"), "an object {userId, org, role?}"));
        }
        let text = |member: &str| item.get(member).and_then(Value::as_str).unwrap_or_default();
        Ok(Check {
            user: UserId::parse(text("userId")).map_err(|error| malformed(&at("userId"), error.accepted))?,
            organization: OrganizationRef::parse(text("org"))
                .map_err(|_| malformed(&at("org"), "an organization id (org_…) or a slug"))?,
            roles: roles(item.get("role")).ok_or_else(|| malformed(&at("role"), "a role, or a non-empty array of roles"))?,
        })
    };
    items.iter().enumerate().map(item).collect()
}

/// One role, several, or none given; an empty array is neither.
fn roles(given: Option<&Value>) -> Option<Vec<Role>> {
    let role = |value: &Value| Role::parse(value.as_str()?).ok();
    match given {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(roles)) if !roles.is_empty() => roles.iter().map(role).collect(),
        Some(one) => role(one).map(|role| vec![role]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(body: &str) -> Option<String> {
        let problem = parse(body.as_bytes()).err()?;
        let response = problem.respond(&actix_web::http::header::HeaderValue::from_static("r"));
        let body = actix_web::body::MessageBody::try_into_bytes(response.into_body()).ok()?;
        serde_json::from_slice::<Value>(&body).ok()?.get("field")?.as_str().map(str::to_owned)
    }

    #[test]
    fn a_malformed_item_is_named() {
        let check = |body: &str, expected: Option<&str>| assert_eq!(field(body).as_deref(), expected, "{body}");
        check(r#"{"checks":[]}"#, None);
        check(r#"{"checks":[{"userId":"u","org":"acme","role":["a","b"],"later":1}]}"#, None);
        check(r#"{"checks":[{"userId":"u","org":"acme","role":"a"}]}"#, None);
        check("[", Some("body"));
        check("{}", Some("checks"));
        check(r#"{"checks":[1]}"#, Some("checks[0]"));
        check(r#"{"checks":[{"userId":"u","org":"acme"},{"userId":"u/x","org":"acme"}]}"#, Some("checks[1].userId"));
        check(r#"{"checks":[{"userId":"u","org":"org_!"}]}"#, Some("checks[0].org"));
        check(r#"{"checks":[{"userId":"u"}]}"#, Some("checks[0].org"));
        for role in ["\"\"", "[]", "[\"\"]", "1", "[1]"] {
            check(&format!(r#"{{"checks":[{{"userId":"u","org":"a","role":{role}}}]}}"#), Some("checks[0].role"));
        }
        let many = vec![r#"{"userId":"u","org":"a"}"#; CHECKS_MAX + 1].join(",");
        check(&format!(r#"{{"checks":[{many}]}}"#), Some("checks"));
    }
}
