//! The scenes: each has room for the mistakes of a few rules, and is small enough to be looked at as a whole or nearly so.

use super::life::{Life, Told};
use super::scene::Scene;
use super::world::Action;
use crate::history::Step;

fn left(told: Told) -> Life {
    Life::new(&[Step::Join(0)], &[Step::Leave(0)], told)
}

/// A membership ends, and all that is told is whom it concerns: leases, stripes and drops alone keep it from coming back.
/// Node 0 takes the message in and reads the origin; node 1 looks at the shared tier.
pub fn eviction() -> Scene {
    Scene {
        begins_with_value: true,
        looks: [false, true],
        flies: [true, false],
        ..Scene::new("eviction", left(Told::AsEviction), 2)
    }
}

/// The same, and each node reads the origin, and guards are lost, landings fail, messages are repeated.
pub fn troubled_eviction() -> Scene {
    Scene {
        flies: [true, false],
        looks: [false; 2],
        listens: [true, false],
        receives: [false, true],
        landings_fail: true,
        guards_lost_max: 1,
        repeats_max: 1,
        ..Scene::new("troubled eviction", left(Told::AsEviction), 2)
    }
}

/// The same for node 1 alone, which looks at a value that somebody else may write.
pub fn foreign_value() -> Scene {
    Scene {
        flies: [true, false],
        looks: [false, true],
        listens: [false, true],
        foreign_values_max: 1,
        ..Scene::new("foreign value", left(Told::AsEviction), 2)
    }
}

/// An entry is there, and hits take their time.
pub fn slow_hit() -> Scene {
    Scene {
        flies: [false; 2],
        looks: [false; 2],
        listens: [false, true],
        begins_with_entry: [false, true],
        hits_in_steps: true,
        ..Scene::new("slow hit", left(Told::AsEviction), 4)
    }
}

/// A membership ends while the origin answers from replicas that lag: only the facts help.
pub fn lag() -> Scene {
    Scene {
        origin_lag: 1,
        flies: [false, true],
        looks: [false, true],
        listens: [false, true],
        landings_fail: true,
        repeats_max: 1,
        ..Scene::new("lagging origin", left(Told::Plainly), 3)
    }
}

/// A membership ends and is begun anew, in messages that overtake each other.
pub fn rejoin() -> Scene {
    Scene {
        origin_lag: 1,
        flies: [false, true],
        looks: [false; 2],
        listens: [false, true],
        repeats_max: 1,
        ..Scene::new("rejoin", Life::new(&[Step::Join(0)], &[Step::Leave(0), Step::Join(0)], Told::Plainly), 2)
    }
}

/// A role changes while the origin lags.
pub fn role() -> Scene {
    let life = Life::new(&[Step::Join(0)], &[Step::ChangeRole(0)], Told::Plainly);
    Scene { origin_lag: 1, flies: [false, true], looks: [false, true], listens: [false, true], ..Scene::new("role", life, 3) }
}

/// A membership ends in a message without a user: values and leases stay.
pub fn unfiled() -> Scene {
    Scene {
        origin_lag: 1,
        flies: [false, true],
        looks: [false, true],
        listens: [false, true],
        begins_with_value: true,
        begins_with_entry: [false, true],
        ..Scene::new("unfiled", left(Told::WithoutUser), 3)
    }
}

/// Node 1 is of an earlier release, and cannot read what the stream says.
pub fn unreadable() -> Scene {
    Scene {
        flies: [false; 2],
        looks: [false, true],
        listens: [false, true],
        begins_with_value: true,
        begins_with_entry: [false, true],
        is_unreadable_to_second: true,
        ..Scene::new("unreadable", left(Told::AsEviction), 3)
    }
}

/// The stream is trimmed before node 1 has read it.
pub fn trimmed() -> Scene {
    Scene {
        flies: [false; 2],
        looks: [false, true],
        listens: [false, true],
        begins_with_value: true,
        begins_with_entry: [false, true],
        trims_max: 1,
        ..Scene::new("trimmed", left(Told::AsEviction), 3)
    }
}

/// Another server becomes the primary, and has what there was at the start.
pub fn failover() -> Scene {
    Scene {
        flies: [false; 2],
        looks: [false, true],
        listens: [false, true],
        begins_with_value: true,
        begins_with_entry: [false, true],
        failovers_max: 1,
        ..Scene::new("failover", left(Told::AsEviction), 5)
    }
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

/// A user who is nowhere joins; the message is late.
pub fn denial() -> Scene {
    Scene {
        flies: [false, true],
        looks: [false; 2],
        listens: [false, true],
        repeats_max: 1,
        ..Scene::new("denial", Life::new(&[], &[Step::Join(0)], Told::Plainly), 4)
    }
}

/// A user who was refused twice joins, and the origin lags.
pub fn denied_before() -> Scene {
    Scene {
        name: "denied before",
        origin_lag: 1,
        receives: [false, true],
        begins_with_entry: [false, true],
        begins_with_refusals: 2,
        ends_at: 3,
        ..denial()
    }
}

/// A user joins a second organization while the origin lags.
pub fn expected() -> Scene {
    let life = Life::new(&[Step::Join(0)], &[Step::Join(1)], Told::Plainly);
    Scene { origin_lag: 1, flies: [false, true], looks: [false; 2], listens: [false, true], ..Scene::new("expected", life, 2) }
}
