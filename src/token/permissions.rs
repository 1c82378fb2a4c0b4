//! The permissions of a version 2 token, packed: a list of permission names, and for each feature a number whose bits say
//! which of them are granted on it.
//!
//! Paired as documented: the n-th number belongs to the n-th feature of the whole list, whatever its scope. (Clerk's
//! JavaScript counts organization features only; the two differ when a user's feature stands before one of an organization.)
//! What is malformed grants nothing on its feature; a bit without a name grants nothing.

/// Decimal digits of a number: a thousand permissions and more. Longer ones are malformed.
const DIGITS_MAX: usize = 400;
const LIMB_BITS: usize = u32::BITS as usize;

/// `org:<feature>:<permission>` for every bit set. `features`: `o:ledger,u:beta`; `names`: `view,edit`; `masks`: `3,1`.
pub(super) fn unpack(features: &str, names: &str, masks: &str) -> Vec<String> {
    let names: Vec<&str> = names.split(',').collect();
    let features = features.split(',').zip(masks.split(','));
    let of_organization = features.filter_map(|(feature, mask)| Some((name_in_organization(feature)?, bits(mask)?)));
    of_organization.flat_map(|(feature, bits)| granted(feature, &names, &bits)).collect()
}

fn granted(feature: &str, names: &[&str], bits: &[u32]) -> Vec<String> {
    let is_set = |n: usize| bits.get(n / LIMB_BITS).is_some_and(|limb| limb >> (n % LIMB_BITS) & 1 == 1);
    let named = names.iter().enumerate().filter(|(n, name)| !name.is_empty() && is_set(*n));
    named.map(|(_, name)| format!("org:{feature}:{name}")).collect()
}

/// The feature behind its scopes, if an organization is among them: `o:`, `ou:`, `uo:`.
fn name_in_organization(feature: &str) -> Option<&str> {
    let (scopes, name) = feature.trim().split_once(':')?;
    (scopes.contains('o') && !name.is_empty()).then_some(name)
}

/// A decimal number of any size, in limbs from the lowest.
fn bits(decimal: &str) -> Option<Vec<u32>> {
    let is_number = (1..=DIGITS_MAX).contains(&decimal.len()) && decimal.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| decimal.bytes().fold(Vec::new(), |limbs, digit| times_ten_plus(limbs, u64::from(digit - b'0'))))
}

fn times_ten_plus(mut limbs: Vec<u32>, digit: u64) -> Vec<u32> {
    let mut carry = digit;
    for limb in &mut limbs {
        let product = u64::from(*limb) * 10 + carry;
        *limb = product as u32;
        carry = product >> LIMB_BITS;
    }
    if carry > 0 {
        limbs.push(carry as u32);
    }
    limbs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(features: &str, names: &str, masks: &str, expected: &[&str]) {
        assert_eq!(unpack(features, names, masks), expected, "{features} {names} {masks}");
    }

    #[test]
    fn bits_are_counted_from_the_lowest_and_features_by_place() {
        let both = ["org:ledger:view", "org:ledger:edit", "org:crew:view"];
        check("o:ledger,o:crew", "view,edit", "3,1", &both);
        check("o:ledger,o:crew", "view,edit", "0,2", &["org:crew:edit"]);
        check("ou:ledger,uo:crew", "view,edit", "3,1", &both);
    }

    #[test]
    fn a_feature_of_the_user_takes_its_place_in_the_list() {
        check("u:beta,o:crew", "read,manage", "0,3", &["org:crew:read", "org:crew:manage"]);
        check("u:beta,o:crew", "read,manage", "3,0", &[]);
        check("u:beta,o:crew", "read,manage", "3", &[]);
    }

    #[test]
    fn malformed_masks_grant_nothing_on_their_feature() {
        for mask in ["", "x", "-1", "+1", "1.0", "0x1", "1e3", " 1", "٣", "NaN"] {
            check("o:a,o:b", "view", &format!("{mask},1"), &["org:b:view"]);
        }
        check("o:a", "view", &"1".repeat(DIGITS_MAX + 1), &[]);
    }

    #[test]
    fn features_and_names_that_are_none_grant_nothing() {
        for features in ["", "a", "o", "o:", ":a", "u:a"] {
            check(features, "view", "1", &[]);
        }
        check("o:a", "", "1", &[]);
        check("o:a", "view,,edit", "7", &["org:a:view", "org:a:edit"]);
        check("o:a", "view", "7", &["org:a:view"]);
        check("o:a", "view", "1,1,1", &["org:a:view"]);
    }

    #[test]
    fn numbers_beyond_every_machine_word_keep_their_bits() {
        let names: Vec<String> = (0..200).map(|n| format!("p{n}")).collect();
        // 2^54 + 1, and 2^199: each found by long multiplication outside this program.
        check("o:a", &names.join(","), "18014398509481985", &["org:a:p0", "org:a:p54"]);
        let high = "803469022129495137770981046170581301261101496891396417650688";
        check("o:a", &names.join(","), high, &["org:a:p199"]);
    }

    proptest! {
        #[test]
        fn every_number_of_128_bits_unpacks_to_its_own_bits(mask: u128) {
            let names: Vec<String> = (0..128).map(|n| n.to_string()).collect();
            let set: Vec<String> = (0..128).filter(|n| mask >> n & 1 == 1).map(|n| format!("org:a:{n}")).collect();
            prop_assert_eq!(unpack("o:a", &names.join(","), &mask.to_string()), set);
        }

        #[test]
        fn nothing_panics_and_no_more_is_granted_than_names_times_features(
            features in "[ou:,a-z ]{0,40}", names in ".{0,40}", masks in "[0-9,x-]{0,200}",
        ) {
            let granted = unpack(&features, &names, &masks);
            prop_assert!(granted.len() <= features.split(',').count() * names.split(',').count());
        }
    }
}
