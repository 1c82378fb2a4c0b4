//! A crowd to which things happen at random, each noted in the history as it happens at the origin.

use std::time::Instant;

use rollcall::dev::{AsOf, Message, NewOrganization, NewUser, World as ClerkWorld};

use super::dice::Dice;
use super::history::{Event, History};

/// How many there are.
pub const USERS: usize = 40;
pub const ORGANIZATIONS: usize = 12;
pub const ROLES: [&str; 3] = ["org:admin", "org:member", "org:billing_manager"];

/// A world in which everybody is in a third of the organizations.
pub fn crowd(dice: &mut Dice) -> ClerkWorld {
    let mut world = ClerkWorld::new();
    world.set_cascades(dice.chance(50));
    world.seed(|world| {
        for n in 0..ORGANIZATIONS {
            let (id, slug) = (Some(organization(n)), Some(format!("slug-{n}")));
            let new = NewOrganization { id, name: format!("Organization {n}"), slug, created_by: None };
            world.create_organization(new).expect("a new organization");
        }
        for n in 0..USERS {
            world.create_user(NewUser { id: Some(user(n)), ..NewUser::default() }).expect("a new user");
            for at in 0..ORGANIZATIONS {
                if dice.chance(66) {
                    continue;
                }
                let role = *dice.pick(&ROLES);
                world.grant(&user(n), &organization(at), role).expect("a new member");
            }
        }
    });
    world
}

/// The id of a user.
pub fn user(n: usize) -> String {
    format!("user_{n}")
}

/// The id of an organization that was there from the beginning.
pub fn organization(n: usize) -> String {
    format!("org_{n}")
}

/// One change at the origin, noted as it happens.
pub struct Change<'a> {
    pub world: &'a mut ClerkWorld,
    pub history: &'a mut History,
    pub began: Instant,
}

impl Change<'_> {
    /// Something happens to the user in the organization: a join, an end, or another role.
    pub fn join_or_leave(&mut self, user: &str, organization: &str, dice: &mut Dice) -> Option<(Event, Vec<Message>)> {
        self.world.user(user, AsOf::Now)?;
        let role = *dice.pick(&ROLES);
        let done = match self.world.membership(user, organization).map(|row| row.role.clone()) {
            None => self.world.grant(user, organization, role).expect("no member yet"),
            Some(current) if current != role && dice.chance(45) => {
                self.world.change_role(user, organization, role).expect("a member")
            }
            Some(_) => self.world.revoke(user, organization).expect("a member"),
        };
        Some((self.of_user(user), done.messages))
    }

    /// The organization has another name, perhaps another slug.
    pub fn rename(&mut self, organization: &str, dice: &mut Dice) -> Option<(Event, Vec<Message>)> {
        let name = format!("Name {}", dice.below(1_000));
        // Some slugs have been somebody else's.
        let slug = format!("slug-{}", dice.below(30));
        let slug = Some(slug).filter(|slug| dice.chance(50) && self.world.organization(slug, AsOf::Now).is_none());
        let done = self.world.rename(organization, Some(&name), slug.as_deref()).expect("a living organization");
        Some((self.of_organization(organization), done.messages))
    }

    /// Deletes an organization and makes another one, which may take over its slug; answers its id too.
    pub fn replace(&mut self, organization: &str, dice: &mut Dice) -> (Event, Vec<Message>, String) {
        let slug = self.world.organization(organization, AsOf::Now).and_then(|row| row.slug.clone());
        let done = self.world.delete_organization(organization).expect("a living organization");
        let event = self.of_organization(organization);
        let slug = slug.filter(|_| dice.chance(70));
        let new = NewOrganization { id: None, name: "Successor".to_owned(), slug, created_by: None };
        let made = self.world.create_organization(new).expect("a free slug");
        let born = self.of_organization(&made.id);
        self.history.acknowledge(born);
        (event, done.messages, made.id)
    }

    /// The user is gone for good, and another one comes; answers the id of that one too.
    pub fn replace_user(&mut self, user: &str) -> (Event, Vec<Message>, String) {
        let mut done = self.world.delete_user(user).expect("a living user");
        let event = self.of_user(user);
        let new = self.world.create_user(NewUser::default()).expect("a new user");
        let born = self.of_user(&new.id);
        // Nobody was told anything of them yet.
        self.history.acknowledge(born);
        done.messages.extend(new.messages);
        (event, done.messages, new.id)
    }

    fn of_user(&mut self, user: &str) -> Event {
        let event = self.history.happened(self.began);
        self.history.note_user(event, self.world, user);
        event
    }

    fn of_organization(&mut self, organization: &str) -> Event {
        let event = self.history.happened(self.began);
        self.history.note_organization(event, self.world, organization);
        event
    }
}
