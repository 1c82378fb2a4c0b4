//! Takes a delivery: verify, parse, record, apply, settle. Upholds I1, I2 and I12.
//!
//! A 2xx is given only for what is recorded and confirmed, and for what asks nothing of us. What is recorded and not
//! confirmed is the worker's from then on; what is not recorded is applied all the same, because "yes" must end, and the
//! sender must try again. A message that cannot be read evicts whatever it names: less than it asked for would leave a
//! revoked member in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use super::apply::{Applier, ApplyError};
use super::payload::{self, Keep, Todo};
use crate::clock;
use crate::domain::MessageId;
use crate::ports::{AppliedBy, Deferred, Journal, JournalError, Message, Recorded, Settled, SharedError};
use crate::protocol::retry::retry_in;
use crate::webhook::{self, DeliveryHeaders, Secrets, VerifiedDelivery, VerifyError};

/// Deliveries taken at once.
const DELIVERIES_MAX: usize = 256;

/// The right to take one delivery; given back when dropped.
pub struct Place(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Why a delivery was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It is not the sender's, or not now.
    #[error("the delivery is refused")]
    Refused(#[source] VerifyError),
    /// It is recorded and holds on this node only: the worker goes on, and the sender may try again.
    #[error("the change is not confirmed")]
    Unconfirmed(#[source] ApplyError),
    /// It is not recorded; its change was applied as far as possible. The sender must try again.
    #[error("the message is not recorded")]
    Unrecorded(#[source] JournalError),
}

/// The proof that a message is recorded and its change confirmed, or that it asks nothing of us: what a 2xx is built from.
#[derive(Debug)]
pub struct Acknowledged(());

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

/// The way in for webhooks.
pub struct Intake {
    secrets: ArcSwap<Secrets>,
    journal: Arc<dyn Journal>,
    applier: Arc<Applier>,
    keep: Keep,
    /// Told when a message is left to the worker.
    left: Arc<Notify>,
    places: Arc<Semaphore>,
    /// The Clerk instance that the last message named. Guards itself only.
    instance: Mutex<Option<String>>,
    /// Keeps strangers from filling the log.
    complaints: clock::Pace,
    /// Of its own: only the sender's own deliveries get that far, and no stranger may hide what they tell.
    clock_complaints: clock::Pace,
    /// Milliseconds since the Unix epoch; 0: none yet.
    last_verified_ms: AtomicI64,
    deliveries: Family<Labels, Counter>,
    duplicates: Counter,
    seconds: Histogram,
    event_age_seconds: Histogram,
    last_verified_seconds: Gauge<u64, AtomicU64>,
}

impl Intake {
    /// Connects it. `left` is told when a message is left to the worker.
    pub fn new(secrets: Secrets, journal: Arc<dyn Journal>, applier: Arc<Applier>, keep: Keep, left: Arc<Notify>) -> Self {
        let buckets = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Self {
            secrets: ArcSwap::from_pointee(secrets),
            journal,
            applier,
            keep,
            left,
            places: Arc::new(Semaphore::new(DELIVERIES_MAX)),
            instance: Mutex::default(),
            complaints: clock::Pace::new(Duration::from_secs(1)),
            clock_complaints: clock::Pace::new(Duration::from_secs(1)),
            last_verified_ms: AtomicI64::new(0),
            deliveries: Family::default(),
            duplicates: Counter::default(),
            seconds: Histogram::new(buckets),
            event_age_seconds: Histogram::new([0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 36_000.0, 360_000.0]),
            last_verified_seconds: Gauge::default(),
        }
    }

    /// From now on these secrets sign.
    pub fn exchange_secrets(&self, secrets: Secrets) {
        self.secrets.store(Arc::new(secrets));
    }

    /// When the last message came, before this process started: whoever waits for silence must not begin anew with each start.
    pub async fn remember_last_seen(&self) {
        match self.journal.last_seen_ms().await {
            Ok(Some(ms)) => self.note_verified(ms),
            Ok(None) => {}
            Err(error) => warn!(%error, "when the last message came is not known"),
        }
    }

    fn note_verified(&self, ms: i64) {
        let latest = self.last_verified_ms.fetch_max(ms, Ordering::Relaxed).max(ms);
        self.last_verified_seconds.set(latest.unsigned_abs() / 1_000);
    }

    /// A place among the deliveries under way, if there is one.
    pub fn admit(&self) -> Option<Place> {
        let place = self.places.clone().try_acquire_owned().ok().map(Place);
        if place.is_none() {
            self.count("overloaded");
        }
        place
    }

    /// Counts a delivery that is refused, and says so: at most once a second, because anybody can send one.
    pub fn refuse(&self, error: VerifyError) -> VerifyError {
        let pace = match &error {
            VerifyError::TooOld { .. } => &self.clock_complaints,
            VerifyError::SignatureInvalid | VerifyError::Malformed { .. } => &self.complaints,
        };
        if pace.is_due(clock::now()) {
            match &error {
                // The signature is right, so it is the sender's: our clock is off, or somebody repeats old deliveries.
                VerifyError::TooOld { by, is_ahead } => {
                    warn!(
                        off_by_seconds = by.as_secs(),
                        is_ahead, "delivery refused: its timestamp is far from this machine's clock"
                    );
                }
                VerifyError::SignatureInvalid => warn!("delivery refused: no configured secret signed it"),
                VerifyError::Malformed { which } => warn!(header = which, "delivery refused: a signature header is malformed"),
            }
        }
        self.count(match error {
            VerifyError::Malformed { .. } => "malformed",
            VerifyError::SignatureInvalid => "signature-invalid",
            VerifyError::TooOld { .. } => "too-old",
        });
        error
    }

    /// Takes one delivery.
    pub async fn take(&self, headers: DeliveryHeaders, body: Bytes) -> Result<Acknowledged, TakeError> {
        let began = clock::now();
        let verified = self.secrets.load().verify(headers, body, clock::wall());
        let delivery = verified.map_err(|error| TakeError::Refused(self.refuse(error)))?;
        self.note_verified(clock::wall().as_millis() as i64);
        let result = self.take_verified(&delivery).await;
        self.seconds.observe(clock::now().since(began).as_secs_f64());
        result
    }

    async fn take_verified(&self, delivery: &VerifiedDelivery) -> Result<Acknowledged, TakeError> {
        let parsed = webhook::parse(delivery);
        let is_cut = parsed.is_cut;
        let (message, todo) = payload::message(delivery, parsed, self.keep);
        self.note_instance(message.instance_id.as_deref());
        let recorded = match self.journal.record(&message).await {
            Ok(recorded) => recorded,
            Err(error) => return Err(self.apply_unrecorded(&message, todo, error).await),
        };
        let (Recorded::Open { is_repeated } | Recorded::Settled { is_repeated }) = recorded;
        if is_repeated {
            self.duplicates.inc();
        }
        let (id, event_type) = (&message.id, message.event_type.as_str());
        match (recorded, todo) {
            (Recorded::Open { .. }, Some(todo)) => {
                self.apply(id, &todo).await?;
                self.count(match (&todo.unreadable, is_cut) {
                    (None, _) => "applied",
                    (Some(_), false) => "unparsable",
                    (Some(_), true) => "unparsable-cut",
                });
                match &todo.unreadable {
                    None => {
                        info!(message.id = %id, event.r#type = event_type, change = todo.change.kind(), "message applied");
                    }
                    Some(what) => {
                        warn!(message.id = %id, event.r#type = event_type, what = %what, users = todo.change.users().len(),
                            "message could not be read: everybody it names was evicted, and it is buried");
                    }
                }
            }
            (Recorded::Open { .. }, None) => {
                // A later release saw a change in it, which nobody here can confirm.
                self.count("unconfirmed");
                let what = "a change that this release cannot read".to_owned();
                warn!(message.id = %id, event.r#type = event_type, "message is open, and this release sees no change in it");
                return Err(TakeError::Unconfirmed(ApplyError(SharedError::Unavailable { what })));
            }
            (Recorded::Settled { .. }, None) => {
                self.count("ignored");
                info!(message.id = %id, event.r#type = event_type, "message ignored: it changes no answer");
            }
            (Recorded::Settled { .. }, Some(_)) => {
                self.count("settled-before");
                info!(message.id = %id, event.r#type = event_type, "message was applied a short while ago");
            }
        }
        if let Some(occurred_at_ms) = message.occurred_at_ms {
            let age_ms = clock::wall().as_millis() as i64 - occurred_at_ms;
            self.event_age_seconds.observe(age_ms.max(0) as f64 / 1000.0);
        }
        Ok(Acknowledged(()))
    }

    /// Applies what is recorded, and settles it. Whether the outcome is written down does not matter to the sender: what is
    /// still open is applied once more.
    async fn apply(&self, id: &MessageId, todo: &Todo) -> Result<(), TakeError> {
        if let Err(error) = self.try_apply(todo).await {
            self.count("unconfirmed");
            warn!(message.id = %id, change = todo.change.kind(), error = %error.0,
                "change holds on this node and is not confirmed: the worker goes on");
            self.leave_to_worker(id, &error).await;
            return Err(TakeError::Unconfirmed(error));
        }
        let settled = [Settled { id: id.clone(), buried_because: todo.unreadable.clone() }];
        if let Err(error) = self.journal.settle(&settled, AppliedBy::Inline).await {
            warn!(message.id = %id, error = %error, "outcome not written: the message will be applied once more");
        }
        Ok(())
    }

    async fn try_apply(&self, todo: &Todo) -> Result<(), ApplyError> {
        if self.applier.is_down() {
            // The worker probes; a try here would only keep a place for seconds.
            self.applier.apply_here(&todo.change);
            return Err(ApplyError(SharedError::Unavailable { what: "Redis is known to be away".to_owned() }));
        }
        self.applier.apply(&todo.change).await
    }

    async fn leave_to_worker(&self, id: &MessageId, error: &ApplyError) {
        let deferred = [Deferred { id: id.clone(), retry_in: retry_in(1, 0) }];
        if let Err(error) = self.journal.defer(&deferred, &error.0.to_string()).await {
            // It becomes due by itself when the lease of this try ends.
            warn!(message.id = %id, error = %error, "message not handed to the worker");
        }
        self.left.notify_one();
    }

    async fn apply_unrecorded(&self, message: &Message, todo: Option<Todo>, error: JournalError) -> TakeError {
        let is_applied = match &todo {
            Some(todo) => self.try_apply(todo).await.is_ok(),
            None => false,
        };
        self.count("unrecorded");
        warn!(message.id = %message.id, error = %error, is_applied, "message not recorded: the sender must try again");
        TakeError::Unrecorded(error)
    }

    /// A message of another Clerk instance than before is taken (the secret says whose it is) and warned about.
    fn note_instance(&self, instance: Option<&str>) {
        let Some(instance) = instance else { return };
        let mut known = self.instance.lock().expect("nothing panics while it is held");
        if known.as_deref() == Some(instance) {
            return;
        }
        if let Some(before) = known.replace(instance.to_owned()) {
            warn!(instance.id = instance, instance.before = before, "messages come from another Clerk instance than before");
        }
    }

    /// When the last delivery with a right signature came, if one did. Milliseconds since the Unix epoch.
    pub fn last_verified_ms(&self) -> Option<i64> {
        Some(self.last_verified_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// Registers everything that is counted here.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("rollcall_deliveries", "Webhook deliveries by outcome; signature-invalid rising means a wrong secret, unconfirmed that Redis is away, unrecorded that the journal is, unparsable that Clerk changed a payload", self.deliveries.clone());
        registry.register(
            "rollcall_duplicate_deliveries",
            "Deliveries of messages that were recorded before; rising means that answers get lost on the way to the sender",
            self.duplicates.clone(),
        );
        registry.register_with_unit(
            "rollcall_apply",
            "Time from a change to its confirmation; rising means that Redis is slow",
            Unit::Seconds,
            self.applier.seconds.clone(),
        );
        registry.register_with_unit(
            "rollcall_delivery",
            "Time from a whole body to the answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_with_unit(
            "rollcall_event_age",
            "Age of events when acknowledged; rising means that the sender is behind",
            Unit::Seconds,
            self.event_age_seconds.clone(),
        );
        registry.register(
            "rollcall_last_verified_message_timestamp_seconds",
            "When the last verified message came; standing still means that no webhooks arrive",
            self.last_verified_seconds.clone(),
        );
    }

    fn count(&self, outcome: &'static str) {
        self.deliveries.get_or_create(&Labels { outcome }).inc();
    }
}
