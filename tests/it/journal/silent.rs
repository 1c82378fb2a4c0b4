//! A database that goes silent in the middle of a start, as one whose machine lost its power: the start ends, and whoever
//! runs the service begins another. I12.

use std::time::Duration;

use futures_util::future::join_all;
use rollcall::journal::{Settings, Sharing, SqlJournal};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::world::faulty_link::{FaultyLink, Trouble};
use crate::world::postgres::Postgres;

/// Longer than all waits of a start together, also on a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// A start is told this much on its busiest connection, and so many silences are tried.
const STEP: usize = 250;
const SILENCES: usize = 20;

fn settings(url: String) -> Settings {
    Settings { url: url.into(), io: Handle::current() }
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_a_start_whose_database_goes_silent_ends_wherever_that_is() {
    let postgres = tokio::task::block_in_place(Postgres::start);
    SqlJournal::migrate(settings(postgres.url())).await.expect("a journal");
    let opened = join_all((0..SILENCES).map(async |n| {
        let link = FaultyLink::to(postgres.port()).await;
        link.trouble(Trouble::SilentAfter(n * STEP));
        let opening = SqlJournal::open(settings(postgres.url_at(link.port())), Sharing::Nodes);
        let opened = timeout(ENDS_WITHIN, opening).await.unwrap_or_else(|_| panic!("silent after {} bytes: it hangs", n * STEP));
        opened.inspect_err(|error| println!("silent after {} bytes: {error}", n * STEP)).is_ok()
    }))
    .await;
    // As long as nothing is silent before the end, it is a start like any other.
    assert!(!opened[0] && opened[SILENCES - 1], "{opened:?}");
}
