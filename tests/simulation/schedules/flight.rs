//! Flights as the schedules need them: in the sky, where a change may overtake them, or out of its sight.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rollcall::domain::UserId;

#[derive(Default)]
pub struct Flights(Mutex<Vec<Arc<AtomicBool>>>);

impl Flights {
    /// Takes a flight into the sky.
    pub fn board(&self) -> Arc<AtomicBool> {
        let overtaken = Arc::new(AtomicBool::new(false));
        self.0.lock().expect("nothing panics while it is held").push(overtaken.clone());
        overtaken
    }

    pub fn overtake(&self, _user: &UserId) {
        self.overtake_all();
    }

    pub fn overtake_all(&self) {
        let flights = self.0.lock().expect("nothing panics while it is held");
        flights.iter().for_each(|overtaken| overtaken.store(true, Ordering::SeqCst));
    }
}
