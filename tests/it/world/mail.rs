//! Many webhooks on their way at once: carriers send each under its own id, again and again, until it is taken. What was
//! answered is noted, so that "acknowledged" can be held against the receiver.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rollcall::dev::{Delivery, Message, Sender};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A carrier whose letter was not taken goes on after this long.
const PAUSE: Duration = Duration::from_millis(40);
/// A carrier with nothing to carry looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What is on its way to one receiver.
pub struct Mail {
    sender: Sender,
    endpoint: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Message>,
    /// Posted and not yet taken.
    open: usize,
    is_whole: bool,
    is_held: bool,
    taken: HashMap<String, u32>,
    answers: BTreeMap<String, usize>,
}

enum Next {
    Letter(Message),
    Wait,
    Over,
}

impl Mail {
    /// Nothing yet, to this endpoint.
    pub fn to(sender: &Sender, endpoint: String) -> Arc<Self> {
        Arc::new(Self { sender: sender.clone(), endpoint, state: Mutex::default() })
    }

    /// To be carried, once for each time it is posted.
    pub fn post(&self, messages: impl IntoIterator<Item = Message>) {
        let mut state = self.state();
        let before = state.waiting.len();
        state.waiting.extend(messages);
        state.open += state.waiting.len() - before;
    }

    /// Nothing more will be posted: carriers may go home.
    pub fn is_whole(&self) {
        self.state().is_whole = true;
    }

    /// From now on carriers begin no attempt, or they do again: the sender's next try is later than that.
    pub fn hold(&self, is_held: bool) {
        self.state().is_held = is_held;
    }

    /// How many wait for a carrier.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// By message, how often it was taken.
    pub fn taken(&self) -> HashMap<String, u32> {
        self.state().taken.clone()
    }

    /// How many were taken.
    pub fn count_taken(&self) -> usize {
        self.state().taken.len()
    }

    /// By status, how many attempts were answered with it.
    pub fn answers(&self) -> BTreeMap<String, usize> {
        self.state().answers.clone()
    }

    /// Sends so many carriers off. They come home when everything is taken and nothing more will be posted.
    pub fn carry(self: &Arc<Self>, carriers: usize) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..carriers {
            tasks.spawn(self.clone().run());
        }
        tasks
    }

    async fn run(self: Arc<Self>) {
        loop {
            match self.next() {
                Next::Letter(message) => {
                    let delivery = self.sender.deliver_now(&message, &self.endpoint).await;
                    if !self.note(message, &delivery) {
                        sleep(PAUSE).await;
                    }
                }
                Next::Wait => sleep(LOOK_AGAIN).await,
                Next::Over => return,
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.state();
        if state.is_held {
            return Next::Wait;
        }
        match state.waiting.pop_front() {
            Some(message) => Next::Letter(message),
            None if state.is_whole && state.open == 0 => Next::Over,
            None => Next::Wait,
        }
    }

    fn note(&self, message: Message, delivery: &Delivery) -> bool {
        let mut state = self.state();
        let answer = delivery.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        *state.answers.entry(answer).or_default() += 1;
        if delivery.is_taken() {
            state.open -= 1;
            *state.taken.entry(message.id).or_default() += 1;
        } else {
            state.waiting.push_back(message);
        }
        delivery.is_taken()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }
}
