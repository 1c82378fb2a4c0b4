//! Readers who ask every node, and count what is wrong from when on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::path;
use crate::world::service::{READ_KEY, World};

/// Asks every node for users over and over.
pub(super) struct Watch {
    is_over: Arc<AtomicBool>,
    /// From when on, in milliseconds after the beginning, a "yes" is wrong; 0: not yet.
    wrong_after_ms: Arc<AtomicUsize>,
    began: Instant,
    readers: Vec<JoinHandle<Seen>>,
}

/// Of so many answers, so many could not be given, and so many were wrong.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub answers: usize,
    pub failures: usize,
    pub wrong: usize,
}

impl Watch {
    /// Begins.
    pub(super) fn begin(world: &World, users: &[String]) -> Self {
        let (is_over, wrong_after_ms, began) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Instant::now());
        let mut readers = Vec::new();
        for node in &world.nodes {
            let (http, url, users) = (world.http.clone(), node.url(), users.to_vec());
            let (is_over, wrong_after_ms) = (is_over.clone(), wrong_after_ms.clone());
            readers.push(tokio::spawn(async move {
                let mut seen = Seen::default();
                while !is_over.load(Ordering::Relaxed) {
                    for user in &users {
                        let wrong_after = wrong_after_ms.load(Ordering::Relaxed);
                        let asked = began.elapsed().as_millis() as usize;
                        let request = http.get(format!("{url}{}", path(user))).bearer_auth(READ_KEY);
                        let status = request.send().await.expect("an answer").status().as_u16();
                        seen.answers += 1;
                        seen.failures += usize::from(status >= 500);
                        seen.wrong += usize::from(status == 200 && wrong_after > 0 && asked > wrong_after);
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                seen
            }));
        }
        Self { is_over, wrong_after_ms, began, readers }
    }

    /// What was revoked was acknowledged now: a bound later nobody may say "yes".
    pub(super) fn acknowledged(&self, bound: Duration) {
        self.wrong_after_ms.store((self.began.elapsed() + bound).as_millis() as usize, Ordering::Relaxed);
    }

    /// Nothing is wrong for now.
    pub(super) fn forgive(&self) {
        self.wrong_after_ms.store(0, Ordering::Relaxed);
    }

    /// What was seen.
    pub(super) async fn end(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for reader in self.readers {
            let seen = reader.await.expect("no panic");
            all.answers += seen.answers;
            all.failures += seen.failures;
            all.wrong += seen.wrong;
        }
        all
    }
}
