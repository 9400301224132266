//! Messages as bytes, for tests that walk every RPC: fields are added, removed and
//! found by their number, whatever the message is.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost_types::DescriptorProto;

/// The number of a field.
pub fn number(message: &DescriptorProto, field: &str) -> Option<u32> {
    message.field.iter().find(|known| known.name() == field).map(|known| known.number() as u32)
}

/// Sets a string, or adds one to a list: of fields that come twice the last one counts.
pub fn with_text(message: &[u8], field: u32, text: &str) -> Vec<u8> {
    with_bytes(message, field, text.as_bytes())
}

/// The same for a message within the message.
pub fn with_bytes(message: &[u8], field: u32, bytes: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    encode_key(field, WireType::LengthDelimited, &mut message);
    encode_varint(bytes.len() as u64, &mut message);
    message.extend(bytes);
    message
}

/// Sets a number or an enum.
pub fn with_number(message: &[u8], field: u32, value: i64) -> Vec<u8> {
    let mut message = message.to_vec();
    encode_key(field, WireType::Varint, &mut message);
    encode_varint(value as u64, &mut message);
    message
}

/// A field of a message: its number, its value where that is a string, a list's element or a
/// message, and all of its bytes.
type Field<'a> = (u32, Option<&'a [u8]>, &'a [u8]);

fn fields(mut message: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let start = message;
        let (field, kind) = decode_key(&mut message).unwrap();
        let mut value = None;
        match kind {
            WireType::LengthDelimited => {
                let length = decode_varint(&mut message).unwrap() as usize;
                value = Some(&message[..length]);
                message = &message[length..];
            }
            WireType::Varint => {
                decode_varint(&mut message).unwrap();
            }
            other => panic!("no message of ours has a {other:?}"),
        }
        fields.push((field, value, &start[..start.len() - message.len()]));
    }
    fields
}

/// The values of a field that is a string, a message, or a list of such.
pub fn values(message: &[u8], field: u32) -> Vec<Vec<u8>> {
    let found = fields(message).into_iter().filter(|(number, ..)| *number == field);
    found.filter_map(|(_, value, _)| value.map(<[u8]>::to_vec)).collect()
}

/// The message without a field.
pub fn without(message: &[u8], field: u32) -> Vec<u8> {
    let kept = fields(message).into_iter().filter(|(number, ..)| *number != field);
    kept.flat_map(|(.., bytes)| bytes).copied().collect()
}

/// The ids that stand in a message, wherever.
pub fn ids(message: &[u8]) -> Vec<String> {
    const DIGITS: usize = 26;
    let mut found = Vec::new();
    for prefix in ["org", "acct", "role", "grant", "tok", "ses", "evt"] {
        let prefix = format!("{prefix}_");
        for (at, window) in message.windows(prefix.len()).enumerate() {
            let end = at + prefix.len() + DIGITS;
            if window == prefix.as_bytes() && end <= message.len() {
                let digits = &message[at + prefix.len()..end];
                if digits.iter().all(u8::is_ascii_alphanumeric) {
                    found.push(String::from_utf8(message[at..end].to_vec()).unwrap());
                }
            }
        }
    }
    found
}

/// The token strings and other credentials in a message.
pub fn credentials(message: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(message);
    let starts = text.match_indices("csign_").map(|(at, _)| at);
    let shape = |c: char| c.is_ascii_alphanumeric() || c == '_';
    starts.map(|at| text[at..].chars().take_while(|c| shape(*c)).collect()).collect()
}
