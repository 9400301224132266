//! The values of fields that JSON writes as a string, a number, `true` or `false`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MapKey, MessageDescriptor, Value};
use prost_types::FieldMask;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as NotOne, StrDeserializer};

use crate::grpc::wire::bounds::MOST_PATHS;

const FIELD_MASK: &str = "google.protobuf.FieldMask";
const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";

/// The largest whole number that is exact as a floating point number.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// Base64 of either alphabet, with padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A number of JSON. One with a fraction, an exponent or too many digits is a floating point number.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    Float(f64),
}

/// Why a value is refused.
pub(super) enum Wrong {
    /// It is not what the field takes.
    Value,
    /// It holds more than so many.
    TooMany(u32),
}

/// Whether a message is one string in JSON.
pub(super) fn is_written_as_string(message: &MessageDescriptor) -> bool {
    matches!(message.full_name(), FIELD_MASK | TIMESTAMP | DURATION)
}

/// What a field of this kind takes, as a violation says it.
pub(super) fn wanted(kind: &Kind) -> String {
    let wanted = match kind {
        Kind::Bool => "must be true or false",
        Kind::String => "must be a string",
        Kind::Bytes => "must be a string of base64",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "must be a whole number of 32 bits",
        Kind::Uint32 | Kind::Fixed32 => "must be a whole number of 32 bits without a sign",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            "must be a whole number of 64 bits, or a string of one"
        }
        Kind::Uint64 | Kind::Fixed64 => {
            "must be a whole number of 64 bits without a sign, or a string of one"
        }
        Kind::Float | Kind::Double => "must be a number",
        Kind::Enum(values) => return format!("must be the name or the number of a {}", values.name()),
        Kind::Message(message) => match message.full_name() {
            TIMESTAMP => "must be a time such as \"2030-01-31T08:00:00Z\"",
            DURATION => "must be a number of seconds such as \"3600s\"",
            FIELD_MASK => "must be a string of the names of fields, with commas between",
            _ => "must be an object",
        },
    };
    wanted.to_owned()
}

pub(super) fn of_bool(kind: &Kind, given: bool) -> Result<Value, Wrong> {
    if matches!(kind, Kind::Bool) { Ok(Value::Bool(given)) } else { Err(Wrong::Value) }
}

pub(super) fn of_number(kind: &Kind, given: Number) -> Result<Value, Wrong> {
    let float = match given {
        Number::Whole(number) => number as f64,
        Number::Float(number) => number,
    };
    let whole = match given {
        Number::Whole(number) => Some(number),
        Number::Float(number) if number.fract() == 0.0 && number.abs() <= LARGEST_EXACT => {
            Some(number as i128)
        }
        Number::Float(_) => None,
    };
    let value = match kind {
        Kind::Double => Some(Value::F64(float)),
        Kind::Float => (float.abs() <= f32::MAX.into()).then_some(Value::F32(float as f32)),
        Kind::Enum(_) => whole.and_then(|whole| i32::try_from(whole).ok()).map(Value::EnumNumber),
        _ => whole.and_then(|whole| integer(kind, whole)),
    };
    value.ok_or(Wrong::Value)
}

/// A whole number as a value of a kind that it fits into.
fn integer(kind: &Kind, whole: i128) -> Option<Value> {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole.try_into().ok().map(Value::I32),
        Kind::Uint32 | Kind::Fixed32 => whole.try_into().ok().map(Value::U32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole.try_into().ok().map(Value::I64),
        Kind::Uint64 | Kind::Fixed64 => whole.try_into().ok().map(Value::U64),
        _ => None,
    }
}

pub(super) fn of_string(kind: &Kind, given: &str) -> Result<Value, Wrong> {
    let value = match kind {
        Kind::String => Some(Value::String(given.to_owned())),
        Kind::Bytes => {
            let engine = if given.contains(['-', '_']) { URL_SAFE } else { STANDARD };
            engine.decode(given).ok().map(|bytes| Value::Bytes(bytes.into()))
        }
        Kind::Float | Kind::Double => {
            return of_number(kind, Number::Float(float(given).ok_or(Wrong::Value)?));
        }
        Kind::Enum(values) => enum_value(values, given),
        Kind::Message(message) if message.full_name() == FIELD_MASK => return field_mask(message, given),
        Kind::Message(message) => message_of_string(message, given),
        Kind::Bool => None,
        _ => whole(given).and_then(|whole| integer(kind, whole)),
    };
    value.ok_or(Wrong::Value)
}

/// The key of a map, which JSON always writes as a string.
pub(super) fn map_key(kind: &Kind, given: String) -> Option<MapKey> {
    match kind {
        Kind::String => Some(MapKey::String(given)),
        Kind::Bool => given.parse().ok().map(MapKey::Bool),
        _ => match integer(kind, whole(&given)?)? {
            Value::I32(key) => Some(MapKey::I32(key)),
            Value::U32(key) => Some(MapKey::U32(key)),
            Value::I64(key) => Some(MapKey::I64(key)),
            Value::U64(key) => Some(MapKey::U64(key)),
            _ => None,
        },
    }
}

/// A whole number in decimal digits.
fn whole(given: &str) -> Option<i128> {
    let digits = given.strip_prefix('-').unwrap_or(given);
    let is_decimal = (1..=20).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_decimal { given.parse().ok() } else { None }
}

/// A floating point number, or the name of one that JSON has no number for.
fn float(given: &str) -> Option<f64> {
    match given {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => serde_json::from_str(given).ok(),
    }
}

fn enum_value(values: &EnumDescriptor, given: &str) -> Option<Value> {
    values.get_value_by_name(given).map(|value| Value::EnumNumber(value.number()))
}

/// Its paths in either form of their names.
fn field_mask(message: &MessageDescriptor, given: &str) -> Result<Value, Wrong> {
    let paths = || given.split(',').filter(|path| !path.is_empty());
    if paths().nth(MOST_PATHS as usize).is_some() {
        return Err(Wrong::TooMany(MOST_PATHS));
    }
    let snake = |path: &str| {
        let mut snake = String::with_capacity(path.len() + 4);
        for c in path.chars() {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        snake
    };
    let mask = FieldMask { paths: paths().map(snake).collect() };
    let mut value = DynamicMessage::new(message.clone());
    value.transcode_from(&mask).map_err(|_| Wrong::Value)?;
    Ok(Value::Message(value))
}

/// A time or a duration.
fn message_of_string(message: &MessageDescriptor, given: &str) -> Option<Value> {
    let given: StrDeserializer<'_, NotOne> = given.into_deserializer();
    DynamicMessage::deserialize(message.clone(), given).ok().map(Value::Message)
}
