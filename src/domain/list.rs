//! A user's memberships, ready to be answered: the JSON body made once, with an index into it for checks.

use std::ops::Range;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::ids::OrganizationRef;
use super::membership::{Membership, MembershipsError, decode_memberships, encode_memberships};

/// A complete list of one user's memberships, in the origin's order. A clone shares the bytes.
///
/// Checks compare against `keys`, the unescaped ids, slugs and roles one after another, and answer with a slice of the
/// body: neither parses nor copies.
#[derive(Debug, Clone)]
pub struct List {
    body: Bytes,
    keys: std::sync::Arc<str>,
    rows: std::sync::Arc<[Row]>,
    digest: [u8; 16],
}

#[derive(Debug)]
struct Row {
    body: Range<u32>,
    id: Range<u32>,
    slug: Option<Range<u32>>,
    role: Range<u32>,
    organization_updated_at: i64,
}

/// What looking an organization up in a list found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The row.
    At(usize),
    /// No such membership.
    Absent,
    /// A slug that two memberships carry; the row is the one whose organization changed last.
    Ambiguous(usize),
}

impl List {
    /// Writes the body and its index.
    pub fn new(memberships: &[Membership]) -> Self {
        let body = encode_memberships(memberships);
        Self::indexed(Bytes::from(body), memberships)
    }

    /// Reads a stored body; what does not parse, or is not spelled as this release spells it, is re-written.
    pub fn decode(body: &[u8]) -> Result<Self, MembershipsError> {
        decode_memberships(body).map(|memberships| Self::new(&memberships))
    }

    fn indexed(body: Bytes, memberships: &[Membership]) -> Self {
        let mut keys = String::new();
        let mut key = |text: &str| {
            let start = keys.len() as u32;
            keys.push_str(text);
            start..keys.len() as u32
        };
        let mut start = 1; // behind the opening bracket
        let rows = memberships
            .iter()
            .map(|membership| {
                let length = serde_json::to_vec(membership).expect("strings and integers always serialise").len() as u32;
                let body = start..start + length;
                start = body.end + 1; // behind the comma
                Row {
                    body,
                    id: key(membership.organization_id.as_str()),
                    slug: membership.organization_slug.as_deref().map(&mut key),
                    role: key(&membership.role),
                    organization_updated_at: membership.organization_updated_at,
                }
            })
            .collect();
        Self { digest: digest_of(&body), body, keys: keys.into(), rows }
    }

    /// The JSON array.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The first half of the body's SHA-256: ties a shared value to its guard, and makes the ETag.
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// How many memberships.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the user is in no organization: a "no" like any other.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes held, for the limit of the local tier.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.keys.len() + self.rows.len() * size_of::<Row>()
    }

    /// Looks up an organization by id, or by slug compared exactly.
    pub fn find(&self, organization: &OrganizationRef) -> Found {
        match organization {
            OrganizationRef::Id(id) => {
                let row = self.rows.iter().position(|row| self.key(&row.id) == id.as_str());
                row.map_or(Found::Absent, Found::At)
            }
            OrganizationRef::Slug(slug) => self.find_slug(slug.as_str()),
        }
    }

    fn find_slug(&self, slug: &str) -> Found {
        let mut matching =
            self.rows.iter().enumerate().filter(|(_, row)| row.slug.as_ref().is_some_and(|span| self.key(span) == slug));
        let Some((first, _)) = matching.next() else { return Found::Absent };
        match matching.max_by_key(|(_, row)| row.organization_updated_at) {
            None => Found::At(first),
            Some((other, row)) if row.organization_updated_at > self.rows[first].organization_updated_at => {
                Found::Ambiguous(other)
            }
            Some(_) => Found::Ambiguous(first),
        }
    }

    /// The JSON object of one row.
    pub fn membership(&self, row: usize) -> Bytes {
        let Range { start, end } = self.rows[row].body;
        self.body.slice(start as usize..end as usize)
    }

    /// The role of one row.
    pub fn role(&self, row: usize) -> &str {
        self.key(&self.rows[row].role)
    }

    /// The memberships as values, for the facts to be applied to.
    pub fn memberships(&self) -> Vec<Membership> {
        decode_memberships(&self.body).expect("the body was written by this type")
    }

    fn key(&self, span: &Range<u32>) -> &str {
        &self.keys[span.start as usize..span.end as usize]
    }
}

/// The first half of SHA-256 over `bytes`.
pub fn digest_of(bytes: &[u8]) -> [u8; 16] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{MembershipId, OrganizationId, Slug};

    fn membership(n: usize, slug: Option<&str>, updated_at: i64) -> Membership {
        Membership {
            organization_id: OrganizationId::parse(&format!("org_{n}")).expect("id"),
            organization_slug: slug.map(str::to_owned),
            organization_name: format!("Name \"{n}\" \\ ü"),
            role: format!("org:\"role\" {n}"),
            image_url: None,
            membership_id: MembershipId::parse(&format!("orgmem_{n}")).expect("id"),
            created_at: 1,
            updated_at: 2,
            organization_updated_at: updated_at,
        }
    }

    fn slug(text: &str) -> OrganizationRef {
        OrganizationRef::Slug(Slug::parse(text).expect("slug"))
    }

    #[test]
    fn every_row_is_a_slice_of_the_body() {
        let memberships: Vec<_> = (0..5).map(|n| membership(n, (n % 2 == 0).then_some("s"), 1)).collect();
        let list = List::new(&memberships);
        for (row, expected) in memberships.iter().enumerate() {
            let read: Membership = serde_json::from_slice(&list.membership(row)).expect("one membership");
            assert_eq!(&read, expected);
            assert_eq!(list.role(row), expected.role);
            assert_eq!(list.find(&OrganizationRef::Id(expected.organization_id.clone())), Found::At(row));
        }
        assert_eq!(list.memberships(), memberships);
        assert_eq!(List::decode(list.body()).expect("own spelling").digest(), list.digest());
    }

    #[test]
    fn a_slug_that_two_memberships_carry_is_ambiguous_and_the_newer_organization_is_named() {
        let list = List::new(&[membership(0, Some("old"), 5), membership(1, Some("same"), 7), membership(2, Some("same"), 9)]);
        assert_eq!(list.find(&slug("old")), Found::At(0));
        assert_eq!(list.find(&slug("same")), Found::Ambiguous(2));
        assert_eq!(list.find(&slug("none")), Found::Absent);
        assert_eq!(List::new(&[]).find(&slug("old")), Found::Absent);
    }
}
