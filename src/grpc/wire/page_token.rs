//! Page tokens: sealed, bound to caller, org, method and filter, valid for 24 hours. They contain
//! a position in a list and no rights: each page is authorised again.

use aws_lc_rs::digest;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use prost::Message;
use time::Duration;

use crate::crypto::seal::SealPurpose;
use crate::domain::access::acting::Acting;
use crate::domain::paging;
use crate::domain::paging::{Listed, Page};
use crate::error::{Result, Violations};
use crate::grpc::wire::answer_size;
use crate::state::State;

const LIFE: Duration = Duration::hours(24);

/// A request for a page.
pub struct Paging {
    binding: String,
    pub size: i64,
    /// The key of the last row of the previous page.
    pub after: Option<String>,
}

impl Paging {
    /// Reads `page_size` and `page_token`. `filter` is the request without these two fields: a
    /// page token created for another filter is refused.
    pub fn read(
        state: &State,
        acting: &Acting<'_>,
        method: &str,
        filter: &impl Message,
        page_size: i32,
        page_token: &str,
    ) -> Result<Self> {
        let mut violations = Violations::default();
        let filter = digest::digest(&digest::SHA256, &filter.encode_to_vec());
        let (caller, org) = (acting.caller.account_id(), acting.org_id);
        let actor = acting.caller.actor_id().unwrap_or(caller);
        let binding = format!("{caller}/{actor}/{org}/{method}/{}", BASE64URL.encode(filter.as_ref()));
        let size = violations.check("page_size", paging::size(page_size));
        let after = match page_token {
            "" => Some(None),
            text => violations.check("page_token", open(state, &binding, text)).map(Some),
        };
        violations.finish()?;
        Ok(Self { binding, size: size.unwrap_or_default(), after: after.flatten() })
    }

    /// The parsed key. A key that we sealed always parses.
    pub fn after<T, E>(&self, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        self.after.as_deref().and_then(|key| parse(key).ok())
    }

    /// The messages of a page, as many as fit into an answer.
    pub fn answer<T, M: Message>(
        &self,
        state: &State,
        page: Page<T>,
        message: impl FnMut(T) -> Result<M>,
    ) -> Result<Answer<M>> {
        let Listed { items, next, total } = page.fit(answer_size::MOST, answer_size::in_list, message)?;
        let next_page_token = next.map(|key| self.seal(state, &key)).unwrap_or_default();
        Ok(Answer { items, next_page_token, total_size: total })
    }

    fn seal(&self, state: &State, key: &str) -> String {
        let mut plain = (state.clock.now() + LIFE).unix_timestamp().to_be_bytes().to_vec();
        plain.extend(key.as_bytes());
        BASE64URL.encode(state.keyring.master.seal(SealPurpose::PageToken, &self.binding, &plain))
    }
}

/// A page as it is answered.
pub struct Answer<M> {
    pub items: Vec<M>,
    /// Empty on the last page.
    pub next_page_token: String,
    pub total_size: Option<i32>,
}

fn open(state: &State, binding: &str, text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "must be the next_page_token of the same call by the same caller, from the last 24 h";
    let sealed = BASE64URL.decode(text).map_err(|_| WRONG)?;
    let plain = state.keyring.master.open(SealPurpose::PageToken, binding, &sealed).map_err(|_| WRONG)?;
    let (end, key) = plain.split_first_chunk().ok_or(WRONG)?;
    if i64::from_be_bytes(*end) <= state.clock.now().unix_timestamp() {
        return Err(WRONG);
    }
    String::from_utf8(key.to_vec()).map_err(|_| WRONG)
}
