//! Takes a delivery: verify, parse, apply. Upholds I1, I2 and I12.
//!
//! A 2xx is given only for what is confirmed, and for what asks nothing of us. A message that cannot be read evicts whatever
//! it names: less than it asked for would leave a revoked member in.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use super::apply::{Applier, ApplyError};
use crate::clock;
use crate::domain::Change;
use crate::webhook::{self, DeliveryHeaders, Outcome, Secrets, VerifiedDelivery, VerifyError};

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
    /// It holds on this node only: the sender must try again.
    #[error("the change is not confirmed")]
    Unconfirmed(#[source] ApplyError),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

/// The way in for webhooks.
pub struct Intake {
    secrets: ArcSwap<Secrets>,
    applier: Arc<Applier>,
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
    seconds: Histogram,
    event_age_seconds: Histogram,
    last_verified_seconds: Gauge<u64, AtomicU64>,
}

impl Intake {
    /// Connects it.
    pub fn new(secrets: Secrets, applier: Arc<Applier>) -> Self {
        let buckets = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Self {
            secrets: ArcSwap::from_pointee(secrets),
            applier,
            places: Arc::new(Semaphore::new(DELIVERIES_MAX)),
            instance: Mutex::default(),
            complaints: clock::Pace::new(Duration::from_secs(1)),
            clock_complaints: clock::Pace::new(Duration::from_secs(1)),
            last_verified_ms: AtomicI64::new(0),
            deliveries: Family::default(),
            seconds: Histogram::new(buckets),
            event_age_seconds: Histogram::new([0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 36_000.0, 360_000.0]),
            last_verified_seconds: Gauge::default(),
        }
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

    /// Takes one delivery. Ok means that its change is confirmed, or that it asks nothing of us.
    pub async fn take(&self, headers: DeliveryHeaders, body: Bytes) -> Result<(), TakeError> {
        let began = clock::now();
        let verified = self.secrets.load().verify(headers, body, clock::wall());
        let delivery = verified.map_err(|error| TakeError::Refused(self.refuse(error)))?;
        self.last_verified_ms.store(clock::wall().as_millis() as i64, Ordering::Relaxed);
        self.last_verified_seconds.set(clock::wall().as_secs());
        let result = self.take_verified(&delivery).await;
        self.seconds.observe(clock::now().since(began).as_secs_f64());
        result
    }

    async fn take_verified(&self, delivery: &VerifiedDelivery) -> Result<(), TakeError> {
        let message = webhook::parse(delivery);
        let (id, event_type) = (delivery.id(), message.event_type.as_str());
        self.note_instance(message.instance_id.as_deref());
        if let Some(occurred_at_ms) = message.occurred_at_ms {
            let age_ms = clock::wall().as_millis() as i64 - occurred_at_ms;
            self.event_age_seconds.observe(age_ms.max(0) as f64 / 1000.0);
        }
        match &message.outcome {
            Outcome::Ignored => {
                self.count("ignored");
                info!(message.id = %id, event.r#type = event_type, "message ignored: it changes no answer");
                Ok(())
            }
            Outcome::Change(change) => {
                self.apply(delivery, change).await?;
                self.count("applied");
                info!(message.id = %id, event.r#type = event_type, change = change.kind(), "message applied");
                Ok(())
            }
            Outcome::Unparsable { evict, what } => {
                self.apply(delivery, evict).await?;
                self.count(if message.is_cut { "unparsable-cut" } else { "unparsable" });
                warn!(message.id = %id, event.r#type = event_type, what = %what, users = evict.users().len(),
                    "message could not be read: everything it names was evicted");
                Ok(())
            }
        }
    }

    async fn apply(&self, delivery: &VerifiedDelivery, change: &Change) -> Result<(), TakeError> {
        self.applier.apply(change).await.map_err(|error| {
            self.count("unconfirmed");
            warn!(message.id = %delivery.id(), change = change.kind(), error = %error.0, "change holds on this node and is not confirmed: the sender must try again");
            TakeError::Unconfirmed(error)
        })
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
        registry.register("rollcall_deliveries", "Webhook deliveries by outcome; signature-invalid rising means a wrong secret, unconfirmed that Redis is away, unparsable that Clerk changed a payload", self.deliveries.clone());
        registry.register_with_unit(
            "rollcall_delivery",
            "Time from a whole body to the answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_with_unit(
            "rollcall_event_age",
            "Age of events when taken; rising means that the sender is behind",
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
