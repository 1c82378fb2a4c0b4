//! Ground floor: every decision that must be right. Values in, values out; `now` is an argument.
//!
//! No I/O, no async, no clock, so that the properties and the running service share one text. Everything else in the crate
//! cites an invariant by its tag and never restates it.
//!
//! # Invariants
//!
//! | id | name | statement |
//! |---|---|---|
//! | I1 | verified-first | No byte of a body is interpreted before its signature was checked over the raw body. |
//! | I2 | acknowledged-is-applied | 2xx only when the message is durably recorded and its change is confirmed in the stream, and the values it touches are gone. |
//! | I3 | once | Applying a message any number of times leaves what applying it once leaves. |
//! | I4 | order-free | Any order and duplication of a set of messages ends with answers equal to the origin's. |
//! | I5 | late-fill | A reading that began before a change of its user never lands after it, in any tier of any node, and is answered after it only as I6 allows. |
//! | I6 | bounded-lag | Every answer carries `valid_at = max(as_of, fence)` and is served only if `now − valid_at ≤ staleness bound`, whatever tier or flight it comes from; otherwise the next tier is asked. `fence` is the value loaded before the entry was found or the facts applied. A reading begun after the request arrived is always good enough. Only a caller's explicit consent lifts this, and the answer says so. |
//! | I7 | bounded-age | No as-of is older than the TTL; with a fresh fence, and only while the origin cannot be asked, up to TTL + grace. |
//! | I8 | unknown-is-not-no | What could not be found out is never served, stored or logged as an absence. |
//! | I9 | complete | A list is cached and served only when every page was gathered and the count matches. |
//! | I10 | no-without-checking | "Not a member", "user unknown" and an empty list rest on an origin read begun at most 1 s before the request. The same "no" repeated backs off 1, 2, 4 … 30 s, an empty list up to the TTL; any change of the user resets it. |
//! | I11 | one-flight | At most one joinable flight per user and process; no way of ending leaves a follower waiting; a flight that a change overtook lands nowhere and is not joinable; who waits on a flight begun too early gets the next one. |
//! | I12 | bounded | Every map, queue, body, wait and retry has a limit, and reaching it is counted. |
//! | I13 | whole-key | An entry is only ever found under the whole user id, of one Clerk instance; ids are parsed at the edge. |
//!
//! # Glossary
//!
//! **origin**: Clerk. **local tier**: the map in this process. **shared tier**: the values in Redis. **message**: what Svix
//! sends, one id through all retries. **delivery**: one HTTP attempt. **change**: what a message makes true, an entry of the
//! **change stream**. **fact**: a change still remembered (30 min) because it may outrank a reading. **reading**: an origin
//! answer with its **as-of**, the moment the first request for it was sent. **fill**: to land a reading in the tiers.
//! **lease**: the right to fill, void once a change passes. **flight**: one origin read of a user, with a leader and
//! followers. **journal**: the durable record of messages and of what became of each. **fence**: the latest moment up to which this node is known to have applied the stream. **lag**: now − fence.

pub mod continuity;
pub mod denial;
pub mod difference;
pub mod facts;
pub mod freshness;
pub mod lease;
pub mod retry;
pub mod rules;
