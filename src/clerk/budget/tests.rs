//! Admission, the queue and the appointment book with an invented `now`; the waits themselves with a quick budget.

use super::*;

const NOW: Moment = Moment::from_micros(500_000_000);

fn state(rate: u32) -> State {
    State { bucket: Bucket::new(rate), turns: Turns::default(), booked: Moment::ZERO }
}

/// A state whose burst is used up.
fn spent(rate: u32) -> State {
    let mut state = state(rate);
    while state.bucket.take(NOW).is_ok() {}
    state
}

fn queue(state: &mut State, priority: Priority) -> Option<Ticket> {
    match state.admit(priority, WAIT_MAX, NOW) {
        Admission::Queued(ticket, _) => Some(ticket),
        Admission::Granted | Admission::Refused => None,
    }
}

#[test]
fn the_rate_follows_the_kind_of_key() {
    assert_eq!(rate_by_key_kind("sk_live_abc"), 800);
    assert_eq!(rate_by_key_kind(" sk_live_abc\n"), 800);
    assert_eq!(rate_by_key_kind("sk_test_abc"), 80);
    assert_eq!(rate_by_key_kind("anything"), 80);
}

#[test]
fn when_the_budget_is_spent_only_cold_reads_and_first_denials_wait() {
    for priority in [Priority::RepeatedDenial, Priority::NoCache, Priority::Refresh] {
        assert!(matches!(spent(800).admit(priority, WAIT_MAX, NOW), Admission::Refused), "{priority:?}");
    }
    for priority in [Priority::Cold, Priority::FirstDenial] {
        assert!(matches!(spent(800).admit(priority, WAIT_MAX, NOW), Admission::Queued(..)), "{priority:?}");
    }
}

#[test]
fn nobody_passes_those_who_wait() {
    let mut state = spent(800);
    let waiting = queue(&mut state, Priority::Cold).expect("waits");
    let later = NOW + Duration::from_secs(60);
    for priority in [Priority::FirstDenial, Priority::RepeatedDenial, Priority::NoCache, Priority::Refresh] {
        assert!(!matches!(state.admit(priority, WAIT_MAX, later), Admission::Granted), "{priority:?}");
    }
    assert_eq!(state.step(waiting, later), Step::Granted);
}

#[test]
fn a_refresh_leaves_half_of_the_burst_to_those_who_wait() {
    let mut state = state(800);
    let granted = (0..100).filter(|_| matches!(state.admit(Priority::Refresh, WAIT_MAX, NOW), Admission::Granted)).count();
    assert_eq!(granted, 41);
    assert!(matches!(state.admit(Priority::NoCache, WAIT_MAX, NOW), Admission::Granted));
}

#[test]
fn the_queue_holds_what_two_seconds_of_the_budget_can_serve() {
    let mut state = spent(800);
    let queued = std::iter::from_fn(|| queue(&mut state, Priority::Cold)).count();
    assert!((143..=145).contains(&queued), "{queued}");
    assert!(matches!(state.admit(Priority::Cold, WAIT_MAX, NOW), Admission::Refused));
}

#[test]
fn during_a_long_pause_nobody_queues_and_the_time_to_come_back_is_its_end() {
    let mut state = state(800);
    state.bucket.slow_down(Some(Duration::from_secs(20)), NOW);
    assert!(matches!(state.admit(Priority::Cold, WAIT_MAX, NOW), Admission::Refused));
    let cold = state.appointment(Priority::Cold, 0.0, NOW);
    assert!(cold >= Duration::from_secs(18) && cold < Duration::from_secs(21), "{cold:?}");
    let no_cache = state.appointment(Priority::NoCache, 0.0, NOW);
    assert!(no_cache >= Duration::from_secs(20) && no_cache < Duration::from_secs(23), "{no_cache:?}");
}

#[test]
fn a_crowd_is_called_back_at_the_pace_of_the_budget() {
    let mut state = spent(800);
    while queue(&mut state, Priority::Cold).is_some() {}
    let waits: Vec<Duration> = (0..1_000).map(|n| state.appointment(Priority::Cold, f64::from(n % 100) / 100.0, NOW)).collect();
    assert!(waits.iter().all(|wait| *wait >= Duration::from_secs(1)));
    // 72 a second: the thousandth is due after about 14 s, and no second is promised to many more than it can serve.
    assert!(*waits.last().expect("a thousand") < Duration::from_secs(16));
    for second in 3..13 {
        let due = waits.iter().filter(|wait| wait.as_secs() == second).count();
        assert!((50..=95).contains(&due), "{due} in second {second}");
    }
}

#[test]
fn the_appointment_book_is_bounded() {
    let mut state = spent(80);
    for n in 0..100_000 {
        let wait = state.appointment(Priority::Cold, f64::from(n % 1_000) / 1_000.0, NOW);
        assert!(wait >= Duration::from_secs(1) && wait <= BOOK_MAX + Duration::from_secs(2), "{wait:?}");
    }
}

#[tokio::test]
async fn those_who_wait_are_served_in_turn() {
    let budget = Arc::new(Budget::new(10_000));
    // More than the burst of 1,000; nine flow in every 10 ms.
    let reads: Vec<_> = (0..1_100)
        .map(|_| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move { budget.acquire(Priority::Cold, Duration::from_secs(2)).await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.expect("no panic"), Ok(()));
    }
    assert_eq!(budget.waiting(), 0);
}

#[tokio::test]
async fn a_wait_that_is_dropped_leaves_the_queue_and_wakes_the_next() {
    let budget = Arc::new(Budget::new(1_000));
    while !budget.is_spent() {
        budget.acquire(Priority::Cold, Duration::ZERO).await.expect("the burst");
    }
    let wait = |budget: Arc<Budget>| tokio::spawn(async move { budget.acquire(Priority::Cold, WAIT_MAX).await });
    let waits: Vec<_> = (0..20).map(|_| wait(Arc::clone(&budget))).collect();
    tokio::task::yield_now().await;
    for dropped in &waits[..10] {
        dropped.abort();
    }
    for kept in waits.into_iter().skip(10) {
        assert_eq!(kept.await.expect("no panic"), Ok(()));
    }
    assert_eq!(budget.waiting(), 0);
}
