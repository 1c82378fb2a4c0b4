//! The Clerk stand-in: a small world with misbehaviour as data, on an HTTP port of its own, and the sender of its webhooks.
//!
//! `rollcall dev` and the integration tests start it. The service reaches it and is reached by it only over HTTP, with real
//! keys and real signatures; nothing here is used while serving. It never touches a cache, a store or a configuration.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use rollcall::dev::{Options, StandIn, World};
//! let clerk = StandIn::start(Options { world: World::small(), ..Options::default() }).await?;
//! let left = clerk.world().lock().revoke("user_ada", "harbour-works")?;
//! for message in &left.messages {
//!     clerk.sender().deliver_now(message, "http://127.0.0.1:8787/webhooks/clerk").await;
//! }
//! clerk.stop().await;
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod fixtures;
mod sender;
pub mod sign;
mod stand_in;
mod world;

pub use sender::{Delivery, Habits, Plan, Sender, Tamper};
pub use stand_in::{Act, Calls, CallsSeen, Faults, FaultsHandle, Held, NewToken, Options, Rule, StandIn};
pub use world::{
    AsOf, Done, EPOCH_MS, INSTANCE_ID, Membership, Message, NewOrganization, NewUser, Organization, Page, Session, SessionEnd,
    User, World, WorldError, WorldHandle,
};
