//! What is true at the origin, and what its messages say: one user's life, and readings of it in a byte.
//!
//! The facts are applied by `protocol::facts::outrank` itself. What it makes of a reading is kept, for the checker asks the
//! same thing a million times.

use std::collections::HashMap;
use std::sync::Mutex;

use rollcall::domain::{Change, Membership, Moment};
use rollcall::protocol::facts::outrank;

use crate::history::{History, Step, user};
use crate::memory::Memory;

/// Messages of a life at most.
pub const CHANGES_MAX: usize = 2;

/// The rows of a list, a bit for each.
pub type Rows = u8;

/// When a node heard each change of a life last, in ticks.
pub type Heard = [Option<u8>; CHANGES_MAX];

/// How the messages tell what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// As Clerk does.
    Plainly,
    /// Without the user's id: filed under no user.
    WithoutUser,
    /// In a message that does not parse: all that is known is whom it concerns.
    AsEviction,
}

/// A life: what is true after each step, and what each step sends.
#[derive(Debug)]
pub struct Life {
    /// After each number of steps.
    pub truths: Vec<Rows>,
    /// What each step sends.
    pub changes: Vec<Change>,
    rows: Vec<Membership>,
    judged: Mutex<HashMap<(Rows, u8, Heard), Judged>>,
}

/// A reading under the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    pub rows: Rows,
    pub is_void: bool,
    pub lacks_expected: bool,
}

/// A tick of the model is a second. The first is long after the machine's start, so that never is long ago.
pub fn moment(tick: u8) -> Moment {
    Moment::from_micros((100_000 + u64::from(tick)) * 1_000_000)
}

impl Life {
    /// The life of `steps` after what happened `before`, of which all messages have passed long ago.
    pub fn new(before: &[Step], steps: &[Step], told: Told) -> Self {
        let history = History::of(&[before, steps].concat());
        let mut rows: Vec<Membership> = Vec::new();
        let mut packed = |list: &Vec<Membership>| {
            list.iter().fold(0, |packed, row| {
                let place = rows.iter().position(|known| known == row).unwrap_or_else(|| {
                    rows.push(row.clone());
                    rows.len() - 1
                });
                packed | 1 << place
            })
        };
        let truths = history.truths[before.len()..].iter().map(&mut packed).collect();
        let messages = history.messages[before.len()..].iter();
        let changes: Vec<Change> = messages.map(|message| as_told(message.clone().expect("each step sends"), told)).collect();
        assert!(changes.len() <= CHANGES_MAX);
        Self { truths, changes, rows, judged: Mutex::default() }
    }

    /// What is true after all of it.
    pub fn end(&self) -> Rows {
        *self.truths.last().expect("there is a beginning")
    }

    /// A reading begun at `as_of` under the facts of what was heard.
    pub fn outrank(&self, rows: Rows, as_of: u8, heard: Heard) -> Judged {
        let key = (rows, as_of, heard);
        if let Some(judged) = self.judged.lock().expect("no panic under it").get(&key) {
            return *judged;
        }
        let heard: Vec<(Change, Moment)> =
            self.changes.iter().zip(heard).filter_map(|(change, at)| Some((change.clone(), moment(at?)))).collect();
        let mut list = self.unpacked(rows);
        let outranked = outrank(&user(), moment(as_of), &mut list, &Memory::of(&heard));
        let rows = self.packed(&list);
        let judged = Judged { rows, is_void: outranked.is_void, lacks_expected: outranked.lacks_expected };
        self.judged.lock().expect("no panic under it").insert(key, judged);
        judged
    }

    fn unpacked(&self, rows: Rows) -> Vec<Membership> {
        (0..self.rows.len()).filter(|place| rows & 1 << place != 0).map(|place| self.rows[place].clone()).collect()
    }

    fn packed(&self, list: &[Membership]) -> Rows {
        let place = |row| self.rows.iter().position(|known| known == row).expect("facts make of a row one that was true");
        list.iter().fold(0, |packed, row| packed | 1 << place(row))
    }
}

fn as_told(change: Change, told: Told) -> Change {
    match (told, change) {
        (Told::AsEviction, _) => Change::Evicted { users: vec![user()], organizations: vec![] },
        (Told::WithoutUser, Change::MembershipDeleted { membership, .. }) => Change::MembershipDeleted { membership, user: None },
        (Told::Plainly | Told::WithoutUser, change) => change,
    }
}
