//! What may happen in a model: a scene is small enough to be looked at from end to end, and has room for one kind of mistake.

use super::life::Life;
use super::world::Action;

/// What happens at most, and to whom.
#[derive(Debug)]
pub struct Scene {
    /// For the report.
    pub name: &'static str,
    pub life: Life,
    /// What has happened already.
    pub prelude: Vec<Action>,
    /// The last tick.
    pub ends_at: u8,
    /// How old a reading may be, in ticks, and how much older while the origin cannot be asked.
    pub ages_max: (u16, u16),
    /// How many steps behind the origin's answers may be.
    pub origin_lag: u8,
    /// Which nodes read the origin.
    pub flies: [bool; 2],
    /// Which nodes look at the shared tier.
    pub looks: [bool; 2],
    /// Which nodes messages come to.
    pub receives: [bool; 2],
    /// Which nodes read the stream, and may answer.
    pub listens: [bool; 2],
    /// Whether there is a value in Redis at the start.
    pub begins_with_value: bool,
    /// Which nodes have it in the local tier.
    pub begins_with_entry: [bool; 2],
    /// How often the entry's "no" was said already.
    pub begins_with_refusals: u8,
    /// Node 1 is of an earlier release and cannot read the changes.
    pub is_unreadable_to_second: bool,
    /// A hit is two steps: what else happens may come between.
    pub hits_in_steps: bool,
    /// A landing in Redis may fail.
    pub landings_fail: bool,
    /// Messages delivered once more, or given up half-way.
    pub repeats_max: u8,
    /// Guards that expire or are evicted.
    pub guards_lost_max: u8,
    /// Values that somebody else writes.
    pub foreign_values_max: u8,
    /// How often the stream loses its oldest entry before everybody read it.
    pub trims_max: u8,
    /// How often Redis is back at its beginning, under another replication id.
    pub failovers_max: u8,
    /// How often Redis is emptied.
    pub flushes_max: u8,
    /// How often node 1 is stopped and started.
    pub restarts_max: u8,
}

impl Scene {
    /// Nothing but this life, two nodes that do everything, and `ticks` ticks.
    pub fn new(name: &'static str, life: Life, ends_at: u8) -> Self {
        Self {
            name,
            life,
            prelude: vec![],
            ends_at,
            ages_max: (300, 600),
            origin_lag: 0,
            flies: [true; 2],
            looks: [true; 2],
            receives: [true, false],
            listens: [true; 2],
            begins_with_value: false,
            begins_with_entry: [false; 2],
            begins_with_refusals: 0,
            is_unreadable_to_second: false,
            hits_in_steps: false,
            landings_fail: false,
            repeats_max: 0,
            guards_lost_max: 0,
            foreign_values_max: 0,
            trims_max: 0,
            failovers_max: 0,
            flushes_max: 0,
            restarts_max: 0,
        }
    }
}
