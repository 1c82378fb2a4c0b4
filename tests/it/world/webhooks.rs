//! Webhooks as a test makes them by hand: any body, any headers, rightly signed or not; and what the service counts of them.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rollcall::clock;
use rollcall::dev::sign::{fresh_message_id, sign};
use rollcall::dev::{Faults, Message, Sender};
use serde_json::{Value, json};

use super::answer::Answer;
use super::service::{ADMIN_KEY, World};
use super::wait::until;

/// One delivery: its headers and its body, as they go over the wire.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// The headers' names in their order: id, timestamp, signature.
pub const SVIX: [&str; 3] = ["svix-id", "svix-timestamp", "svix-signature"];
pub const STANDARD: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

impl Webhook {
    /// Rightly signed with this secret, now.
    pub fn signed(secret: &str, body: impl Into<Bytes>) -> Self {
        Self::signed_as(secret, &fresh_message_id(), now(), body)
    }

    /// Rightly signed under an id and a time, in seconds.
    pub fn signed_as(secret: &str, id: &str, timestamp: i64, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let signature = sign(secret, id, timestamp, &body).expect("a secret and a text");
        let values = [id.to_owned(), timestamp.to_string(), signature];
        Self { headers: SVIX.map(str::to_owned).into_iter().zip(values).collect(), body }
    }

    /// The same, with this header set to this value instead.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, with one more header.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same without this header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| found != name);
        self
    }

    /// The same under the names of Standard Webhooks.
    pub fn in_standard_names(mut self) -> Self {
        for (name, _) in &mut self.headers {
            *name = name.replace("svix-", "webhook-");
        }
        self
    }

    /// The same headers over another body.
    pub fn over(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(found, _)| found == name).expect("a header").1
    }
}

impl World {
    /// A webhook with this body, rightly signed.
    pub fn webhook(&self, body: impl Into<Bytes>) -> Webhook {
        Webhook::signed(&self.clerk.sender().secret(), body)
    }

    /// Delivers it to the first node; whatever is answered.
    pub async fn post(&self, webhook: &Webhook) -> anyhow::Result<Answer> {
        self.post_to(0, webhook).await
    }

    /// Delivers it to node `number`; whatever is answered.
    pub async fn post_to(&self, number: usize, webhook: &Webhook) -> anyhow::Result<Answer> {
        let mut request = self.http.post(self.nodes[number].webhooks()).header("content-type", "application/json");
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        Answer::of(request.body(webhook.body.clone()).send().await?).await
    }

    /// Delivers a body of this event, which must be taken.
    pub async fn take(&self, event: &Value) -> anyhow::Result<()> {
        let answer = self.post(&self.webhook(event.to_string())).await?;
        assert_eq!(answer.status, 204, "{answer:?}");
        Ok(())
    }

    /// Reads of Clerk see the world of ten minutes ago, until further notice: nothing that a test changes.
    pub fn origin_lags(&self) {
        let lag = Duration::from_secs(600);
        self.clerk.faults().set(Faults { reads_lag_ms: lag.as_millis() as u64, ..Faults::default() });
        self.tell_of_origin_lag(Some(lag));
    }

    /// Reads of Clerk see the world as it is.
    pub fn origin_is_current(&self) {
        self.clerk.faults().clear();
        self.tell_of_origin_lag(None);
    }

    /// A sample of the first node's metrics, by its name and labels as written, if it is there.
    pub async fn metric(&self, sample: &str) -> anyhow::Result<Option<f64>> {
        let response = self.http.get(format!("{}/metrics", self.nodes[0].url())).bearer_auth(ADMIN_KEY).send().await?;
        let text = response.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        Ok(value.map(str::parse).transpose()?)
    }

    /// How many deliveries ended like this.
    pub async fn deliveries(&self, outcome: &str) -> anyhow::Result<u64> {
        let sample = format!("rollcall_deliveries_total{{outcome=\"{outcome}\"}}");
        Ok(self.metric(&sample).await?.unwrap_or_default() as u64)
    }
}

/// Seconds since the Unix epoch.
pub fn now() -> i64 {
    i64::try_from(clock::wall().as_secs()).expect("a time before the end of times")
}

/// An event in Clerk's envelope.
pub fn event(event_type: &str, data: Value) -> Value {
    json!({ "object": "event", "type": event_type, "timestamp": now() * 1_000, "instance_id": "ins_1", "data": data })
}

/// A message's body.
pub fn body(message: &Message) -> Value {
    serde_json::from_slice(&message.body).expect("a body is JSON")
}

/// A fixture's body.
pub fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webhooks").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(&path).expect("a fixture")).expect("a fixture is JSON")
}

/// Sends a message to an endpoint until it is taken; when that was. 503 is an answer too, where Redis or a database took too long.
pub async fn until_taken(sender: &Sender, message: &Message, endpoint: &str) -> Instant {
    until("the message to be taken", async || {
        let delivery = sender.deliver_now(message, endpoint).await;
        assert!([Some(204), Some(503)].contains(&delivery.status), "{delivery:?}");
        delivery.is_taken().then(Instant::now)
    })
    .await
}
