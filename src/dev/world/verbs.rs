//! What can happen in the world. Each verb changes it whole or not at all, and answers with the messages Clerk would send.
//!
//! Called by tests and by the stand-in's world API. Upholds I12: rows are counted, memberships that ended are forgotten
//! once no read can see them.

use serde_json::Value;

use super::rows::{Done, Membership, Message, NewOrganization, NewUser, Organization, Session, SessionEnd, User, WorldError};
use super::timeline::{AsOf, Timeline};
use super::{LAG_MS_MAX, MEMBERSHIPS_MAX, ROWS_MAX, World, made_up_id, shapes};
use crate::dev::sign::fresh_message_id;
use crate::domain::{OrganizationId, Role, Slug, UserId};

type Verb = Result<Done, WorldError>;

impl World {
    /// A user signs up, into no organization.
    pub fn create_user(&mut self, new: NewUser) -> Verb {
        room_for("users", self.users.len(), ROWS_MAX)?;
        let at = self.clock.tick();
        let id = new.id.unwrap_or_else(|| made_up_id("user", at, self.clock.serial));
        well_formed(&id, UserId::parse(&id).map_err(|error| error.what))?;
        free(&id, self.users.contains_key(&id))?;
        let first_name = new.first_name.unwrap_or_else(|| "Nobody".to_owned());
        let email = new.email.unwrap_or_else(|| format!("{}@example.test", id.trim_start_matches("user_").to_lowercase()));
        let last_name = new.last_name.unwrap_or_else(|| "Example".to_owned());
        let user = User { id: id.clone(), first_name, last_name, email, is_banned: false, created_at: at, updated_at: at };
        let messages = vec![message("user.created", at, &shapes::user(&user))];
        self.users.insert(id.clone(), Timeline::new(at, user));
        Ok(Done { id, messages })
    }

    /// A user gets another first name.
    pub fn rename_user(&mut self, user: &str, first_name: &str) -> Verb {
        self.update_user(user, |row| first_name.clone_into(&mut row.first_name))
    }

    /// A user is banned: every session of theirs ends.
    pub fn ban(&mut self, user: &str) -> Verb {
        let mut done = self.update_user(user, |row| row.is_banned = true)?;
        done.messages.extend(self.end_sessions_of(user));
        Ok(done)
    }

    /// A ban is lifted.
    pub fn unban(&mut self, user: &str) -> Verb {
        self.update_user(user, |row| row.is_banned = false)
    }

    /// A user is deleted, with every membership and session. The id is never free again.
    pub fn delete_user(&mut self, user: &str) -> Verb {
        self.living_user(user)?;
        let ids: Vec<String> = self.living(user).map(|row| row.id.clone()).collect();
        let at = self.clock.tick();
        let ended: Vec<Message> = ids.iter().filter_map(|id| self.end_membership(id, at)).collect();
        let sessions = self.end_sessions_of(user);
        if let Some(row) = self.users.get_mut(user) {
            row.push(at, None);
        }
        let mut messages = vec![message("user.deleted", at, &shapes::deleted("user", user))];
        if self.cascades {
            messages.extend(ended);
            messages.extend(sessions);
        }
        Ok(Done { id: user.to_owned(), messages })
    }

    /// An organization is created; its creator, if named, becomes its admin.
    pub fn create_organization(&mut self, new: NewOrganization) -> Verb {
        room_for("organizations", self.organizations.len(), ROWS_MAX)?;
        let slug = new.slug.filter(|slug| !slug.is_empty());
        if let Some(slug) = &slug {
            self.free_slug(slug)?;
        }
        if let Some(user) = &new.created_by {
            self.living_user(user)?;
        }
        let at = self.clock.tick();
        let id = new.id.unwrap_or_else(|| made_up_id("org", at, self.clock.serial));
        well_formed(&id, OrganizationId::parse(&id).map_err(|error| error.what))?;
        free(&id, self.organizations.contains_key(&id))?;
        let row = Organization {
            id: id.clone(),
            name: new.name,
            slug: slug.clone(),
            created_by: new.created_by.clone(),
            created_at: at,
            updated_at: at,
        };
        let mut messages = vec![message("organization.created", at, &shapes::organization(&row, 0))];
        self.organizations.insert(id.clone(), Timeline::new(at, row));
        self.slugs.extend(slug.map(|slug| (slug, id.clone())));
        if let Some(user) = &new.created_by {
            messages.extend(self.grant(user, &id, "org:admin")?.messages);
        }
        Ok(Done { id, messages })
    }

    /// An organization gets another name, another slug (an empty one takes it away), or both.
    pub fn rename(&mut self, organization: &str, name: Option<&str>, slug: Option<&str>) -> Verb {
        let mut row = self.living_organization(organization)?.clone();
        if let Some(slug) = slug.filter(|slug| !slug.is_empty() && row.slug.as_deref() != Some(*slug)) {
            self.free_slug(slug)?;
        }
        let at = self.clock.tick();
        row.updated_at = at;
        if let Some(name) = name {
            name.clone_into(&mut row.name);
        }
        if let Some(slug) = slug {
            let old = std::mem::replace(&mut row.slug, Some(slug.to_owned()).filter(|slug| !slug.is_empty()));
            old.and_then(|old| self.slugs.remove(&old));
            self.slugs.extend(row.slug.clone().map(|slug| (slug, row.id.clone())));
        }
        let data = shapes::organization(&row, self.members(&row.id));
        let id = row.id.clone();
        if let Some(versions) = self.organizations.get_mut(&id) {
            versions.push(at, Some(row));
        }
        Ok(Done { id, messages: vec![message("organization.updated", at, &data)] })
    }

    /// An organization is deleted, with every membership. Its slug is free for another one.
    pub fn delete_organization(&mut self, organization: &str) -> Verb {
        let row = self.living_organization(organization)?.clone();
        let members: Vec<String> = self.of_organization.get(&row.id).into_iter().flatten().cloned().collect();
        // One moment for all of it: a moment for each would be times yet to come.
        let at = self.clock.tick();
        let ended: Vec<Message> = members.iter().filter_map(|id| self.end_membership(id, at)).collect();
        if let Some(versions) = self.organizations.get_mut(&row.id) {
            versions.push(at, None);
        }
        row.slug.and_then(|slug| self.slugs.remove(&slug));
        self.of_organization.remove(&row.id);
        let mut messages = vec![message("organization.deleted", at, &shapes::deleted("organization", &row.id))];
        messages.extend(ended.into_iter().filter(|_| self.cascades));
        Ok(Done { id: row.id, messages })
    }

    /// A user joins an organization (id or slug) with a role. Who joins again gets a new membership.
    pub fn grant(&mut self, user: &str, organization: &str, role: &str) -> Verb {
        let id = made_up_id("orgmem", self.clock.tick(), self.clock.serial);
        self.grant_as(id, user, organization, role)
    }

    /// The same, with a membership id of the caller's choice.
    pub(super) fn grant_as(&mut self, id: String, user: &str, organization: &str, role: &str) -> Verb {
        room_for("memberships", self.memberships.len(), MEMBERSHIPS_MAX)?;
        well_formed(role, Role::parse(role).map_err(|error| error.what))?;
        self.living_user(user)?;
        let organization = self.living_organization(organization)?.id.clone();
        if self.living(user).any(|row| row.organization == organization) {
            return Err(WorldError::AlreadyAMember { user: user.to_owned(), organization });
        }
        let at = self.clock.tick();
        let (user, role) = (user.to_owned(), role.to_owned());
        let row = Membership { id: id.clone(), user: user.clone(), organization, role, created_at: at, updated_at: at };
        self.forget_ended(&user, at);
        self.of_user.entry(user).or_default().push(id.clone());
        self.of_organization.entry(row.organization.clone()).or_default().insert(id.clone());
        let messages = self.announce("organizationMembership.created", at, &row);
        self.memberships.insert(id.clone(), Timeline::new(at, row));
        Ok(Done { id, messages })
    }

    /// A member gets another role.
    pub fn change_role(&mut self, user: &str, organization: &str, role: &str) -> Verb {
        well_formed(role, Role::parse(role).map_err(|error| error.what))?;
        let mut row = self.member(user, organization)?.clone();
        let at = self.clock.tick();
        role.clone_into(&mut row.role);
        row.updated_at = at;
        let messages = self.announce("organizationMembership.updated", at, &row);
        let id = row.id.clone();
        if let Some(versions) = self.memberships.get_mut(&id) {
            versions.push(at, Some(row));
        }
        Ok(Done { id, messages })
    }

    /// A membership ends.
    pub fn revoke(&mut self, user: &str, organization: &str) -> Verb {
        let id = self.member(user, organization)?.id.clone();
        let at = self.clock.tick();
        let messages = self.end_membership(&id, at).into_iter().collect();
        Ok(Done { id, messages })
    }

    /// A user signs in.
    pub fn start_session(&mut self, user: &str) -> Verb {
        room_for("sessions", self.sessions.len(), ROWS_MAX)?;
        let of = self.living_user(user)?.clone();
        let at = self.clock.tick();
        let id = made_up_id("sess", at, self.clock.serial);
        let row = Session { id: id.clone(), user: of.id.clone(), status: "active", created_at: at, updated_at: at };
        let messages = vec![message("session.created", at, &shapes::session(&row, Some(&of)))];
        self.sessions.insert(id.clone(), row);
        Ok(Done { id, messages })
    }

    /// A session ends.
    pub fn end_session(&mut self, session: &str, how: SessionEnd) -> Verb {
        let at = self.clock.tick();
        let mut row = self.sessions.remove(session).ok_or_else(|| WorldError::SessionUnknown(session.to_owned()))?;
        row.status = how.status();
        row.updated_at = at;
        let data = shapes::session(&row, self.user(&row.user, AsOf::Now));
        Ok(Done { id: row.id, messages: vec![message(how.event_type(), at, &data)] })
    }

    fn update_user(&mut self, user: &str, change: impl FnOnce(&mut User)) -> Verb {
        let mut row = self.living_user(user)?.clone();
        let at = self.clock.tick();
        change(&mut row);
        row.updated_at = at;
        let messages = vec![message("user.updated", at, &shapes::user(&row))];
        if let Some(versions) = self.users.get_mut(user) {
            versions.push(at, Some(row));
        }
        Ok(Done { id: user.to_owned(), messages })
    }

    fn end_sessions_of(&mut self, user: &str) -> Vec<Message> {
        let of_user = self.sessions.values().filter(|row| row.user == user);
        let mut ids: Vec<String> = of_user.map(|row| row.id.clone()).collect();
        ids.sort();
        let end = |id: &String| self.end_session(id, SessionEnd::Revoked).map(|done| done.messages).unwrap_or_default();
        ids.iter().flat_map(end).collect()
    }

    /// Ends a living membership. The message tells the role and times it had: Clerk does not advance `updated_at` either.
    fn end_membership(&mut self, id: &str, at: i64) -> Option<Message> {
        let row = self.memberships.get(id)?.now()?.clone();
        self.memberships.get_mut(id)?.push(at, None);
        if let Some(members) = self.of_organization.get_mut(&row.organization) {
            members.remove(id);
        }
        self.announce("organizationMembership.deleted", at, &row).pop()
    }

    fn announce(&self, event_type: &'static str, at: i64, row: &Membership) -> Vec<Message> {
        self.shape(row, AsOf::Now).iter().map(|data| message(event_type, at, data)).collect()
    }

    fn forget_ended(&mut self, user: &str, now: i64) {
        let Some(ids) = self.of_user.get_mut(user) else { return };
        let horizon = now - LAG_MS_MAX as i64;
        let (rows, is_old) = (&mut self.memberships, |row: &Timeline<Membership>| row.ended_before(horizon));
        ids.retain(|id| match rows.get(id).is_some_and(is_old) {
            true => rows.remove(id).is_none(),
            false => true,
        });
    }

    fn living_user(&self, id: &str) -> Result<&User, WorldError> {
        self.user(id, AsOf::Now).ok_or_else(|| WorldError::UserUnknown(id.to_owned()))
    }

    fn living_organization(&self, id_or_slug: &str) -> Result<&Organization, WorldError> {
        self.organization(id_or_slug, AsOf::Now).ok_or_else(|| WorldError::OrganizationUnknown(id_or_slug.to_owned()))
    }

    fn member(&self, user: &str, organization: &str) -> Result<&Membership, WorldError> {
        self.living_user(user)?;
        let organization = self.living_organization(organization)?.id.clone();
        let row = self.living(user).find(|row| row.organization == organization);
        row.ok_or_else(|| WorldError::NotAMember { user: user.to_owned(), organization })
    }

    fn free_slug(&self, slug: &str) -> Result<(), WorldError> {
        well_formed(slug, Slug::parse(slug).map_err(|error| error.what))?;
        let is_an_id = slug.starts_with("org_");
        free(slug, is_an_id || self.slugs.contains_key(slug))
    }
}

fn room_for(what: &'static str, held: usize, limit: usize) -> Result<(), WorldError> {
    if held < limit { Ok(()) } else { Err(WorldError::Full { what, limit }) }
}

fn message(event_type: &'static str, at: i64, data: &Value) -> Message {
    Message { id: fresh_message_id(), event_type, body: shapes::event(event_type, at, data) }
}

fn free(what: &str, is_taken: bool) -> Result<(), WorldError> {
    if is_taken { Err(WorldError::Taken(what.to_owned())) } else { Ok(()) }
}

/// Turns what the edge says of an id into what the world says of it: `what` is its kind, with an article.
fn well_formed<T>(value: &str, parsed: Result<T, &'static str>) -> Result<(), WorldError> {
    let refused = |what| WorldError::Malformed { value: value.to_owned(), what };
    parsed.map(|_| ()).map_err(refused)
}
