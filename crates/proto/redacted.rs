//! `Debug` for the messages that hold a secret, which does not print it.
//!
//! The stubs of the Rust client (`clients/rust/codegen`) are generated with it, too.

use std::fmt::Write as _;

use protox::prost_reflect::{FieldDescriptor, MessageDescriptor, OneofDescriptor};

/// The messages and oneofs with a field marked `debug_redact`: their proto paths, and `Debug`
/// impls that replace the derived ones.
#[derive(Default)]
pub(crate) struct Redacted {
    pub(crate) paths: Vec<String>,
    pub(crate) impls: String,
}

impl Redacted {
    pub(crate) fn find(messages: impl Iterator<Item = MessageDescriptor>) -> Self {
        let mut found = Self::default();
        for message in messages.filter(|m| m.package_name() == "countersign.v1") {
            found.message(&message).expect("writing to a String");
        }
        found
    }

    /// prost skips the derived `Debug` of a message together with those of its oneofs.
    fn message(&mut self, message: &MessageDescriptor) -> std::fmt::Result {
        if !message.fields().any(|field| is_redacted(&field)) {
            return Ok(());
        }
        self.paths.push(message.full_name().to_owned());
        let oneofs: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        let mut body = format!("f.debug_struct(\"{}\")", message.name());
        for field in message.fields().filter(|f| f.containing_oneof().is_none_or(|o| o.is_synthetic())) {
            let name = field.name();
            if is_redacted(&field) {
                write!(body, ".field(\"{name}\", &\"[redacted]\")")?;
            } else {
                write!(body, ".field(\"{name}\", &self.{name})")?;
            }
        }
        for oneof in &oneofs {
            write!(body, ".field(\"{0}\", &self.{0})", oneof.name())?;
        }
        self.implement(message.name(), &format!("{body}.finish()"))?;
        for oneof in &oneofs {
            self.oneof(&format!("{}::{}", snake(message.name()), camel(oneof.name())), oneof)?;
        }
        Ok(())
    }

    fn oneof(&mut self, type_name: &str, oneof: &OneofDescriptor) -> std::fmt::Result {
        let mut body = String::from("match self {");
        for field in oneof.fields() {
            let variant = camel(field.name());
            if is_redacted(&field) {
                write!(body, "Self::{variant}(_) => f.write_str(\"{variant}([redacted])\"),")?;
            } else {
                write!(body, "Self::{variant}(v) => f.debug_tuple(\"{variant}\").field(v).finish(),")?;
            }
        }
        self.implement(type_name, &format!("{body}}}"))
    }

    fn implement(&mut self, type_name: &str, body: &str) -> std::fmt::Result {
        writeln!(
            self.impls,
            "impl std::fmt::Debug for {type_name} {{\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{ {body} }}\n}}"
        )
    }
}

/// Whether the field's options say `debug_redact = true` (field 16 of `FieldOptions`).
fn is_redacted(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let known = options.get_field_by_name("debug_redact").is_some_and(|v| v.as_bool() == Some(true));
    known || options.unknown_fields().any(|field| field.number() == 16)
}

fn camel(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
