//! Which server this node holds to be the primary: one replication id at a time, for all its connections.
//!
//! Every connection and every answer of the tail says what it met. Another id, or another role, begins a new epoch, and
//! whatever was begun in an older one is no answer: a promoted replica keeps its run id, a deposed primary goes on answering.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info};

use crate::protocol::freshness::Consistency;

use super::start::ServerInfo;

/// The server all connections must agree on.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// Whoever answers is believed: there is a proxy before it, or replicas, and nothing is promised that would need to know.
    is_anybody: bool,
    /// Raised at every change; connections carry the one they were made in.
    epoch: AtomicU64,
    /// Guards the replication id; never held over an await.
    replid: Mutex<Option<Arc<str>>>,
}

impl Server {
    /// No server is met yet.
    pub(super) fn of(consistency: Consistency) -> Self {
        Self { is_anybody: consistency == Consistency::Eventual, ..Self::default() }
    }

    /// Which promise its answers must keep.
    pub(super) fn consistency(&self) -> Consistency {
        if self.is_anybody { Consistency::Eventual } else { Consistency::Bounded }
    }

    /// The epoch now.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Notes what was met, and answers the epoch it belongs to; none when it is no primary.
    pub(super) fn observe(&self, replid: &str, is_primary: bool) -> Option<u64> {
        if self.is_anybody {
            return Some(self.epoch());
        }
        let mut known = self.replid.lock().unwrap_or_else(PoisonError::into_inner);
        if is_primary && known.as_deref() == Some(replid) {
            return Some(self.epoch());
        }
        *known = is_primary.then(|| Arc::from(replid));
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        is_primary.then_some(epoch)
    }

    /// Whoever was the primary is none any more: every connection to it is an old one.
    pub(super) fn depose(&self) {
        *self.replid.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The same for a new connection, with a word for the log when the server is another one than before.
    pub(super) fn meet(&self, server: &ServerInfo) -> Option<u64> {
        let before = self.epoch();
        let epoch = self.observe(&server.replid, server.is_primary);
        if epoch.is_some_and(|epoch| epoch != before) {
            info!(server = server.name, "a Redis primary is met");
            if let Err(error) = server.check(self.consistency()) {
                error!(%error, "this Redis cannot carry the protocol");
            }
        }
        epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_anybody_is_believed_no_epoch_ends() {
        let server = Server::of(Consistency::Eventual);
        assert_eq!(server.observe("a", true), Some(0));
        assert_eq!(server.observe("", false), Some(0));
    }

    #[test]
    fn another_id_and_another_role_begin_a_new_epoch() {
        let server = Server::default();
        let first = server.observe("a", true).expect("a primary");
        assert_eq!(server.observe("a", true), Some(first));
        let second = server.observe("b", true).expect("a primary");
        assert!(second > first);
        assert_eq!(server.observe("b", false), None);
        assert!(server.epoch() > second);
        assert!(server.observe("b", true).expect("a primary again") > second);
    }
}
