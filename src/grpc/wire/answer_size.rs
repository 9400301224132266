//! How large an answer may be: clients accept messages of 4 MB, whatever the rows hold.

use prost::Message;

/// The most bytes of the list of an answer. What stands beside it takes less than a megabyte.
pub const MOST: usize = 3 << 20;
/// The tag and the length of an element of a list.
const FRAME: usize = 6;

/// The bytes that a message takes in a list.
pub fn in_list(message: &impl Message) -> usize {
    message.encoded_len() + FRAME
}

/// The first messages, as many as fit; for an answer that has no pages.
pub fn fitting<M: Message>(messages: impl IntoIterator<Item = M>) -> Vec<M> {
    fitting_within(messages, MOST)
}

/// The same, as many as fit into so many bytes.
pub fn fitting_within<M: Message>(messages: impl IntoIterator<Item = M>, mut left: usize) -> Vec<M> {
    let fits = |message: &M| {
        let size = in_list(message);
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    };
    messages.into_iter().take_while(fits).collect()
}

/// The first texts, as many as fit into so many bytes.
pub fn fitting_texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, mut most: usize) -> Vec<T> {
    let fits = |text: &T| {
        let size = text.as_ref().len() + FRAME;
        let fits = size <= most;
        most = most.saturating_sub(size);
        fits
    };
    texts.into_iter().take_while(fits).collect()
}
