//! The world behind the stand-in: organizations, users, memberships, sessions, and what they were a moment ago.
//!
//! Verbs (`verbs.rs`) change it and answer with the messages that Clerk would send about it; the world sends nothing, so the
//! caller decides what is delivered, lost, doubled or late. Look-ups answer as of now or as of a moment ago. No I/O.

mod rows;
pub(crate) mod shapes;
mod small;
mod timeline;
mod verbs;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use serde_json::{Value, json};

pub use rows::{Done, Membership, Message, NewOrganization, NewUser, Organization, Page, Session, SessionEnd, User, WorldError};
pub use timeline::AsOf;
use timeline::Timeline;

/// When the initial world began: 2026-01-01, in milliseconds. Fixed, so that fixtures can name what is in it.
pub const EPOCH_MS: i64 = 1_767_225_600_000;
/// The Clerk instance that the stand-in plays; also the id of its signing key.
pub const INSTANCE_ID: &str = "ins_rollcall_stand_in";
/// How far back a read can be answered from.
pub const LAG_MS_MAX: u64 = 600_000;
/// Users, organizations and sessions of a world, each.
const ROWS_MAX: usize = 200_000;
/// Memberships of a world, those that ended within the lag included.
const MEMBERSHIPS_MAX: usize = 1_000_000;
/// Rows shown by a description of the world.
const SHOWN_MAX: usize = 1_000;

/// A Clerk instance's users and organizations.
#[derive(Debug, Default)]
pub struct World {
    users: HashMap<String, Timeline<User>>,
    organizations: HashMap<String, Timeline<Organization>>,
    memberships: HashMap<String, Timeline<Membership>>,
    sessions: HashMap<String, Session>,
    /// Memberships of a user, those that ended within the lag included.
    of_user: HashMap<String, Vec<String>>,
    /// Living memberships of an organization.
    of_organization: HashMap<String, BTreeSet<String>>,
    /// Slugs of living organizations.
    slugs: HashMap<String, String>,
    cascades: bool,
    clock: WorldClock,
}

/// Clerk's time in this world: every write has a moment of its own, so that "newer" is never a tie.
#[derive(Debug, Default)]
struct WorldClock {
    is_seeding: bool,
    seeded: i64,
    last: i64,
    serial: u64,
}

impl WorldClock {
    /// The time of the next write, milliseconds: a second after the one before while seeding, else now.
    fn tick(&mut self) -> i64 {
        self.serial += 1;
        if self.is_seeding {
            self.seeded += 1_000;
            return EPOCH_MS + self.seeded;
        }
        self.last = wall_ms().max(self.last + 1);
        self.last
    }
}

impl World {
    /// A world with nobody in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether deleting a user or organization also announces the end of each membership. Clerk's documents leave it open;
    /// off, because it is the harder case.
    pub fn set_cascades(&mut self, cascades: bool) {
        self.cascades = cascades;
    }

    /// Runs verbs as if it were January 2026: the same verbs make the same ids and times in every run.
    pub fn seed<T>(&mut self, verbs: impl FnOnce(&mut Self) -> T) -> T {
        let was_seeding = std::mem::replace(&mut self.clock.is_seeding, true);
        let result = verbs(self);
        self.clock.is_seeding = was_seeding;
        result
    }

    /// Puts a user, made if missing, into `count` organizations (`crowd-0001` …, made if missing, shared by all such users).
    pub fn put_into(&mut self, user: &str, count: usize) -> Result<(), WorldError> {
        self.seed(|world| {
            if world.user(user, AsOf::Now).is_none() {
                world.create_user(NewUser { id: Some(user.to_owned()), ..NewUser::default() })?;
            }
            for n in 1..=count {
                let slug = format!("crowd-{n:04}");
                if !world.slugs.contains_key(&slug) {
                    let id = Some(format!("org_crowd_{n:04}"));
                    let name = format!("Crowd {n:04}");
                    world.create_organization(NewOrganization { id, name, slug: Some(slug.clone()), created_by: None })?;
                }
                world.grant(user, &slug, "org:member")?;
            }
            Ok(())
        })
    }

    /// A user.
    pub fn user(&self, id: &str, as_of: AsOf) -> Option<&User> {
        self.users.get(id)?.get(as_of)
    }

    /// An organization, by id or by the slug it has now.
    pub fn organization(&self, id_or_slug: &str, as_of: AsOf) -> Option<&Organization> {
        let id = self.slugs.get(id_or_slug).map_or(id_or_slug, String::as_str);
        self.organizations.get(id)?.get(as_of)
    }

    /// A session that has not ended.
    pub fn session(&self, id: &str) -> Result<&Session, WorldError> {
        self.sessions.get(id).ok_or_else(|| WorldError::SessionUnknown(id.to_owned()))
    }

    /// The living membership of a user in an organization (id or slug).
    pub fn membership(&self, user: &str, organization: &str) -> Option<&Membership> {
        let organization = &self.organization(organization, AsOf::Now)?.id;
        self.living(user).find(|membership| membership.organization == *organization)
    }

    /// All memberships of a user, newest first; none if there is no such user.
    pub fn memberships(&self, user: &str, as_of: AsOf) -> Option<Vec<&Membership>> {
        self.user(user, as_of)?;
        let ids = self.of_user.get(user).map(Vec::as_slice).unwrap_or_default();
        let row = |id: &String| self.memberships.get(id)?.get(as_of);
        let is_there = |membership: &&Membership| self.organization(&membership.organization, as_of).is_some();
        let mut rows: Vec<&Membership> = ids.iter().filter_map(row).filter(is_there).collect();
        rows.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
        Some(rows)
    }

    /// One page of them, as the API answers it.
    pub fn page(&self, user: &str, limit: usize, offset: usize, as_of: AsOf) -> Option<Page> {
        let rows = self.memberships(user, as_of)?;
        let data = rows.iter().skip(offset).take(limit).filter_map(|row| self.shape(row, as_of)).collect();
        Some(Page { data, total_count: rows.len() as i64 })
    }

    /// A user as the API answers it.
    pub fn user_shape(&self, id: &str, as_of: AsOf) -> Option<Value> {
        self.user(id, as_of).map(shapes::user)
    }

    /// An organization as the API answers it.
    pub fn organization_shape(&self, id_or_slug: &str, as_of: AsOf) -> Option<Value> {
        self.organization(id_or_slug, as_of).map(|row| shapes::organization(row, self.members(&row.id)))
    }

    /// The world for people: who is where with which role. The first 1,000 of each.
    pub fn describe(&self) -> Value {
        let mut users: Vec<&User> = self.users.values().filter_map(Timeline::now).collect();
        let mut organizations: Vec<&Organization> = self.organizations.values().filter_map(Timeline::now).collect();
        users.sort_by_key(|user| (user.created_at, &user.id));
        organizations.sort_by_key(|organization| (organization.created_at, &organization.id));
        let is_truncated = users.len().max(organizations.len()) > SHOWN_MAX;
        let organizations = organizations
            .into_iter()
            .take(SHOWN_MAX)
            .map(|row| json!({"id": row.id, "name": row.name, "slug": row.slug, "members": self.members(&row.id)}));
        let organizations: Vec<Value> = organizations.collect();
        let users: Vec<Value> = users.into_iter().take(SHOWN_MAX).map(|user| self.describe_user(user)).collect();
        json!({"instanceId": INSTANCE_ID, "isTruncated": is_truncated, "organizations": organizations, "users": users})
    }

    fn describe_user(&self, user: &User) -> Value {
        let membership = |row: &Membership| {
            let slug = self.organization(&row.organization, AsOf::Now).and_then(|row| row.slug.as_deref());
            json!({"id": row.id, "organization": row.organization, "slug": slug, "role": row.role})
        };
        let rows = self.memberships(&user.id, AsOf::Now).unwrap_or_default();
        let memberships: Vec<Value> = rows.into_iter().take(SHOWN_MAX).map(membership).collect();
        json!({"id": user.id, "firstName": user.first_name, "isBanned": user.is_banned, "memberships": memberships})
    }

    fn shape(&self, row: &Membership, as_of: AsOf) -> Option<Value> {
        let organization = self.organization(&row.organization, as_of)?;
        let user = self.user(&row.user, as_of)?;
        Some(shapes::membership(row, organization, self.members(&organization.id), user))
    }

    fn living(&self, user: &str) -> impl Iterator<Item = &Membership> {
        let ids = self.of_user.get(user).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| self.memberships.get(id)?.now())
    }

    fn members(&self, organization: &str) -> usize {
        self.of_organization.get(organization).map_or(0, BTreeSet::len)
    }
}

/// A world that several hands hold: the server's, the test's.
#[derive(Debug, Clone)]
pub struct WorldHandle(Arc<Mutex<World>>);

impl WorldHandle {
    /// Shares a world.
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// Guards the world for one look or one verb; never held over an await.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        // A test that failed while holding it says enough; the world is changed in whole verbs.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> i64 {
    i64::try_from(crate::clock::wall().as_millis()).unwrap_or(i64::MAX)
}

/// An id that looks like Clerk's: a prefix and 27 letters and digits, made of the moment and a serial number.
fn made_up_id(prefix: &str, at: i64, serial: u64) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = digest::digest(&digest::SHA256, format!("{prefix} {at} {serial}").as_bytes());
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    format!("{prefix}_{}", digest.as_ref().iter().take(27).map(letter).collect::<String>())
}

#[cfg(test)]
mod tests;
