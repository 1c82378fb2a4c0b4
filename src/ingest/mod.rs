//! Changes in: a signed delivery becomes a message in the journal and a change, and a change is applied everywhere, now or by
//! the worker. Upholds I1, I2, I3.
//!
//! Comes out: [`Intake`] (a delivery), [`Applier`] (a change, also of an operator's eviction), and what runs in the background:
//! [`Worker`] (open messages), [`Repair`] (a lost history), [`Upkeep`] (counts, old messages), [`Sweep`]
//! (changes that nobody told). Names no adapter.

mod apply;
mod intake;
mod payload;
mod repair;
mod sweep;
mod upkeep;
mod worker;

pub use apply::{Applier, ApplyError};
pub use intake::{Acknowledged, Intake, Place, TakeError};
pub use payload::Keep;
pub use repair::Repair;
pub use sweep::{Sweep, SweepPace};
pub use upkeep::Upkeep;
pub use worker::Worker;
