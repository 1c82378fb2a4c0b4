//! What happened at the origin: all in which its world differs from what the history knows.

use std::collections::HashSet;
use std::time::Instant;

use rollcall::dev::{AsOf, Done, World as ClerkWorld};

use super::{Event, History, Life, Membership, Profile};

impl History {
    /// Something was done in the world, begun then, whatever it was.
    pub fn note(&mut self, began: Instant, world: &ClerkWorld, done: &Done) -> Event {
        let event = self.happened(began);
        let organizations: Vec<_> = self.organizations.keys().cloned().chain([done.id.clone()]).collect();
        organizations.iter().for_each(|id| self.note_organization(event, world, id));
        let users: Vec<_> = self.users.keys().cloned().chain([done.id.clone()]).collect();
        users.iter().for_each(|user| self.note_user(event, world, user));
        event
    }

    /// The user came or went, joined or left, or has other roles.
    pub fn note_user(&mut self, event: Event, world: &ClerkWorld, user: &str) {
        let Some(rows) = world.memberships(user, AsOf::Now) else { return self.note_death(event, user) };
        let newborn = || Life { born: event, died: None, memberships: Vec::new() };
        let life = self.users.entry(user.to_owned()).or_insert_with(newborn);
        let living: HashSet<_> = rows.iter().map(|row| row.id.as_str()).collect();
        for id in life.memberships.iter().filter(|id| !living.contains(id.as_str())) {
            self.memberships.get_mut(id).expect("a membership").ended.get_or_insert(event);
        }
        for row in rows {
            let membership = self.memberships.entry(row.id.clone()).or_insert_with(|| {
                life.memberships.push(row.id.clone());
                let (user, organization) = (row.user.clone(), row.organization.clone());
                Membership { user, organization, granted: event, roles: Vec::new(), ended: None }
            });
            if membership.roles.last().is_none_or(|(at, role, _)| (*at, role) != (row.updated_at, &row.role)) {
                membership.roles.push((row.updated_at, row.role.clone(), event));
            }
        }
    }

    /// The organization came to be, has another name or slug, or ended with all its memberships.
    pub fn note_organization(&mut self, event: Event, world: &ClerkWorld, id: &str) {
        let Some(row) = world.organization(id, AsOf::Now) else {
            if self.organizations.contains_key(id) {
                self.dissolved.entry(id.to_owned()).or_insert(event);
                self.end_all(event, |membership| membership.organization == id);
            }
            return;
        };
        let profiles = self.organizations.entry(id.to_owned()).or_default();
        if profiles.last().is_none_or(|last| last.updated_at != row.updated_at) {
            let (name, slug) = (row.name.clone(), row.slug.clone());
            profiles.push(Profile { updated_at: row.updated_at, name, slug, since: event });
        }
    }

    fn note_death(&mut self, event: Event, user: &str) {
        if let Some(life) = self.users.get_mut(user) {
            life.died.get_or_insert(event);
            self.end_all(event, |membership| membership.user == user);
        }
    }

    fn end_all(&mut self, event: Event, is_meant: impl Fn(&Membership) -> bool) {
        for membership in self.memberships.values_mut().filter(|membership| is_meant(membership)) {
            membership.ended.get_or_insert(event);
        }
    }
}
