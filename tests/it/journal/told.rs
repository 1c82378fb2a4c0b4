//! What an operator is told of the journal: the values of its metrics, and its part of readiness.

use std::time::Duration;

use serde_json::json;

use super::expect_unavailable;
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::wait::{until, until_within};
use crate::world::webhooks::{event, now};

/// Metrics that count or sum up since the start.
const COUNTS: [&str; 7] = [
    "rollcall_duplicate_deliveries_total",
    "rollcall_delivery_seconds_count",
    "rollcall_event_age_seconds_count",
    "rollcall_event_age_seconds_sum",
    "rollcall_apply_seconds_count",
    "rollcall_journal_commit_seconds_count",
    "rollcall_journal_commit_writes_sum",
];
const STATES: [&str; 4] = ["applied", "ignored", "buried", "pending"];
const AN_HOUR: f64 = 3_600.0;

impl World {
    /// A number among the metrics of the first node, which must be there.
    async fn told(&self, sample: &str) -> f64 {
        self.metric(sample).await.expect("the node answers").unwrap_or_else(|| panic!("no {sample} among the metrics"))
    }

    async fn counts(&self) -> Vec<f64> {
        let mut counts = Vec::new();
        for name in COUNTS {
            counts.push(self.told(name).await);
        }
        counts
    }

    /// Waits until the metrics tell of so many rows in each state: applied, ignored, buried, pending.
    async fn until_rows(&self, expected: [f64; 4]) {
        // A count that took 200 ms, when the machine stood still, is not repeated for ten seconds.
        until_within(Duration::from_secs(40), &format!("the rows to be counted: {expected:?}"), async || {
            for (state, expected) in STATES.into_iter().zip(expected) {
                let sample = format!("rollcall_journal_rows{{state=\"{state}\"}}");
                if self.metric(&sample).await.ok()? != Some(expected) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_readiness_tell_how_the_journal_stands() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.until_rows([0.0; 4]).await;
        assert_eq!(world.told("rollcall_last_verified_message_timestamp_seconds").await, 0.0);
        assert_eq!(world.readiness().await?.json()["lastVerifiedMessageMs"], json!(null));
        let (before, began) = (world.counts().await, now());

        // Three are applied, the first of them delivered three times, and told of an hour late.
        let mut late = event("user.created", json!({ "id": "user_late" }));
        late["timestamp"] = json!((now() - 3_600) * 1_000);
        let late = world.webhook(late.to_string());
        for _ in 0..3 {
            assert_eq!(world.post(&late).await?.status, 204);
        }
        for user in ["user_one", "user_two"] {
            world.take(&event("user.created", json!({ "id": user }))).await?;
        }
        world.take(&event("role.updated", json!({ "id": "role_one" }))).await?;
        world.take(&event("organizationMembership.deleted", json!({ "id": 7 }))).await?;
        let last_verified_ms = world.readiness().await?.json()["lastVerifiedMessageMs"].as_i64().expect("a time");
        assert!((began * 1_000..=(now() + 1) * 1_000).contains(&last_verified_ms), "{last_verified_ms}");
        let last_verified = world.told("rollcall_last_verified_message_timestamp_seconds").await;
        assert_eq!(last_verified, (last_verified_ms / 1_000) as f64);

        let told: Vec<f64> = world.counts().await.iter().zip(before).map(|(now, before)| now - before).collect();
        let [duplicates, deliveries, aged, age_seconds, applied, commits, writes] = told[..] else { panic!("{told:?}") };
        // A repeated delivery of what is applied is not applied again.
        assert_eq!([duplicates, deliveries, aged, applied], [2.0, 7.0, 7.0, 4.0], "{told:?}");
        assert!((3.0 * AN_HOUR..3.0 * AN_HOUR + 100.0).contains(&age_seconds), "{told:?}");
        // Seven are recorded and four settled, one after the other.
        assert!(commits >= 11.0 && writes >= 11.0, "{told:?}");
        assert!(world.told("rollcall_journal_commit_seconds_sum").await > 0.0);
        assert!(world.told("rollcall_apply_seconds_sum").await > 0.0);
        world.until_rows([3.0, 1.0, 1.0, 0.0]).await;
        assert_eq!(world.told("rollcall_journal_oldest_open_seconds").await, 0.0);

        world.redis().pause();
        let open = world.webhook(event("user.created", json!({ "id": "user_open" })).to_string());
        expect_unavailable(&world.post(&open).await?, "shared-unavailable");
        world.until_rows([3.0, 1.0, 1.0, 1.0]).await;
        let opened_at_ms = world.row(&open).await.expect("a row").opened_at_ms;
        until("the age of what is open to grow", async || {
            let seconds = world.metric("rollcall_journal_oldest_open_seconds").await.ok()??;
            let now_ms = world.journal.now().await.ok()?.as_millis() as i64;
            assert!(seconds * 1_000.0 <= (now_ms - opened_at_ms) as f64, "{seconds}");
            (seconds > 1.0).then_some(())
        })
        .await;
        let journal = &world.readiness().await?.json()["journal"];
        assert_eq!((&journal["status"], &journal["open"], &journal["dead"]), (&json!("available"), &json!(1), &json!(1)));
        assert!(journal["oldestOpenMs"].as_u64() > Some(1_000), "{journal}");
        assert!(world.told("rollcall_apply_seconds_count").await >= 5.0, "a try that failed took its time too");

        world.redis().resume();
        world.until_rows([4.0, 1.0, 1.0, 0.0]).await;
        let journal = &world.readiness().await?.json()["journal"];
        assert_eq!((&journal["open"], &journal["dead"], &journal["oldestOpenMs"]), (&json!(0), &json!(1), &json!(null)));
        assert_eq!(world.told("rollcall_journal_oldest_open_seconds").await, 0.0);
        Ok(())
    })
    .await;
}

/// Whoever is not the sender is no sign of life.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_delivery_is_no_verified_message() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let webhook = world.webhook(event("user.created", json!({ "id": "user_one" })).to_string());
        assert_eq!(world.post(&webhook.over("{}")).await?.status, 401);
        assert_eq!(world.deliveries("signature-invalid").await?, 1);
        assert_eq!(world.told("rollcall_last_verified_message_timestamp_seconds").await, 0.0);
        assert_eq!(world.readiness().await?.json()["lastVerifiedMessageMs"], json!(null));
        Ok(())
    })
    .await;
}
