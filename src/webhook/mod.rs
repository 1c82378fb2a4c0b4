//! Ground floor: what Svix delivers. The webhook route and the replay verb come here.
//!
//! Two steps that cannot be taken in the other order: a delivery is verified over its raw bytes, and only what was verified
//! is parsed into what it makes true. No I/O, no clock: `now` is an argument. Upholds I1.

mod ids;
mod parse;
mod subject;
mod verify;
mod wire;

pub use parse::{Outcome, Parsed, parse, parse_body};
pub use verify::{DeliveryHeaders, SecretError, Secrets, VerifiedDelivery, VerifyError, headers};
