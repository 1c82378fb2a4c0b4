//! The sender of webhooks, as Svix sends Clerk's: signed, to one endpoint of several, again and again until it is taken.
//!
//! Used by the world API, by `rollcall dev` and by tests, which can also lose, double, swap and forge. Neither bodies nor
//! signatures are logged. Upholds I12: open messages, attempts, redirects (none) and waits are bounded.

mod forge;
mod habits;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

pub use forge::Tamper;
pub(super) use habits::is_due;
pub use habits::{Habits, Plan};

use super::world::Message;

/// Svix's delays between attempts, each counted from the failure before it.
pub const RETRY_DELAYS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(300),
    Duration::from_secs(1_800),
    Duration::from_secs(7_200),
    Duration::from_secs(18_000),
    Duration::from_secs(36_000),
    Duration::from_secs(36_000),
];
/// Svix waits this long for an answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Messages waiting for their next attempt.
const OPEN_MAX: usize = 10_000;
/// Attempts under way at a time.
const ATTEMPTS_MAX: usize = 64;
/// Endpoints, the nodes behind one Clerk endpoint.
const ENDPOINTS_MAX: usize = 64;

/// Sends webhooks. A clone is the same sender.
#[derive(Debug, Clone)]
pub struct Sender(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    io: Handle,
    retry_factor: f64,
    /// Signing secrets, the current one first; and where to.
    settings: RwLock<Settings>,
    next_endpoint: AtomicUsize,
    habits: Mutex<Habits>,
    held_back: Mutex<Option<Message>>,
    open: Arc<Semaphore>,
    attempts: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
    refused: AtomicUsize,
}

#[derive(Debug, Default, Clone)]
struct Settings {
    secrets: Vec<String>,
    endpoints: Vec<String>,
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The message's id.
    pub message: String,
    /// Its event type.
    #[serde(rename = "type")]
    pub event_type: &'static str,
    /// Where to.
    pub endpoint: String,
    /// What was answered, if anything was.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    #[serde(rename = "durationMs", serialize_with = "as_millis")]
    pub duration: Duration,
    /// Why nothing was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Delivery {
    /// Whether the receiver took it: 2xx and nothing else.
    pub fn is_taken(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Sender {
    /// A sender with one secret. `retry_factor` scales Svix's delays: 0.001 makes 5 s into 5 ms. Needs a runtime, which
    /// then owns the connections.
    pub fn new(secret: String, endpoints: Vec<String>, retry_factor: f64) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ATTEMPT_TIMEOUT)
            // Less than an endpoint keeps an idle connection: what is sent while it is closed is lost.
            .pool_idle_timeout(Duration::from_secs(3))
            .user_agent("Svix-Webhooks/1.0 (rollcall stand-in)")
            .build()?;
        let sender = Self(Arc::new(Inner {
            client,
            io: Handle::try_current()?,
            retry_factor: if retry_factor.is_finite() { retry_factor.clamp(0.0, 1.0) } else { 1.0 },
            settings: RwLock::new(Settings { secrets: vec![secret], endpoints: Vec::new() }),
            next_endpoint: AtomicUsize::new(0),
            habits: Mutex::default(),
            held_back: Mutex::default(),
            open: Arc::new(Semaphore::new(OPEN_MAX)),
            attempts: Arc::new(Semaphore::new(ATTEMPTS_MAX)),
            tasks: Mutex::default(),
            refused: AtomicUsize::new(0),
        }));
        sender.set_endpoints(endpoints);
        Ok(sender)
    }

    /// Where to send: whole URLs, taken in turn. At most 64.
    pub fn set_endpoints(&self, mut endpoints: Vec<String>) {
        endpoints.truncate(ENDPOINTS_MAX);
        self.0.settings.write().unwrap_or_else(PoisonError::into_inner).endpoints = endpoints;
    }

    /// The endpoints.
    pub fn endpoints(&self) -> Vec<String> {
        self.settings().endpoints
    }

    /// The secrets that sign, during a rotation several: each makes its own entry in the signature header.
    pub fn set_secrets(&self, mut secrets: Vec<String>) {
        secrets.truncate(10);
        self.0.settings.write().unwrap_or_else(PoisonError::into_inner).secrets = secrets;
    }

    /// The current secret.
    pub fn secret(&self) -> String {
        self.settings().secrets.into_iter().next().unwrap_or_default()
    }

    /// Sets what happens to messages on their way.
    pub fn set_habits(&self, habits: Habits) {
        *self.0.habits.lock().unwrap_or_else(PoisonError::into_inner) = habits;
    }

    /// Messages that were not queued because too many wait already.
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// One attempt, to this endpoint, whatever the habits.
    pub async fn deliver_now(&self, message: &Message, endpoint: &str) -> Delivery {
        self.deliver_forged(message, endpoint, &Tamper::None).await
    }

    /// One attempt with something forged.
    pub async fn deliver_forged(&self, message: &Message, endpoint: &str, tamper: &Tamper) -> Delivery {
        let began = Instant::now();
        let result = self.attempt(message, endpoint, tamper).await;
        let (status, error) = match result {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error)),
        };
        let (duration, endpoint) = (began.elapsed(), endpoint.to_owned());
        Delivery { message: message.id.clone(), event_type: message.event_type, endpoint, status, duration, error }
    }

    /// One attempt at the endpoint whose turn it is.
    pub async fn deliver_next(&self, message: &Message) -> Delivery {
        match self.next_endpoint() {
            Some(endpoint) => self.deliver_now(message, &endpoint).await,
            None => Delivery {
                message: message.id.clone(),
                event_type: message.event_type,
                endpoint: String::new(),
                status: None,
                duration: Duration::ZERO,
                error: Some("no endpoint is set".to_owned()),
            },
        }
    }

    /// Attempts on Svix's schedule (scaled), the next endpoint each time, until one is taken; all attempts are answered.
    pub async fn deliver_until_taken(&self, message: &Message) -> Vec<Delivery> {
        let mut deliveries = vec![self.deliver_next(message).await];
        for delay in RETRY_DELAYS {
            if deliveries.last().is_some_and(Delivery::is_taken) {
                break;
            }
            tokio::time::sleep(delay.mul_f64(self.0.retry_factor)).await;
            deliveries.push(self.deliver_next(message).await);
        }
        deliveries
    }

    /// Sends a batch as the habits have it: each message once now, those not taken again on the schedule, in the background.
    pub async fn send(&self, messages: Vec<Message>) -> (Vec<Delivery>, Plan) {
        let (plan, delay) = self.plan(messages);
        tokio::time::sleep(delay).await;
        let mut deliveries = Vec::with_capacity(plan.now.len());
        for message in &plan.now {
            let delivery = self.deliver_next(message).await;
            if !delivery.is_taken() && !self.endpoints().is_empty() {
                self.queue(message.clone(), Duration::ZERO, 1);
            }
            deliveries.push(delivery);
        }
        (deliveries, plan)
    }

    /// Sends a batch in the background as the habits have it, first attempts included. False: too many wait, it is refused.
    pub fn enqueue(&self, messages: Vec<Message>) -> bool {
        let (plan, delay) = self.plan(messages);
        let refused = plan.now.into_iter().filter(|message| !self.queue(message.clone(), delay, 0)).count();
        refused == 0
    }

    /// Waits until nothing is queued, at most `limit`; whether it came to that.
    pub async fn idle(&self, limit: Duration) -> bool {
        let all = u32::try_from(OPEN_MAX).expect("ten thousand fits");
        tokio::time::timeout(limit, self.0.open.acquire_many(all)).await.is_ok()
    }

    /// Drops what is queued.
    pub fn stop(&self) {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Queues one message whose first `done` attempts are over.
    fn queue(&self, message: Message, delay: Duration, done: usize) -> bool {
        let Ok(permit) = self.0.open.clone().try_acquire_owned() else {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let sender = self.clone();
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(async move { sender.retry(message, delay, done, permit).await }, &self.0.io);
        true
    }

    async fn retry(&self, message: Message, delay: Duration, done: usize, _open: OwnedSemaphorePermit) {
        tokio::time::sleep(delay).await;
        let first = (done == 0).then_some(Duration::ZERO);
        for delay in first.into_iter().chain(RETRY_DELAYS) {
            tokio::time::sleep(delay.mul_f64(self.0.retry_factor)).await;
            let delivery = self.deliver_next(&message).await;
            if delivery.is_taken() {
                return;
            }
            tracing::debug!(message.id = %message.id, status = delivery.status, "a webhook was not taken");
        }
        tracing::warn!(message.id = %message.id, "a webhook was never taken");
    }

    fn plan(&self, messages: Vec<Message>) -> (Plan, Duration) {
        let mut habits = self.0.habits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held_back = self.0.held_back.lock().unwrap_or_else(PoisonError::into_inner);
        (habits.plan(messages, &mut held_back), Duration::from_millis(habits.delay_ms.min(60_000)))
    }

    fn next_endpoint(&self) -> Option<String> {
        let endpoints = self.endpoints();
        let turn = self.0.next_endpoint.fetch_add(1, Ordering::Relaxed);
        endpoints.get(turn.checked_rem(endpoints.len())?).cloned()
    }

    fn settings(&self) -> Settings {
        self.0.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn attempt(&self, message: &Message, endpoint: &str, tamper: &Tamper) -> Result<u16, String> {
        let _slot = self.0.attempts.acquire().await.map_err(|error| error.to_string())?;
        let headers = forge::headers(message, &self.settings().secrets, tamper).map_err(|error| error.to_string())?;
        let body = match tamper {
            Tamper::Body => [message.body.as_ref(), b" "].concat().into(),
            _ => message.body.clone(),
        };
        let request = self.0.client.post(endpoint).headers(headers).body(body);
        // `without_url`: an endpoint may carry a credential.
        let response = request.send().await.map_err(|error| error.without_url().to_string())?;
        Ok(response.status().as_u16())
    }
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
