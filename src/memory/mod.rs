//! The change stream of a single process: what is appended is applied at once, in order, so the fence is always now.
//!
//! The roof puts it where the Redis room stands with several nodes. It remembers nothing, and nothing of it outlives the process.
//! Upholds I2 (Ok means applied) and I6.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::clock;
use crate::domain::Change;
use crate::ports::{ChangeStream, Fence, SharedError, StreamSink, StreamStanding};

/// The change stream in this process.
#[derive(Default)]
pub struct MemoryStream {
    sink: OnceLock<Arc<dyn StreamSink>>,
    /// Keeps entries in order: the sink hears one at a time. Never held over an await.
    order: Mutex<()>,
}

impl MemoryStream {
    /// A stream that feeds nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names who is fed. The first one stays.
    pub fn feed(&self, sink: Arc<dyn StreamSink>) {
        // A second sink would miss what was appended before it came.
        let _ = self.sink.set(sink);
    }

    /// The fence of a single process.
    pub fn fence(&self) -> Fence {
        Fence::always()
    }

    fn append(&self, change: &Change) -> Result<(), SharedError> {
        let sink = self.sink.get().ok_or_else(|| SharedError::Unavailable { what: "nobody is fed yet".to_owned() })?;
        let _in_order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        sink.apply(change, clock::now());
        Ok(())
    }
}

impl ChangeStream for MemoryStream {
    fn append<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<(), SharedError>> {
        // Applied when polled, like everywhere: a future that is dropped before has appended nothing.
        async move { self.append(change) }.boxed()
    }

    fn standing(&self) -> StreamStanding {
        StreamStanding { is_continuous: true, breaks: 0, has_stranger: false, replicas: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Moment, UserId};
    use crate::ports::Break;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(Change, Moment)>>);

    impl StreamSink for Heard {
        fn apply(&self, change: &Change, at: Moment) {
            self.0.lock().expect("no test panics inside").push((change.clone(), at));
        }
        fn apply_unreadable(&self) {}
        fn broke(&self, _: Break) {}
        fn doubt_before(&self, _: Moment) {}
        fn missed_before(&self, _: Moment) {}
    }

    fn change(n: usize) -> Change {
        Change::UserCreated { user: UserId::parse(&format!("user_{n}")).expect("id") }
    }

    #[tokio::test]
    async fn what_is_appended_is_applied_at_once_and_in_order() {
        let (stream, heard) = (MemoryStream::new(), Arc::new(Heard::default()));
        stream.feed(heard.clone());
        let before = clock::now();
        for n in 0..10 {
            ChangeStream::append(&stream, &change(n)).await.expect("applied");
            assert_eq!(heard.0.lock().expect("unpoisoned").len(), n + 1);
        }
        let heard = heard.0.lock().expect("unpoisoned");
        assert!(heard.iter().enumerate().all(|(n, (heard, at))| *heard == change(n) && *at >= before));
        assert!(heard.is_sorted_by_key(|(_, at)| *at));
        assert_eq!(stream.fence().load(Moment::from_micros(7)), Moment::from_micros(7));
    }

    #[tokio::test]
    async fn i2_nothing_is_confirmed_while_nobody_is_fed() {
        assert!(ChangeStream::append(&MemoryStream::new(), &change(1)).await.is_err());
    }
}
