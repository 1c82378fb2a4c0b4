//! How long a revocation takes to hold: seen at the nodes by asking, told as a row of a table.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::service::READ_KEY;

/// A revocation that never holds is found out by then.
const LIMIT: Duration = Duration::from_secs(12);
/// Between two looks at a node.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A revocation: when its message was first sent, and when no node said yes any more.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    pub sent: Instant,
    pub held: Instant,
}

/// Prints the row of a fault; answers when the last revocation held, and the longest time that one took.
pub fn tell(fault: &str, effects: &[Effect], ended: Instant) -> (Instant, Duration) {
    let mut took: Vec<_> = effects.iter().map(|effect| effect.held - effect.sent).collect();
    took.sort_unstable();
    let (p50, p99, max) = (took[took.len() / 2], took[took.len() * 99 / 100], took[took.len() - 1]);
    let last = effects.iter().map(|effect| effect.held).max().expect("there are some");
    let after = last.saturating_duration_since(ended);
    let ms = |time: Duration| time.as_millis();
    println!("| {fault} | p50 {} ms | p99 {} ms | max {} ms | {} ms after its end |", ms(p50), ms(p99), ms(max), ms(after));
    (last, max)
}

/// When this node said that the user is no member.
pub async fn until_refused(http: &reqwest::Client, url: &str, user: &str, organization: &str) -> Instant {
    let limit = Instant::now() + LIMIT;
    loop {
        let request = http.get(format!("{url}/v1/users/{user}/orgs/{organization}")).bearer_auth(READ_KEY);
        if let Ok(answer) = request.send().await
            && answer.headers().get("rollcall-decision").is_some_and(|decision| decision == "not-a-member")
        {
            return Instant::now();
        }
        assert!(Instant::now() < limit, "{user} is still a member at {url}");
        sleep_until((Instant::now() + LOOK_AGAIN).into()).await;
    }
}
