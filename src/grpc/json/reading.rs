//! Where the reading of a body is: the place, the depth, what was counted, and why it ended.

use prost_reflect::FieldDescriptor;

use crate::error::{Error, Reason, Result};

/// How deeply arrays and objects may be nested.
pub const MAX_DEPTH: usize = 64;

/// The longest name of an unknown field that is repeated to the caller: more than any field has, and less
/// than a token string or a password that ended up in its place is likely to have.
const MAX_NAME: usize = 32;

/// What is known while a body is read.
#[derive(Default)]
pub(super) struct Reading {
    path: Vec<Step>,
    depth: usize,
    /// The values in all lists and objects of JSON attributes.
    pub(super) json_values: u32,
    /// Why reading ended, where that was not for the syntax.
    refused: Option<Error>,
}

/// A step from a message to a value in it.
pub(super) enum Step {
    Field(FieldDescriptor),
    Element(usize),
}

impl Reading {
    /// What a body is refused with that is no message.
    pub(super) fn no_object() -> Error {
        Error::with_message(
            Reason::MalformedRequest,
            "the body must be one JSON object; an empty message is {}",
        )
    }

    /// Why reading ended, if that was not for the syntax.
    pub(super) fn into_refusal(self) -> Option<Error> {
        self.refused
    }

    /// The place that is read, as violations name it.
    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Field(field) if place.is_empty() => place.push_str(field.name()),
                Step::Field(field) => place.extend([".", field.name()]),
                Step::Element(index) => place.push_str(&format!("[{index}]")),
            }
        }
        place
    }

    /// Ends the reading with this error.
    pub(super) fn refuse<E: serde::de::Error>(&mut self, error: Error) -> E {
        self.refused.get_or_insert(error);
        E::custom("refused")
    }

    /// Ends the reading at a value that is not what the field takes. The description repeats no value.
    pub(super) fn invalid<E: serde::de::Error>(&mut self, description: impl Into<String>) -> E {
        let place = self.place();
        let error = if place.is_empty() { Self::no_object() } else { Error::invalid(place, description) };
        self.refuse(error)
    }

    /// Ends the reading at a member that is no field.
    pub(super) fn unknown<E: serde::de::Error>(&mut self, name: &str) -> E {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let may_be_shown = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_name);
        let (place, name) = (self.place(), if may_be_shown { name } else { "?" });
        let field = if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
        self.refuse(Error::invalid(field, "is not a field of this message"))
    }

    /// Enters an array or an object.
    pub(super) fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.too_deep()) } else { Ok(()) }
    }

    /// Ends the reading where too much is nested.
    pub(super) fn too_deep<E: serde::de::Error>(&mut self) -> E {
        let message = "arrays and objects are nested too deeply in the body";
        self.refuse(Error::with_message(Reason::MalformedRequest, message))
    }

    /// Leaves what was entered last.
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Refuses one element more than a field may have.
    pub(super) fn too_many<E: serde::de::Error>(&mut self, most: u32) -> E {
        self.invalid(format!("holds too many values; at most {most} are allowed"))
    }

    /// Reads what is one step further.
    pub(super) fn at<T>(&mut self, step: Step, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let read = read(self);
        self.path.pop();
        read
    }
}
