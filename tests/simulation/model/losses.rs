//! The scenes in which something is lost: entries of the stream, its end, all of Redis, a node's memory.

use super::life::Told;
use super::scene::Scene;
use super::scenes::left;
use super::world::Action;

/// A value is everywhere; node 1 hears of the end of a membership by the stream alone, and is asked.
fn heard_by_second(name: &'static str, told: Told, ends_at: u8) -> Scene {
    Scene {
        flies: [false; 2],
        looks: [false, true],
        listens: [false, true],
        begins_with_value: true,
        begins_with_entry: [false, true],
        ..Scene::new(name, left(told), ends_at)
    }
}

/// Node 1 is of an earlier release, and cannot read what the stream says.
pub fn unreadable() -> Scene {
    Scene { is_unreadable_to_second: true, ..heard_by_second("unreadable", Told::AsEviction, 3) }
}

/// The stream is trimmed before node 1 has read it.
pub fn trimmed() -> Scene {
    Scene { trims_max: 1, ..heard_by_second("trimmed", Told::AsEviction, 3) }
}

/// The same, of a change that names no user, so that a value from before it stays in Redis: who cannot read the change any more
/// must refuse it for its age.
pub fn trimmed_unfiled() -> Scene {
    Scene { flies: [false, true], trims_max: 1, ..heard_by_second("trimmed unfiled", Told::WithoutUser, 3) }
}

/// Node 1 is stopped and started while a membership ends in a message without a user.
pub fn restarted() -> Scene {
    Scene {
        flies: [false, true],
        begins_with_entry: [false; 2],
        restarts_max: 1,
        ..heard_by_second("restarted", Told::WithoutUser, 2)
    }
}

/// The same, with both nodes at work, and the stream trimmed meanwhile.
pub fn restarted_late() -> Scene {
    Scene { name: "restarted late", flies: [false; 2], trims_max: 1, ..restarted() }
}

/// Another server becomes the primary, and has what there was at the start.
pub fn failover() -> Scene {
    Scene { failovers_max: 1, ..heard_by_second("failover", Told::AsEviction, 5) }
}

/// The same, with a node that reads the origin meanwhile.
pub fn failover_in_flight() -> Scene {
    Scene {
        flies: [false, true],
        looks: [false; 2],
        listens: [false, true],
        begins_with_value: true,
        landings_fail: true,
        failovers_max: 1,
        ..Scene::new("failover in flight", left(Told::AsEviction), 4)
    }
}

/// What has happened when a change was acknowledged by node 0, and the server it was acknowledged by is gone.
fn lost_end() -> Vec<Action> {
    let (message, node) = (0, 0);
    let pass = Action::Pass { message };
    vec![Action::Live, Action::Deliver { message, node }, pass, pass, Action::FailOver]
}

/// A change was acknowledged, and its end of the stream is lost; node 1 has not heard of it.
pub fn failed_over() -> Scene {
    Scene { name: "failed over", prelude: lost_end(), looks: [false, true], ends_at: 4, ..failover() }
}

/// The same, while the delivery, which is acknowledged, is not at its end.
pub fn failed_over_unrecorded() -> Scene {
    Scene { looks: [false; 2], begins_with_entry: [false; 2], ends_at: 1, ..failed_over() }
}

/// The same, during a flight of node 1 that began before.
pub fn failed_over_in_flight() -> Scene {
    let flight = vec![Action::Fly { node: 1 }, Action::Read { node: 1, lived: 0 }];
    Scene { prelude: [flight, lost_end()].concat(), ..failover_in_flight() }
}

/// The same, and node 0 is putting the history back while node 1 has found the old value.
pub fn repaired() -> Scene {
    let of = |node: u8| [Action::Ask { node }, Action::Take { node }, Action::Ask { node }, Action::Take { node }];
    let under_way = vec![Action::BeginRepair { node: 0 }, Action::Look { node: 1 }, Action::Get { node: 1 }];
    let prelude = [lost_end(), of(0).to_vec(), of(1).to_vec(), under_way].concat();
    Scene { name: "repaired", listens: [true; 2], prelude, ends_at: 2, ..failover() }
}

/// A second failover while the history is put back after the first.
pub fn two_failovers() -> Scene {
    let of = |node: u8| [Action::Ask { node }, Action::Take { node }, Action::Ask { node }, Action::Take { node }];
    Scene {
        name: "two failovers",
        looks: [false; 2],
        listens: [true; 2],
        begins_with_entry: [false; 2],
        failovers_max: 2,
        prelude: [lost_end(), of(0).to_vec()].concat(),
        ends_at: 2,
        ..failover()
    }
}

/// Redis is emptied under the same replication id.
pub fn flushed() -> Scene {
    Scene {
        flies: [false, true],
        looks: [false; 2],
        listens: [false, true],
        begins_with_entry: [false, true],
        flushes_max: 1,
        ..Scene::new("flushed", left(Told::AsEviction), 4)
    }
}
