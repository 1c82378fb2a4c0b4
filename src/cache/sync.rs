//! The atomics, the locks and the map on which the order of events rests, by the names that `local`, `order` and `facts` use:
//! here, the real ones. `tests/simulation/schedules` builds the same files with others, which let any thread be stopped
//! before each of them, so that the order is tried out in the very text that runs.

pub use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
pub use std::sync::{Mutex, MutexGuard, RwLock};

pub use dashmap::DashMap;
pub use dashmap::mapref::entry::Entry as Slot;
pub use foldhash::fast::RandomState;
