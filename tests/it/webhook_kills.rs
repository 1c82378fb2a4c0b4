//! Killed (SIGKILL) again and again in the middle of many webhooks, and started again on what it left, while the sender goes
//! on. Nothing that was acknowledged is lost, in whatever order it came and however often; whatever was open at a start is
//! applied within five seconds. I2, I3, I4.
//!
//! 600 webhooks and three kills in the ordinary run; `ROLLCALL_TEST_WEBHOOKS=5000 ROLLCALL_TEST_KILLS=20 cargo test --test it
//! webhook_kills` asks for more. `ROLLCALL_TEST_SEEDS=3,4,5` names other seeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rollcall::dev::Message;
use rollcall::journal::{Filter, Row, State};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::world::crowd::Crowd;
use crate::world::dice::Dice;
use crate::world::mail::Mail;
use crate::world::postgres::Postgres;
use crate::world::redis_server::RedisServer;
use crate::world::rollcall::Rollcall;
use crate::world::service::READ_KEY;
use crate::world::wait::until;

/// Carriers of webhooks.
const CARRIERS: usize = 64;
/// So many webhooks wait for a carrier at most: the world goes on while they are carried.
const WAITING_MAX: usize = 128;
/// Readers meanwhile, so that values come back to the tiers after every change, and the pause of each between two reads.
const READERS: usize = 4;
const READ_PAUSE: Duration = Duration::from_millis(2);
/// What was open at a start is applied by then.
const HEALED_WITHIN: Duration = Duration::from_secs(5);
/// How long the default nodes may be behind.
const BOUND: Duration = Duration::from_secs(1);
const ALL: u32 = 1_000_000;

/// A number of the ordinary run, unless a variable names another one.
fn by_hand(variable: &str, ordinary: usize) -> usize {
    std::env::var(variable).map_or(ordinary, |number| number.parse().expect("a number"))
}

fn seeds(ordinary: &str) -> Vec<u64> {
    let seeds = std::env::var("ROLLCALL_TEST_SEEDS").unwrap_or_else(|_| ordinary.to_owned());
    seeds.split(',').map(|seed| seed.trim().parse().expect("seeds are numbers")).collect()
}

/// A service that is killed, and everything around it that goes on.
struct Siege {
    rollcall: Rollcall,
    crowd: Crowd,
    mail: Arc<Mail>,
    carriers: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    readers: Vec<JoinHandle<()>>,
    /// Messages that happened so far.
    ids: Vec<String>,
}

impl Siege {
    async fn begin(crowd: Crowd, settings: &[(&str, &str)], dice: &mut Dice) -> Self {
        let rollcall = Rollcall::serve_on(RedisServer::start(), crowd.world(dice), settings).await;
        crowd.warm(&rollcall).await;
        let mail = Mail::to(rollcall.clerk.sender(), rollcall.webhooks());
        let (carriers, is_over) = (mail.carry(CARRIERS), Arc::new(AtomicBool::new(false)));
        let reader =
            |_| tokio::spawn(read(rollcall.http.clone(), rollcall.url.clone(), crowd.clone(), dice.fork(), is_over.clone()));
        let readers = (0..READERS).map(reader).collect();
        Self { rollcall, crowd, mail, carriers, is_over, readers, ids: Vec::new() }
    }

    /// One more thing happens; answers what Clerk sends about it.
    fn change(&mut self, dice: &mut Dice) -> Vec<Message> {
        let messages = self.crowd.change(self.rollcall.clerk.world(), dice).messages;
        self.ids.extend(messages.iter().map(|message| message.id.clone()));
        messages
    }

    /// Killed, down for a moment, started again, sometimes killed once more in the middle of that; half of the times the sender
    /// waits until all is well again. Answers how long what was open then took to be applied.
    async fn kill_and_start(&mut self, dice: &mut Dice) -> Duration {
        self.mail.hold(dice.chance(50));
        self.rollcall.kill();
        while dice.chance(25) {
            self.rollcall.begin_again();
            sleep(Duration::from_millis(dice.below(120) as u64)).await;
            self.rollcall.kill();
        }
        sleep(Duration::from_millis(dice.below(100) as u64)).await;
        let began = self.rollcall.start_again();
        let until_ms = i64::try_from(began.duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).ok();
        let open = Filter { states: vec![State::Pending], until_ms, ..Filter::default() };
        until("what was open at the start to be applied", async || {
            let open = self.rollcall.journal(async |journal| journal.list(&open, ALL).await).await;
            open.is_empty().then_some(())
        })
        .await;
        self.mail.hold(false);
        SystemTime::now().duration_since(began).expect("time goes on")
    }

    /// Waits until everything was taken; nothing that was is lost.
    async fn expect_nothing_lost(mut self) -> Outcome {
        self.mail.is_whole();
        let carried = async { while self.carriers.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(60), carried).await.expect("everything is taken");
        let last = Instant::now();
        let rows = self.rollcall.journal(async |journal| journal.list(&Filter::default(), ALL).await).await;
        let lost = self.lost(&rows);
        assert!(lost.is_empty(), "{} of {} were acknowledged and lost, first {}", lost.len(), self.ids.len(), lost[0]);
        assert_eq!(rows.len(), self.ids.len(), "one row for each message");
        until("the bound to pass", async || (last.elapsed() > BOUND).then_some(())).await;
        self.is_over.store(true, Ordering::Relaxed);
        for reader in self.readers {
            reader.await.expect("no panic");
        }
        self.crowd.expect_the_truth(&self.rollcall).await;
        let by = |who: &str| rows.iter().filter(|row| row.applied_by.as_deref() == Some(who)).count();
        let again = rows.iter().filter(|row| row.deliveries > 1).count();
        Outcome { answers: format!("{:?}", self.mail.answers()), boot: by("boot"), worker: by("worker"), again }
    }

    /// Messages that were taken and have no row that is applied.
    fn lost(&self, rows: &[Row]) -> Vec<String> {
        let rows: std::collections::HashMap<&str, &Row> = rows.iter().map(|row| (row.message_id.as_str(), row)).collect();
        let taken = self.mail.taken();
        let lost = |id: &String| match (rows.get(id.as_str()), taken[id]) {
            (Some(row), times) if row.state == "applied" && row.deliveries >= i64::from(times) => None,
            (row, times) => Some(format!("{id}, taken {times} times: {row:?}")),
        };
        self.ids.iter().filter_map(lost).collect()
    }
}

/// What came of it.
struct Outcome {
    answers: String,
    boot: usize,
    worker: usize,
    again: usize,
}

/// Asks for anybody's list until it is over; whatever is answered, and whether anything is.
async fn read(http: reqwest::Client, url: String, crowd: Crowd, mut dice: Dice, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        let request = http.get(format!("{url}/v1/users/{}/orgs", dice.pick(&crowd.users))).bearer_auth(READ_KEY);
        if let Ok(answer) = request.send().await {
            let _ = answer.bytes().await;
        }
        sleep(READ_PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_nothing_acknowledged_is_lost_however_often_the_process_is_killed_in_the_middle() {
    let (messages, kills) = (by_hand("ROLLCALL_TEST_WEBHOOKS", 600), by_hand("ROLLCALL_TEST_KILLS", 3));
    for seed in seeds("1") {
        let (mut dice, began) = (Dice::new(seed), Instant::now());
        println!("seed {seed}: {messages} webhooks, {kills} kills");
        let mut siege = Siege::begin(Crowd::of(messages / 2, 9), &[], &mut dice).await;
        let mut healed = Vec::new();
        let mut at = kill_at(0, (messages, kills), &mut dice);
        while siege.ids.len() < messages || healed.len() < kills {
            if healed.len() < kills && siege.mail.count_taken() >= at {
                healed.push(siege.kill_and_start(&mut dice).await);
                at = kill_at(healed.len(), (messages, kills), &mut dice);
            } else if siege.ids.len() < messages && siege.mail.waiting() < WAITING_MAX {
                let happened = siege.change(&mut dice);
                siege.mail.post(happened);
            } else {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let outcome = siege.expect_nothing_lost().await;
        healed.sort_unstable();
        println!(
            "attempts by answer {}; {} messages delivered again, {} applied at start, {} by the worker; open at a start applied after at most {:?}; {:?} in all",
            outcome.answers,
            outcome.again,
            outcome.boot,
            outcome.worker,
            healed.last(),
            began.elapsed()
        );
        assert!(healed.iter().all(|took| *took <= HEALED_WITHIN), "{healed:?}");
    }
}

/// After how many acknowledged messages kill number `number` comes.
fn kill_at(number: usize, (messages, kills): (usize, usize), dice: &mut Dice) -> usize {
    let apart = messages / (kills + 1);
    apart / 2 + number * apart + dice.below(apart.max(1))
}

/// Messages in any order, some twice, some only when everything else has come; killed in between.
#[tokio::test(flavor = "multi_thread")]
async fn i4_any_order_of_messages_with_kills_in_between_ends_with_the_truth() {
    for seed in seeds("1,2") {
        histories(seed, &[]).await;
    }
}

/// The same on PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn i4_any_order_of_messages_with_kills_in_between_ends_with_the_truth_on_postgres() {
    for seed in seeds("3,4") {
        let postgres = Postgres::start();
        histories(seed, &[("DATABASE_URL", &postgres.url())]).await;
    }
}

async fn histories(seed: u64, settings: &[(&str, &str)]) {
    const CHANGES: usize = 250;
    /// So many messages overtake each other.
    const WINDOW: usize = 40;
    let mut dice = Dice::new(seed);
    println!("seed {seed}");
    let mut siege = Siege::begin(Crowd::of(20, 6), settings, &mut dice).await;
    let (mut held, mut late) = (Vec::new(), Vec::new());
    let mut kills: Vec<usize> = (0..=dice.below(2)).map(|_| WINDOW + dice.below(CHANGES - WINDOW)).collect();
    for at in 0..CHANGES {
        for message in siege.change(&mut dice) {
            match dice.below(100) {
                0..10 => late.push(message),
                10..30 => held.extend([message.clone(), message]),
                _ => held.push(message),
            }
        }
        while held.len() > WINDOW {
            let message = held.swap_remove(dice.below(held.len()));
            siege.mail.post([message]);
        }
        if kills.contains(&at) {
            kills.retain(|kill| *kill != at);
            until("some to be taken", async || (siege.mail.waiting() < WINDOW).then_some(())).await;
            siege.kill_and_start(&mut dice).await;
        }
    }
    siege.mail.post(held);
    siege.mail.post(late);
    let outcome = siege.expect_nothing_lost().await;
    println!("attempts by answer {}; {} delivered again", outcome.answers, outcome.again);
    assert!(outcome.again > 20, "duplicates are part of it");
}
