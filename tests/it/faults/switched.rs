//! What the judge says of nodes that keep fewer rules: for `switches`.

use std::time::Duration;

use super::plan::{Fault, Plan};
use super::run::{Outcome, run};
use crate::world::faulty_link::Trouble;

/// Three processes with these settings, one of which does not hear from Redis for a while.
pub async fn with_a_link_that_stalls(lasts: Duration, settings: &[(&str, &str)]) -> Outcome {
    let plan = Plan::only(Fault::Link { node: 0, trouble: Trouble::Stalled }, lasts);
    run(1, &plan, settings).await
}
