//! The world that `rollcall dev` starts with: fourteen organizations, six users. Ids are readable, times are fixed, so the
//! fixture webhooks name what is in it. All names are invented.

use super::rows::{NewOrganization, NewUser};
use super::{World, WorldError};

/// Id behind `org_`, slug (one has none), name.
const ORGANIZATIONS: [(&str, Option<&str>, &str); 14] = [
    ("harbour_works", Some("harbour-works"), "Harbour Works"),
    ("lantern_and_loom", Some("lantern-and-loom"), "Lantern & Loom"),
    ("northfold_bakery", Some("northfold-bakery"), "Northfold Bakery"),
    ("quillmark_press", Some("quillmark-press"), "Quillmark Press"),
    ("tidewell_energy", Some("tidewell-energy"), "Tidewell Energy"),
    ("bramble_street_clinic", Some("bramble-street-clinic"), "Bramble Street Clinic"),
    ("copperline_rail", Some("copperline-rail"), "Copperline Rail"),
    ("fennel_and_finch", Some("fennel-and-finch"), "Fennel & Finch"),
    ("saltmarsh_studio", Some("saltmarsh-studio"), "Saltmarsh Studio"),
    ("orchard_nine", Some("orchard-nine"), "Orchard Nine"),
    ("pinegate_logistics", Some("pinegate-logistics"), "Pinegate Logistics"),
    ("velvet_anvil", Some("velvet-anvil"), "Velvet Anvil"),
    ("willow_ledger", Some("willow-ledger"), "Willow Ledger"),
    ("quiet_room", None, "Quiet Room"),
];

/// Id behind `user_`, first name, last name.
const USERS: [(&str, &str, &str); 6] = [
    ("ada", "Ada", "Farrowby"),
    ("noor", "Noor", "Calderstone"),
    ("tomas", "Tomas", "Wrenfield"),
    ("mei", "Mei", "Oakhollow"),
    ("kofi", "Kofi", "Brightwater"),
    ("ivo", "Ivo", "Marlpit"),
];

/// User, organization, role. Ada is in the first twelve, Tomas in none.
const MEMBERSHIPS: [(&str, &str, &str); 20] = [
    ("ada", "harbour_works", "org:admin"),
    ("ada", "lantern_and_loom", "org:admin"),
    ("ada", "northfold_bakery", "org:member"),
    ("ada", "quillmark_press", "org:member"),
    ("ada", "tidewell_energy", "org:admin"),
    ("ada", "bramble_street_clinic", "org:member"),
    ("ada", "copperline_rail", "org:admin"),
    ("ada", "fennel_and_finch", "org:member"),
    ("ada", "saltmarsh_studio", "org:member"),
    ("ada", "orchard_nine", "org:admin"),
    ("ada", "pinegate_logistics", "org:member"),
    ("ada", "velvet_anvil", "org:member"),
    ("noor", "harbour_works", "org:member"),
    ("noor", "lantern_and_loom", "org:admin"),
    ("mei", "tidewell_energy", "org:billing_manager"),
    ("mei", "copperline_rail", "org:member"),
    ("mei", "quiet_room", "org:admin"),
    ("kofi", "northfold_bakery", "org:member"),
    ("kofi", "willow_ledger", "org:admin"),
    ("ivo", "quillmark_press", "org:admin"),
];

impl World {
    /// Fourteen organizations and six users: Ada is in twelve, Noor is an admin here and a member there, Tomas is in none.
    pub fn small() -> Self {
        let mut world = Self::new();
        world.seed(Self::people).expect("the lists above name nobody twice and nobody who is not in them");
        world
    }

    fn people(&mut self) -> Result<(), WorldError> {
        for (id, first, last) in USERS {
            let (first_name, last_name) = (Some(first.to_owned()), Some(last.to_owned()));
            self.create_user(NewUser { id: Some(format!("user_{id}")), first_name, last_name, email: None })?;
        }
        for (id, slug, name) in ORGANIZATIONS {
            let (slug, name) = (slug.map(str::to_owned), name.to_owned());
            self.create_organization(NewOrganization { id: Some(format!("org_{id}")), name, slug, created_by: None })?;
        }
        for (user, organization, role) in MEMBERSHIPS {
            let id = format!("orgmem_{user}_{organization}");
            self.grant_as(id, &format!("user_{user}"), &format!("org_{organization}"), role)?;
        }
        Ok(())
    }
}
