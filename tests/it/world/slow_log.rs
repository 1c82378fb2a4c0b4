//! A log that takes its time: a node that complains of an entry of the change stream stands still until it may go on. So somebody
//! can be asked while the node is in the midst of an answer.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tracing::subscriber::set_global_default;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::wait::until;

/// The log of this process.
pub struct SlowLog(());

static IS_HOLDING: AtomicBool = AtomicBool::new(false);
static IS_HOLDING_ONE: AtomicBool = AtomicBool::new(false);

impl SlowLog {
    /// Takes its time from now on.
    pub fn hold() -> Self {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            let all = tracing_subscriber::registry().with(LevelFilter::WARN).with(Complaints);
            set_global_default(all).expect("no test has another log");
        });
        IS_HOLDING.store(true, Ordering::Release);
        Self(())
    }

    /// Waits until a node stands still.
    pub async fn until_holding_one(&self) {
        until("a complaint", async || IS_HOLDING_ONE.load(Ordering::Acquire).then_some(())).await;
    }
}

/// Nodes may go on.
impl Drop for SlowLog {
    fn drop(&mut self) {
        IS_HOLDING.store(false, Ordering::Release);
    }
}

struct Complaints;

impl<S: Subscriber> Layer<S> for Complaints {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().fields().field("entry").is_some() {
            tokio::task::block_in_place(|| {
                while IS_HOLDING.load(Ordering::Acquire) {
                    IS_HOLDING_ONE.store(true, Ordering::Release);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            IS_HOLDING_ONE.store(false, Ordering::Release);
        }
    }
}
