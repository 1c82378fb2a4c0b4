//! Ground floor: a Clerk session token, from text to claims.
//!
//! Three steps that cannot be taken in another order: the text is taken apart ([`Jws::parse`]), its signature is checked with
//! a key of the instance ([`Jws::verify`]), and only what was signed is read and judged ([`Policy::admit`]). No I/O, no clock:
//! keys and `now` are arguments. [`KeyRing`] decides when keys are to be asked for, and asks nobody.

mod claims;
mod error;
mod json;
mod jws;
mod key_ring;
mod keys;
mod permissions;
mod policy;
#[cfg(test)]
pub(crate) mod tests;

pub use claims::{ActiveOrganization, Actor, Claims, PassedOn, Spelled};
pub use error::TokenError;
pub use jws::{Jws, Signed, TOKEN_BYTES_MAX};
pub use key_ring::{FETCH_TIME_MAX, KeyRing, Next};
pub use keys::{Key, KeyError, KeySet};
pub use policy::{LIFE_MAX, Policy, SKEW};
