//! Changes in: a signed delivery becomes a change, and a change is applied everywhere. Upholds I1, I2, I3.
//!
//! Comes out: [`Intake`] (a delivery), [`Applier`] (a change, also of an operator's eviction) and [`Sweep`] (changes that
//! nobody told). Names no adapter.

mod apply;
mod intake;
mod sweep;

pub use apply::{Applier, ApplyError};
pub use intake::{Intake, Place, TakeError};
pub use sweep::{Step, Sweep, SweepPace};
