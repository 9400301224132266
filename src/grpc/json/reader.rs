//! Reads JSON into a message, by its descriptor, in one pass.
//!
//! JSON amplifies: three bytes of an array are an element that takes dozens in memory. So the elements of
//! each field are counted as they are read, against the bounds that the encoded message is held to as well,
//! and what is refused ends the reading. The errors of the parser may show what they found, which may be a
//! secret: none of them is sent but those of the syntax, which have a fixed text and a position.

use std::collections::HashMap;
use std::fmt;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::attributes;
use super::reading::{Reading, Step};
use super::scalars::{self, Number, Wrong};
use crate::error::{Error, Reason, Result};
use crate::grpc::wire::bounds::bound;

/// Reads a message.
///
/// # Errors
/// `MALFORMED_REQUEST` and `INVALID_FIELD`, as [`to_protobuf`](super::to_protobuf) says.
pub(super) fn read(descriptor: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage> {
    let mut reading = Reading::default();
    let mut parser = serde_json::Deserializer::from_slice(json);
    let target = Target::Message(descriptor);
    let read = Place { reading: &mut reading, target }.deserialize(&mut parser);
    match read.and_then(|read| parser.end().map(|()| read)) {
        Ok(Some(Value::Message(message))) => Ok(message),
        Ok(_) => Err(Reading::no_object()),
        Err(error) => Err(reading.into_refusal().unwrap_or_else(|| malformed(&error))),
    }
}

/// What the parser refused. Its texts are fixed where the syntax is wrong; otherwise they may show a value.
fn malformed(error: &serde_json::Error) -> Error {
    let message = match error.classify() {
        Category::Syntax | Category::Eof => format!("the body is not JSON: {error}"),
        Category::Data | Category::Io => {
            format!("the body is not JSON of this RPC: line {} column {}", error.line(), error.column())
        }
    };
    Error::with_message(Reason::MalformedRequest, message)
}

/// What a place takes.
#[derive(Clone, Copy)]
enum Target<'a> {
    Message(&'a MessageDescriptor),
    /// All elements of a repeated field.
    List(&'a FieldDescriptor),
    Map(&'a FieldDescriptor),
    /// One value of a field that is no message, or one that JSON writes as a string.
    Scalar(&'a Kind),
    /// An object of any members.
    Attributes(&'a MessageDescriptor),
}

impl<'a> Target<'a> {
    /// That of one value of this kind.
    fn of(kind: &'a Kind) -> Self {
        match kind {
            Kind::Message(message) if message.full_name() == attributes::NAME => Self::Attributes(message),
            Kind::Message(message) if !scalars::is_written_as_string(message) => Self::Message(message),
            scalar => Self::Scalar(scalar),
        }
    }

    /// What the place takes, as a violation says it.
    fn wanted(self) -> String {
        match self {
            Self::Message(_) | Self::Map(_) | Self::Attributes(_) => "must be an object".to_owned(),
            Self::List(_) => "must be an array".to_owned(),
            Self::Scalar(kind) => scalars::wanted(kind),
        }
    }
}

/// A value that is about to be read: none where it is `null`.
struct Place<'r, 'a> {
    reading: &'r mut Reading,
    target: Target<'a>,
}

impl Place<'_, '_> {
    fn wrong<E: serde::de::Error>(self) -> E {
        self.reading.invalid(self.target.wanted())
    }

    fn scalar<E: serde::de::Error>(
        self,
        read: impl FnOnce(&Kind) -> Result<Value, Wrong>,
    ) -> Result<Option<Value>, E> {
        let Target::Scalar(kind) = self.target else { return Err(self.wrong()) };
        match read(kind) {
            Ok(value) => Ok(Some(value)),
            Err(Wrong::Value) => Err(self.wrong()),
            Err(Wrong::TooMany(most)) => Err(self.reading.too_many(most)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Option<Value>, D::Error> {
        match self.target {
            Target::Attributes(message) => {
                let Some(read) = attributes::read(self.reading, parser)? else { return Ok(None) };
                let mut attributes = DynamicMessage::new(message.clone());
                // Each level is two or three messages within each other, and those are bounded as well.
                attributes.transcode_from(&read).map_err(|_| self.reading.too_deep())?;
                Ok(Some(Value::Message(attributes)))
            }
            _ => parser.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Place<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target.wanted())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_bool<E: serde::de::Error>(self, given: bool) -> Result<Option<Value>, E> {
        self.scalar(|kind| scalars::of_bool(kind, given))
    }

    fn visit_i64<E: serde::de::Error>(self, given: i64) -> Result<Option<Value>, E> {
        self.scalar(|kind| scalars::of_number(kind, Number::Whole(given.into())))
    }

    fn visit_u64<E: serde::de::Error>(self, given: u64) -> Result<Option<Value>, E> {
        self.scalar(|kind| scalars::of_number(kind, Number::Whole(given.into())))
    }

    fn visit_f64<E: serde::de::Error>(self, given: f64) -> Result<Option<Value>, E> {
        self.scalar(|kind| scalars::of_number(kind, Number::Float(given)))
    }

    fn visit_str<E: serde::de::Error>(self, given: &str) -> Result<Option<Value>, E> {
        self.scalar(|kind| scalars::of_string(kind, given))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Option<Value>, A::Error> {
        let Target::List(field) = self.target else { return Err(self.wrong()) };
        let (reading, kind, most) = (self.reading, field.kind(), bound_of(field));
        reading.enter()?;
        let mut list = Vec::new();
        loop {
            let index = list.len();
            let read = reading.at(Step::Element(index), |reading| {
                let Some(read) = elements.next_element_seed(Place { reading, target: Target::of(&kind) })?
                else {
                    return Ok(None);
                };
                read.map(Some).ok_or_else(|| reading.invalid("must not be null"))
            });
            match read? {
                None => break,
                Some(_) if index >= most as usize => return Err(reading.too_many(most)),
                Some(value) => list.push(value),
            }
        }
        reading.leave();
        Ok(Some(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Option<Value>, A::Error> {
        let reading = self.reading;
        match self.target {
            Target::Message(message) => {
                reading.enter()?;
                let read = read_message(reading, message, members)?;
                reading.leave();
                Ok(Some(Value::Message(read)))
            }
            Target::Map(field) => {
                reading.enter()?;
                let read = read_map(reading, field, members)?;
                reading.leave();
                Ok(Some(Value::Map(read)))
            }
            target => Err(Place { reading, target }.wrong()),
        }
    }
}

/// The most elements of a field.
fn bound_of(field: &FieldDescriptor) -> u32 {
    bound(field.parent_message().full_name(), field.name())
}

fn read_message<'de, A: MapAccess<'de>>(
    reading: &mut Reading,
    descriptor: &MessageDescriptor,
    mut members: A,
) -> Result<DynamicMessage, A::Error> {
    let mut message = DynamicMessage::new(descriptor.clone());
    // What is given with its default does not show in the message.
    let mut given = Vec::new();
    while let Some(name) = members.next_key::<String>()? {
        let by_either_name =
            descriptor.get_field_by_json_name(&name).or_else(|| descriptor.get_field_by_name(&name));
        let Some(field) = by_either_name else { return Err(reading.unknown(&name)) };
        let value = reading.at(Step::Field(field.clone()), |reading| {
            if given.contains(&field.number()) {
                return Err(reading.invalid("is given twice"));
            }
            given.push(field.number());
            let kind = field.kind();
            let target = if field.is_map() {
                Target::Map(&field)
            } else if field.is_list() {
                Target::List(&field)
            } else {
                Target::of(&kind)
            };
            let value = members.next_value_seed(Place { reading, target })?;
            let other =
                field.containing_oneof().into_iter().flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
            if value.is_some()
                && let Some(other) = other.into_iter().find(|other| message.has_field(other))
            {
                return Err(reading.invalid(format!("cannot be given together with {}", other.name())));
            }
            Ok(value)
        });
        // `null` is the same as nothing.
        if let Some(value) = value? {
            message.set_field(&field, value);
        }
    }
    Ok(message)
}

fn read_map<'de, A: MapAccess<'de>>(
    reading: &mut Reading,
    field: &FieldDescriptor,
    mut members: A,
) -> Result<HashMap<MapKey, Value>, A::Error> {
    let kind = field.kind();
    let entry = kind.as_message().ok_or_else(|| A::Error::custom("a map has entries"))?;
    let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let most = bound_of(field);
    let mut map = HashMap::new();
    while let Some(name) = members.next_key::<String>()? {
        if map.len() >= most as usize {
            return Err(reading.too_many(most));
        }
        let Some(name) = scalars::map_key(&key, name) else {
            return Err(reading.invalid("has a key of another type"));
        };
        let read = members.next_value_seed(Place { reading, target: Target::of(&value) })?;
        let Some(read) = read else { return Err(reading.invalid("must not hold null")) };
        if map.insert(name, read).is_some() {
            return Err(reading.invalid("has a key twice"));
        }
    }
    Ok(map)
}
