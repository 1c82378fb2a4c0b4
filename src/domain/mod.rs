//! Ground floor: the words of the trade as types. Ids, a membership, a change, a moment.
//!
//! Everybody may use this room; it uses nobody. No I/O, no async, no clock. An id that exists was parsed once, at the edge
//! (I13). The two documented shapes, a membership in JSON and a change in the stream, carry their serde derives and
//! schemas here, so that each is written down exactly once.

mod change;
mod ids;
mod list;
mod membership;
mod moment;
mod subject;

pub use change::Change;
pub use ids::{IdError, MembershipId, MessageId, OrganizationId, OrganizationRef, Role, SessionId, Slug, UserId};
pub use list::{Found, List, digest_of};
pub use membership::{Membership, MembershipsError, decode_memberships, encode_memberships};
pub use moment::Moment;
pub use subject::Subject;
