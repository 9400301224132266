//! Search for accounts by a part of their names, without an extension of the database.
//!
//! The searchable text of an account is one string, folded ([`text`](crate::domain::values::text)): its name, username and display
//! name, with a line break before each. None of them contains a line break, so a line break and
//! what follows it mark the beginning of a name. Every three successive characters (trigram) of
//! that text are stored as a number in an inverted index; a query of three or more characters can
//! only match where *all* of its trigrams are. What the index finds is then compared with the text
//! itself, since the trigrams may come from different places.

use aws_lc_rs::digest::{Context, SHA256};

use super::Details;
use crate::domain::values::ids::OrgId;
use crate::domain::values::names::{AccountName, Invalid};
use crate::domain::values::text::folded;

/// The separator before each name.
const BREAK: char = '\n';
/// The length of a piece (trigram), in characters.
const PIECE: usize = 3;
/// The longest name, in characters: that of a username. Nothing longer can be part of a name.
const MAX: usize = 254;

/// The search data of an account, as the database stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Searchable {
    pub text: String,
    /// The pieces of the text, sorted and without duplicates.
    pub pieces: Vec<i64>,
}

impl Searchable {
    /// The search data of an account with these details.
    ///
    /// Every write that changes one of its names must write this too.
    pub fn of_details(org_id: OrgId, details: &Details) -> Self {
        let name = details.name.as_ref().map(AccountName::as_str);
        Self::of(org_id, name, details.username.as_str(), details.profile.display_name.as_deref())
    }

    /// The search data of an account with these names.
    pub fn of(org_id: OrgId, name: Option<&str>, username: &str, display_name: Option<&str>) -> Self {
        let names = [name, Some(username), display_name].into_iter().flatten();
        let text: String = names.flat_map(|name| [BREAK.to_string(), folded(name)]).collect();
        let mut pieces = pieces(org_id, &text, true);
        pieces.sort_unstable();
        pieces.dedup();
        Self { text, pieces }
    }
}

/// A search query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needle {
    pub text: String,
    /// Every text that contains the query has all of these pieces.
    pub pieces: Vec<i64>,
}

impl Needle {
    /// Parses a query in an org: part of a name.
    ///
    /// A query of one or two characters matches only the beginning of a name.
    ///
    /// # Errors
    /// When it is longer than 254 characters, or contains control characters.
    pub fn parse(org_id: OrgId, query: &str) -> Result<Self, Invalid> {
        if query.chars().count() > MAX {
            return Err(Invalid("must be at most 254 characters"));
        }
        if query.chars().any(char::is_control) {
            return Err(Invalid("must hold no control characters"));
        }
        let mut text = folded(query);
        if text.chars().count() < PIECE {
            text.insert(0, BREAK);
        }
        let pieces = pieces(org_id, &text, false);
        Ok(Self { text, pieces })
    }
}

/// The pieces of a text. A text of two characters is one piece.
///
/// With `beginnings`, each line break with the one character after it is a piece too: this is what
/// a query of one character looks for.
fn pieces(org_id: OrgId, text: &str, beginnings: bool) -> Vec<i64> {
    let characters: Vec<char> = text.chars().collect();
    let short = characters.len() < PIECE;
    let pairs = characters.windows(2).filter(|pair| short || (beginnings && pair[0] == BREAK));
    let threes = characters.windows(PIECE);
    pairs.chain(threes).map(|piece| number(org_id, piece)).collect()
}

/// The number that stands for a piece in one org. It is stored, so it must never change.
///
/// Pieces of different orgs share no numbers, so that a large org does not lengthen the index lists
/// of a small one.
fn number(org_id: OrgId, piece: &[char]) -> i64 {
    let mut context = Context::new(&SHA256);
    context.update(org_id.uuid().as_bytes());
    context.update(piece.iter().collect::<String>().as_bytes());
    let digest = context.finish();
    let (first, _) = digest.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
    i64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORG: OrgId = OrgId::from_u128(1);

    /// Matches as the database does: by the pieces, and then by the text.
    fn finds(query: &str, names: (Option<&str>, &str, Option<&str>)) -> bool {
        let (needle, account) =
            (Needle::parse(ORG, query).unwrap(), Searchable::of(ORG, names.0, names.1, names.2));
        let by_pieces = needle.pieces.iter().all(|piece| account.pieces.contains(piece));
        let by_text = account.text.contains(&needle.text);
        assert!(by_pieces || !by_text, "{query:?}: the index would hide {names:?}");
        by_pieces && by_text
    }

    #[test]
    fn part_of_a_name_finds_it_and_one_or_two_characters_its_beginning() {
        let bot = (Some("Nightly-Sync"), "nightly-sync@demo.localhost", Some("Zoë's Sync"));
        for query in ["nightly", "SYNC@d", "ly-s", "zoË'", "N", "ni", "Z", "zo", "localhost", "'s "] {
            assert!(finds(query, bot), "{query:?}");
        }
        for query in ["y", "yn", "oë", "sync nightly", "syncn", "nightlysync", "loc_l", "%", "host\u{e9}"] {
            assert!(!finds(query, bot), "{query:?}");
        }
        assert!(finds("a", (None, "a", None)) && !finds("ab", (None, "a", None)));
    }

    #[test]
    fn a_query_is_bounded_and_of_its_org() {
        assert!(Needle::parse(ORG, &"é".repeat(254)).is_ok());
        for bad in [&"é".repeat(255), "a\nb", "\0"] {
            assert!(Needle::parse(ORG, bad).is_err(), "{bad:?}");
        }
        let other = Searchable::of(OrgId::from_u128(2), None, "abc", None);
        assert!(Searchable::of(ORG, None, "abc", None).pieces.iter().all(|p| !other.pieces.contains(p)));
    }

    #[test]
    fn what_is_stored_stays_what_it_was() {
        assert_eq!(Searchable::of(ORG, None, "a", None).pieces, [number(ORG, &['\n', 'a'])]);
        assert_eq!(number(ORG, &['a', 'b', 'c']), STORED);
    }

    /// SHA-256 of fifteen zero bytes, a one, and `abc`: its first eight bytes.
    const STORED: i64 = 7_769_735_299_931_936_481;

    proptest! {
        #[test]
        fn it_finds_what_a_comparison_of_the_names_finds(
            name in "[a-cA-C-]{1,6}",
            username in "[a-c@]{1,8}",
            display_name in prop::option::of("[a-cÉéİß ]{1,6}"),
            query in "[a-cA-CÉéİß@ -]{1,5}",
        ) {
            let names = [Some(name.as_str()), Some(username.as_str()), display_name.as_deref()];
            let looked_for = folded(&query);
            let expected = names.into_iter().flatten().map(folded).any(|name| {
                if looked_for.chars().count() < 3 { name.starts_with(&looked_for) } else { name.contains(&looked_for) }
            });
            prop_assert_eq!(finds(&query, (names[0], &username, names[2])), expected);
        }
    }
}
