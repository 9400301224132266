//! The generated messages of the protocol, and their descriptors.
#![forbid(unsafe_code)]
#![allow(clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]

/// Everything that reflection returns: our protos with their comments, and the health service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The fields whose option `max_items` says how many elements they may have, by their full name.
pub const MAX_ITEMS: &[(&str, u32)] = include!(concat!(env!("OUT_DIR"), "/max_items.rs"));

tonic::include_proto!("countersign.v1");
include!(concat!(env!("OUT_DIR"), "/redacted.rs"));

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use prost_types::field_descriptor_proto::Type;

    use super::*;

    const SECRET: &str = "hunter2";
    /// The names of string fields that hold a secret.
    const SECRETS: [&str; 7] =
        ["secret", "password", "code", "access_token", "subject_token", "token_text", "session_token"];

    #[test]
    fn secrets_do_not_show_in_debug() {
        let target = Some(revoke_token_request::Target::TokenText(SECRET.into()));
        let shown = [
            format!("{:?}", CreateTokenResponse { token: None, secret: SECRET.into() }),
            format!("{:?}", RotateTokenResponse { token: None, secret: SECRET.into() }),
            format!(
                "{:?}",
                ExchangeTokenRequest { subject_token: Some(SECRET.into()), ..Default::default() }
            ),
            format!("{:?}", ExchangeTokenResponse { access_token: SECRET.into(), ..Default::default() }),
            format!("{:?}", IntrospectTokenRequest { token_text: SECRET.into(), ..Default::default() }),
            format!("{:?}", RevokeTokenRequest { target, ..Default::default() }),
        ];
        for text in shown {
            assert!(!text.contains(SECRET) && text.contains("redacted"), "{text}");
        }
    }

    #[test]
    fn a_field_that_sounds_like_a_secret_is_marked_as_one() {
        let redacted = include_str!(concat!(env!("OUT_DIR"), "/redacted.rs"));
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let mut found = 0;
        for message in
            files.iter().filter(|file| file.package() == "countersign.v1").flat_map(|file| &file.message_type)
        {
            for field in &message.field {
                if SECRETS.contains(&field.name()) && field.r#type() == Type::String {
                    let own = redacted.contains(&format!("for {} ", message.name()));
                    assert!(own, "{}.{} is not marked debug_redact", message.name(), field.name());
                    found += 1;
                }
            }
        }
        assert!(found >= SECRETS.len(), "{found}");
    }
}
