//! Objects of any members: `google.protobuf.Struct`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::reading::Reading;
use crate::grpc::wire::bounds::{MOST_ELEMENTS, MOST_JSON_VALUES};

/// The message that is one.
pub(super) const NAME: &str = "google.protobuf.Struct";

const WANTED: &str = "must be an object";

/// Reads an object; none for `null`.
pub(super) fn read<'de, D: Deserializer<'de>>(
    reading: &mut Reading,
    parser: D,
) -> Result<Option<Struct>, D::Error> {
    match (Json { reading: &mut *reading }).deserialize(parser)? {
        Kind::StructValue(object) => Ok(Some(object)),
        Kind::NullValue(_) => Ok(None),
        _ => Err(reading.invalid(WANTED)),
    }
}

/// A value that is about to be read.
struct Json<'r> {
    reading: &'r mut Reading,
}

impl Json<'_> {
    /// Counts one value more in its list or object, and in all of them.
    fn count<E: serde::de::Error>(&mut self, before: usize) -> Result<(), E> {
        if before >= MOST_ELEMENTS as usize {
            return Err(self.reading.too_many(MOST_ELEMENTS));
        }
        self.reading.json_values += 1;
        if self.reading.json_values > MOST_JSON_VALUES {
            return Err(self.reading.too_many(MOST_JSON_VALUES));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Kind, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WANTED)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Kind, E> {
        Ok(Kind::NullValue(0))
    }

    fn visit_bool<E: serde::de::Error>(self, given: bool) -> Result<Kind, E> {
        Ok(Kind::BoolValue(given))
    }

    fn visit_i64<E: serde::de::Error>(self, given: i64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(given as f64))
    }

    fn visit_u64<E: serde::de::Error>(self, given: u64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(given as f64))
    }

    fn visit_f64<E: serde::de::Error>(self, given: f64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(given))
    }

    fn visit_str<E: serde::de::Error>(self, given: &str) -> Result<Kind, E> {
        Ok(Kind::StringValue(given.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Kind, A::Error> {
        self.reading.enter()?;
        let mut values = Vec::new();
        while let Some(kind) = elements.next_element_seed(Json { reading: self.reading })? {
            self.count(values.len())?;
            values.push(Value { kind: Some(kind) });
        }
        self.reading.leave();
        Ok(Kind::ListValue(ListValue { values }))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Kind, A::Error> {
        self.reading.enter()?;
        let mut fields = BTreeMap::new();
        while let Some(name) = members.next_key::<String>()? {
            self.count(fields.len())?;
            let Entry::Vacant(place) = fields.entry(name) else {
                return Err(self.reading.invalid("has a member twice"));
            };
            let kind = members.next_value_seed(Json { reading: self.reading })?;
            place.insert(Value { kind: Some(kind) });
        }
        self.reading.leave();
        Ok(Kind::StructValue(Struct { fields }))
    }
}
