//! What the judge of the history finds while the world changes at random and readers ask every node at speed.

use std::time::Duration;

use rollcall::protocol::rules;

use super::{Found, find};
use crate::faults::switched;
use crate::world::changes::crowd;
use crate::world::dice::Dice;
use crate::world::service::{Deployment, Node, Setup, World};
use crate::world::street::Street;
use crate::world::wait::until;
use crate::world::witness::verdict;

const CHANGES: usize = 450;
const CHANGES_PER_SECOND: u32 = 300;
const READERS_PER_NODE: usize = 4;

/// Three nodes, and nothing is away. What is found is a membership that ended, for anybody to see.
pub async fn life() -> Found {
    life_with("a late yes").await
}

/// The same. What is found is an old name.
pub async fn life_of_names() -> Found {
    life_with("a late name").await
}

/// With all rules on nothing of any kind is found; with one out, what is expected, whatever else.
async fn life_with(expected: &str) -> Found {
    let mut dice = Dice::new(7);
    let mut setup = Setup { clerk: crowd(&mut dice), ..Setup::default() };
    // Of a deleted organization nothing more is told than that.
    setup.clerk.set_cascades(false);
    let bound = setup.bounds.staleness;
    find(Deployment::Redis(3), setup, async |world: &mut World| {
        let nodes = world.nodes.iter().map(Node::url).collect();
        let street = Street::of(&world.clerk, world.http.clone(), nodes, bound);
        let readers = street.gather(READERS_PER_NODE, &mut dice);
        street.change_while(|changes| changes < CHANGES, CHANGES_PER_SECOND, &mut dice).await;
        let last = street.history().all_acknowledged().expect("every message was taken");
        until("the bound to pass", async || (last.elapsed() > bound * 2).then_some(())).await;
        let reads = street.end(readers).await;
        let mut wrong = street.history().judge(&reads);
        if rules::out().is_some() {
            wrong.retain(|wrong| wrong.contains(expected));
        }
        Ok(verdict(reads.len(), &wrong))
    })
    .await
}

/// Three processes, one of which hears nothing from Redis for some seconds.
pub async fn a_link_that_stalls() -> Found {
    let out = rules::out().map(|rule| ("ROLLCALL_RULE_OFF", rule.number()));
    let outcome = switched::with_a_link_that_stalls(Duration::from_secs(4), out.as_slice()).await;
    verdict(outcome.reads.len(), &outcome.wrong)
}
