//! Reads that are begun now and awaited later, and what a node counts meanwhile: for tests that force a schedule.

use std::time::Instant;

use rollcall::dev::Held;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::readers::Question;
use super::redis_proxy::RedisProxy;
use super::service::{ADMIN_KEY, EVICT_KEY, READ_KEY, World};
use super::wait::until;

/// A read under way.
pub struct Asked(JoinHandle<anyhow::Result<Answer>>);

impl Asked {
    /// Its answer, when it comes.
    pub async fn answer(self) -> anyhow::Result<Answer> {
        self.0.await?
    }

    /// Whether the answer is there.
    pub fn is_answered(&self) -> bool {
        self.0.is_finished()
    }

    /// The caller goes away: its connection is closed.
    pub async fn hang_up(self) {
        self.0.abort();
        assert!(self.0.await.is_err_and(|error| error.is_cancelled()), "it was answered before");
    }
}

impl World {
    /// One more node, which reaches Redis through this proxy; it is ready.
    pub async fn add_node_behind_a_proxy(&mut self) -> RedisProxy {
        let proxy = RedisProxy::before(self.redis().port());
        let url = proxy.url();
        self.add_node_with(|config| config.redis_url = Some(url.into())).await;
        proxy
    }

    /// Asks node `number` with the read key. Whoever was called as a witness hears the answer.
    pub fn asking(
        &self,
        number: usize,
        path: &str,
        headers: &[(&str, &str)],
    ) -> impl Future<Output = anyhow::Result<Answer>> + use<> {
        let request = self.http.get(format!("{}{path}", self.nodes[number].url())).bearer_auth(READ_KEY);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let witnessed = self.witness.clone().zip(Question::at(path, headers));
        async move {
            let began = Instant::now();
            let answer = Answer::of(request.send().await?).await?;
            if let Some((witness, question)) = witnessed {
                witness.heard(question.answered(number, began, &answer));
            }
            Ok(answer)
        }
    }

    /// Begins to ask node `number` with the read key.
    pub fn begin(&self, number: usize, path: &str, headers: &[(&str, &str)]) -> Asked {
        Asked(tokio::spawn(self.asking(number, path, headers)))
    }

    /// Begins to ask node `number` for the list of a user.
    pub fn begin_list(&self, number: usize, user: &str) -> Asked {
        self.begin(number, &format!("/v1/users/{user}/orgs"), &[])
    }

    /// The same, where the origin has read the list and holds its answer back until it is told to let it go.
    pub async fn begin_slow_list(&self, number: usize, user: &str) -> anyhow::Result<(Held, Asked)> {
        let slow = self.clerk.hold_next_answer_about(user);
        let reading = self.begin_list(number, user);
        slow.reached().await?;
        Ok((slow, reading))
    }

    /// The list of a user, asked of node `number`.
    pub async fn list_at(&self, number: usize, user: &str) -> anyhow::Result<Answer> {
        self.ask(number, &format!("/v1/users/{user}/orgs")).await
    }

    /// One membership, asked of node `number`.
    pub async fn check_at(&self, number: usize, user: &str, organization: &str) -> anyhow::Result<Answer> {
        self.ask(number, &format!("/v1/users/{user}/orgs/{organization}")).await
    }

    /// Evicts a user through node `number`.
    pub async fn evict_at(&self, number: usize, user: &str) -> anyhow::Result<Answer> {
        let url = format!("{}/v1/users/{user}/orgs", self.nodes[number].url());
        let asked = Instant::now();
        let answer = Answer::of(self.http.delete(url).bearer_auth(EVICT_KEY).send().await?).await?;
        if let Some(witness) = self.witness.as_ref().filter(|_| answer.status == 204) {
            witness.saw_an_eviction(user, asked);
        }
        Ok(answer)
    }

    /// The sum of a metric of node `number`, over all its labels or those that hold `label`; 0 when it was never counted.
    pub async fn metric_of(&self, number: usize, name: &str, label: &str) -> f64 {
        let url = format!("{}/metrics", self.nodes[number].url());
        let text = self.http.get(url).bearer_auth(ADMIN_KEY).send().await.expect("the node answers");
        let text = text.text().await.expect("it is text");
        let is_meant = |series: &str| series.split('{').next() == Some(name) && series.contains(label);
        let lines = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| is_meant(series));
        lines.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    }

    /// Waits until so many reads have gone past the local tier of node `number` and are not answered.
    pub async fn until_under_way(&self, number: usize, count: usize) {
        until("the reads to be under way", async || {
            (self.metric_of(number, "rollcall_reads_under_way", "").await as usize == count).then_some(())
        })
        .await;
    }
}
