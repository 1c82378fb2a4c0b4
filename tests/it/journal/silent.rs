//! A database that goes silent in the middle of a start, as one whose machine lost its power: the start ends, and whoever
//! runs the service begins another. I12.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rollcall::journal::{Settings, Sharing, SqlJournal};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::world::faulty_link::{FaultyLink, Trouble};
use crate::world::postgres::Postgres;

/// Longer than all waits of a start together, also on a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// So many silences are tried, one after so many bytes more than the other: a start is told about four thousand.
const SILENCES: usize = 12;
const STEP: usize = 350;
const AT_ONCE: usize = 6;

async fn open(port: u16, postgres: &Postgres) -> bool {
    let settings = Settings { url: postgres.url_at(port).into(), io: Handle::current() };
    let opened = timeout(ENDS_WITHIN, SqlJournal::open(settings, Sharing::Nodes)).await.expect("a start that ends");
    opened.inspect_err(|error| println!("{error}")).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_a_start_whose_database_goes_silent_ends_wherever_that_is() {
    let postgres = tokio::task::block_in_place(Postgres::start_without_a_disk);
    assert!(open(postgres.port(), &postgres).await, "nothing is wrong yet");
    let silences = (0..SILENCES).map(async |n| {
        let link = FaultyLink::to(postgres.port()).await;
        link.trouble(Trouble::SilentAfter(n * STEP));
        println!("silent after {} bytes", n * STEP);
        open(link.port(), &postgres).await
    });
    let opened: Vec<_> = stream::iter(silences).buffered(AT_ONCE).collect().await;
    assert!(!opened[0], "silent from the beginning: {opened:?}");
}
