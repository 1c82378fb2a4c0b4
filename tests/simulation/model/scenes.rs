//! The scenes: each has room for the mistakes of a few rules, and is small enough to be looked at as a whole or nearly so.
//! Those in which something of the stream or of its readers is lost are in `losses`.

use super::life::{Life, Told};
pub use super::losses::*;
use super::scene::Scene;
use crate::history::Step;

/// Who is in one organization leaves it.
pub fn left(told: Told) -> Life {
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

/// Readings grow too old, and the origin cannot be asked.
pub fn grace() -> Scene {
    Scene {
        ages_max: (2, 2),
        flies: [false; 2],
        looks: [false; 2],
        listens: [false, true],
        begins_with_entry: [false, true],
        ..Scene::new("grace", left(Told::AsEviction), 6)
    }
}

/// The same of an empty list.
pub fn grace_of_a_no() -> Scene {
    Scene { name: "grace of a no", life: Life::new(&[], &[Step::Join(0)], Told::Plainly), begins_with_refusals: 1, ..grace() }
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
