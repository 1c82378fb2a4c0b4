//! Changes in: a signed delivery becomes a change, and a change is applied everywhere. Upholds I1, I2, I3.
//!
//! Comes out: [`Intake`] (a delivery) and [`Applier`] (a change, also of an operator's eviction). Names no adapter.

mod apply;
mod intake;

pub use apply::{Applier, ApplyError};
pub use intake::{Intake, Place, TakeError};
