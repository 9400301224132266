//! Bounds the elements of every repeated field of every request, before the request is decoded.
//!
//! A decoder allocates for each element: a message of 1 MiB can name half a million empty strings.
//! This counts them in the encoded message instead, in one pass, by a plan that is made from the
//! descriptors: a new RPC or field is bounded without a line here.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::domain::accounts::MAX_ATTRIBUTES;
use crate::error::Error;
use crate::grpc::pb::{DESCRIPTORS, MAX_ITEMS};

/// The most elements of a repeated field, a map or a list within a list, unless its option
/// `max_items` says less.
pub const MOST_ELEMENTS: u32 = 1_000;
/// The most paths of an `update_mask`: more than any message has fields, each of which it names
/// once.
pub const MOST_PATHS: u32 = 100;

/// The most values in all lists and objects of a JSON object: each takes two bytes of its text.
pub const MOST_JSON_VALUES: u32 = (MAX_ATTRIBUTES / 2) as u32;

/// The most repeated fields of one message with the messages that it contains once. Checked when
/// the plan is made, which a test does for all RPCs.
const COUNTERS: usize = 32;
/// How deeply messages are followed; the decoder refuses those deeper than 100.
const DEPTH: u32 = 128;

/// The bound of each RPC's request, by the path of the RPC.
static REQUESTS: LazyLock<Plans> = LazyLock::new(|| Plans::read(DESCRIPTORS));

/// The bounds of the requests of an RPC.
#[derive(Clone, Copy)]
pub struct Bounds(Option<usize>);

impl Bounds {
    /// Those of the RPC at this path.
    pub fn of(rpc: &str) -> Self {
        Self(REQUESTS.by_rpc.get(rpc).copied())
    }

    /// Refuses a message that names more elements than a field may have.
    ///
    /// A message that is malformed passes: the decoder refuses it, after no more elements than were
    /// counted here.
    ///
    /// # Errors
    /// `INVALID_FIELD`, which names the field.
    pub fn check(self, message: &[u8]) -> Result<(), Error> {
        let Some(root) = self.0 else { return Ok(()) };
        match REQUESTS.count(root, message, &mut [0; COUNTERS], &mut 0, DEPTH) {
            Ok(()) | Err(Stop::Malformed) => Ok(()),
            Err(Stop::TooMany { field, most }) => {
                Err(Error::invalid(field, format!("holds too many values; at most {most} are allowed")))
            }
        }
    }
}

/// The bound of a repeated field, by the full name of its message and its own.
pub fn bound(message: &str, field: &str) -> u32 {
    if (message, field) == ("google.protobuf.FieldMask", "paths") {
        return MOST_PATHS;
    }
    let said = MAX_ITEMS
        .iter()
        .find(|(name, _)| name.strip_prefix(message).and_then(|rest| rest.strip_prefix('.')) == Some(field));
    said.map_or(MOST_ELEMENTS, |(_, most)| *most)
}

/// Why counting ends before the end of a message.
enum Stop {
    Malformed,
    TooMany { field: String, most: u32 },
}

impl Stop {
    /// The same, seen from the message that contains it at this field.
    fn below(self, parent: &str, index: Option<u32>) -> Self {
        let Self::TooMany { field, most } = self else { return self };
        // A field without a name of ours is called as its parent is.
        let field = match (parent, index, field.as_str()) {
            ("", _, _) => field,
            (_, None, "") => parent.to_owned(),
            (_, None, _) => format!("{parent}.{field}"),
            (_, Some(index), "") => format!("{parent}[{index}]"),
            (_, Some(index), _) => format!("{parent}[{index}].{field}"),
        };
        Self::TooMany { field, most }
    }
}

/// What is counted in each message. Messages refer to each other by their index.
struct Plans {
    by_rpc: HashMap<String, usize>,
    messages: Vec<Vec<Option<Field>>>,
}

/// A field that is counted, or may contain one that is.
struct Field {
    name: String,
    kind: Kind,
}

enum Kind {
    Repeated {
        /// Its place among the counters of its root.
        counter: usize,
        most: u32,
        /// A list or an object of JSON: with all that contain it, it shares another counter.
        is_json: bool,
        /// How elements are found in a packed list; none for what is never packed.
        packed: Option<Packed>,
        /// The elements' own plan, which has counters of its own.
        element: Option<usize>,
    },
    /// A message that occurs once. If it is sent more often the decoder merges it, so that it shares
    /// the counters of its parent.
    Message(usize),
}

#[derive(Clone, Copy)]
enum Packed {
    Varint,
    Bytes(usize),
}

impl Plans {
    fn read(descriptors: &[u8]) -> Self {
        let files = FileDescriptorSet::decode(descriptors).expect("our descriptors are well-formed").file;
        let mut known = HashMap::new();
        for file in &files {
            collect(&format!(".{}", file.package()), &file.message_type, &mut known);
        }
        let mut plans = Self { by_rpc: HashMap::new(), messages: Vec::new() };
        let mut roots = HashMap::new();
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let root = plans.root(method.input_type(), &known, &mut roots);
                    plans.by_rpc.insert(path, root);
                }
            }
        }
        plans
    }

    /// The plan of a message with counters of its own.
    fn root<'a>(
        &mut self,
        name: &'a str,
        known: &HashMap<String, &'a DescriptorProto>,
        roots: &mut HashMap<&'a str, usize>,
    ) -> usize {
        if let Some(root) = roots.get(name) {
            return *root;
        }
        let root = self.messages.len();
        self.messages.push(Vec::new());
        // Before its fields, so that a message may contain a list of its own kind.
        roots.insert(name, root);
        let mut counters = 0;
        self.fill(root, name, known, roots, &mut counters);
        assert!(counters <= COUNTERS, "{name} has {counters} repeated fields");
        root
    }

    fn fill<'a>(
        &mut self,
        at: usize,
        name: &'a str,
        known: &HashMap<String, &'a DescriptorProto>,
        roots: &mut HashMap<&'a str, usize>,
        counters: &mut usize,
    ) {
        for field in &known[name].field {
            let message = (field.r#type() == Type::Message).then(|| field.type_name());
            let kind = if field.label() == Label::Repeated {
                *counters += 1;
                Kind::Repeated {
                    counter: *counters - 1,
                    most: bound(name.trim_start_matches('.'), field.name()),
                    is_json: matches!(name, ".google.protobuf.Struct" | ".google.protobuf.ListValue"),
                    packed: packed(field),
                    element: message.map(|element| self.root(element, known, roots)),
                }
            } else if let Some(message) = message {
                let inner = self.messages.len();
                self.messages.push(Vec::new());
                self.fill(inner, message, known, roots, counters);
                Kind::Message(inner)
            } else {
                continue;
            };
            let number = field.number() as usize;
            let fields = &mut self.messages[at];
            if fields.len() <= number {
                fields.resize_with(number + 1, || None);
            }
            // What a mask or a JSON object has too many of is called as that is: how these are encoded
            // is nothing that a caller has written.
            let name = if name.starts_with(".google.protobuf.") { "" } else { field.name() };
            fields[number] = Some(Field { name: name.to_owned(), kind });
        }
    }

    fn count(
        &self,
        at: usize,
        mut message: &[u8],
        counters: &mut [u32; COUNTERS],
        json_values: &mut u32,
        depth: u32,
    ) -> Result<(), Stop> {
        if depth == 0 {
            return Err(Stop::Malformed);
        }
        let fields = &self.messages[at];
        // Groups are not used by any message of ours: what is in an unknown one is skipped.
        let mut groups = 0_u32;
        while !message.is_empty() {
            let (number, wire) = decode_key(&mut message).map_err(|_| Stop::Malformed)?;
            let value = match wire {
                WireType::Varint => {
                    decode_varint(&mut message).map_err(|_| Stop::Malformed)?;
                    None
                }
                WireType::ThirtyTwoBit => take(&mut message, 4).map(|_| None)?,
                WireType::SixtyFourBit => take(&mut message, 8).map(|_| None)?,
                WireType::LengthDelimited => {
                    let length = decode_varint(&mut message).map_err(|_| Stop::Malformed)?;
                    Some(take(&mut message, usize::try_from(length).map_err(|_| Stop::Malformed)?)?)
                }
                WireType::StartGroup => {
                    groups += 1;
                    continue;
                }
                WireType::EndGroup => {
                    groups = groups.checked_sub(1).ok_or(Stop::Malformed)?;
                    continue;
                }
            };
            if groups > 0 {
                continue;
            }
            let Some(Some(field)) = fields.get(number as usize) else { continue };
            match (&field.kind, value) {
                (Kind::Message(inner), Some(value)) => {
                    self.count(*inner, value, counters, json_values, depth - 1)
                        .map_err(|stop| stop.below(&field.name, None))?;
                }
                (Kind::Message(_), None) => return Err(Stop::Malformed),
                (Kind::Repeated { counter, most, is_json, packed, element }, value) => {
                    let index = counters[*counter];
                    let more = match (packed, value) {
                        (Some(Packed::Varint), Some(list)) => {
                            list.iter().filter(|byte| **byte < 0x80).count()
                        }
                        (Some(Packed::Bytes(size)), Some(list)) => list.len() / size,
                        _ => 1,
                    };
                    // Never above the size of a message.
                    counters[*counter] = index.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
                    if counters[*counter] > *most {
                        return Err(Stop::TooMany { field: field.name.clone(), most: *most });
                    }
                    let values = if *is_json { &mut *json_values } else { &mut 0 };
                    *values = values.saturating_add(u32::from(*is_json));
                    if *values > MOST_JSON_VALUES {
                        return Err(Stop::TooMany { field: field.name.clone(), most: MOST_JSON_VALUES });
                    }
                    if let (Some(element), Some(value)) = (element, value) {
                        self.count(*element, value, &mut [0; COUNTERS], values, depth - 1)
                            .map_err(|stop| stop.below(&field.name, Some(index)))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// All messages of a file by their full names.
fn collect<'a>(
    scope: &str,
    messages: &'a [DescriptorProto],
    known: &mut HashMap<String, &'a DescriptorProto>,
) {
    for message in messages {
        let name = format!("{scope}.{}", message.name());
        collect(&name, &message.nested_type, known);
        known.insert(name, message);
    }
}

fn packed(field: &FieldDescriptorProto) -> Option<Packed> {
    match field.r#type() {
        Type::String | Type::Bytes | Type::Message | Type::Group => None,
        Type::Fixed32 | Type::Sfixed32 | Type::Float => Some(Packed::Bytes(4)),
        Type::Fixed64 | Type::Sfixed64 | Type::Double => Some(Packed::Bytes(8)),
        _ => Some(Packed::Varint),
    }
}

/// The next bytes of a message, which are taken off.
fn take<'a>(message: &mut &'a [u8], length: usize) -> Result<&'a [u8], Stop> {
    let (taken, rest) = message.split_at_checked(length).ok_or(Stop::Malformed)?;
    *message = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use prost_types::FieldMask;

    use super::*;
    use crate::grpc::pb;

    const UPDATE: &str = "/countersign.v1.TokenService/UpdateToken";
    const BATCH: &str = "/countersign.v1.TokenService/BatchIntrospectTokens";

    fn refused(rpc: &str, message: &[u8]) -> Option<String> {
        let parts = Bounds::of(rpc).check(message).err()?.into_parts();
        assert_eq!(parts.violations.len(), 1);
        Some(parts.violations[0].field.clone())
    }

    fn mask(paths: usize) -> Vec<u8> {
        let update_mask = Some(FieldMask { paths: vec![String::new(); paths] });
        pb::UpdateTokenRequest { update_mask, ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn elements_are_counted_up_to_the_bound() {
        assert_eq!(refused(UPDATE, &mask(100)), None);
        assert_eq!(refused(UPDATE, &mask(101)).as_deref(), Some("update_mask"));
        // The decoder merges what is sent in pieces.
        assert_eq!(refused(UPDATE, &[mask(60), mask(60)].concat()).as_deref(), Some("update_mask"));
    }

    #[test]
    fn each_element_of_a_list_has_counters_of_its_own() {
        let one = |scopes| pb::IntrospectTokenRequest {
            required_scopes: vec![String::new(); scopes],
            ..Default::default()
        };
        let batch = |requests| pb::BatchIntrospectTokensRequest { requests }.encode_to_vec();
        assert_eq!(refused(BATCH, &batch(vec![one(100), one(100)])), None);
        let field = refused(BATCH, &batch(vec![one(1), one(101)]));
        assert_eq!(field.as_deref(), Some("requests[1].required_scopes"));
    }

    #[test]
    fn json_is_called_as_its_field_is() {
        use prost_types::value::Kind;
        use prost_types::{ListValue, Struct, Value};
        const CREATE: &str = "/countersign.v1.AccountService/CreateServiceAccount";
        let list = |values| Value { kind: Some(Kind::ListValue(ListValue { values })) };
        let with = |value: Value| {
            let attributes = Some(Struct { fields: [("key".to_owned(), value)].into() });
            let settings = Some(pb::AccountSettings { attributes, ..Default::default() });
            pb::CreateServiceAccountRequest { settings, ..Default::default() }.encode_to_vec()
        };
        let null = Value { kind: Some(Kind::NullValue(0)) };
        assert_eq!(refused(CREATE, &with(list(vec![null.clone(); 1_000]))), None);
        let many = list(vec![null.clone(); 1_001]);
        assert_eq!(refused(CREATE, &with(many.clone())).as_deref(), Some("settings.attributes"));
        // Each list is small, and all together are not.
        let lists = |count| with(list(vec![list(vec![null.clone(); 90]); count]));
        assert_eq!(refused(CREATE, &lists(90)), None);
        assert_eq!(refused(CREATE, &lists(91)).as_deref(), Some("settings.attributes"));
        let nested = (0..20).fold(many, |inner, _| list(vec![inner]));
        assert_eq!(refused(CREATE, &with(nested)).as_deref(), Some("settings.attributes"));
    }

    #[test]
    fn packed_and_unpacked_numbers_are_counted_alike() {
        const CREATE: &str = "/countersign.v1.OrgService/CreateRole";
        let role = |kinds| pb::Role { account_kinds: vec![1; kinds], ..Default::default() };
        let packed =
            |kinds| pb::CreateRoleRequest { role: Some(role(kinds)), ..Default::default() }.encode_to_vec();
        let most = bound("countersign.v1.Role", "account_kinds") as usize;
        assert_eq!(refused(CREATE, &packed(most)), None);
        assert_eq!(refused(CREATE, &packed(most + 1)).as_deref(), Some("role.account_kinds"));
    }

    #[test]
    fn what_is_malformed_is_left_to_the_decoder() {
        for message in [&[0xff; 12][..], &[0x0a, 0x7f], &[0x0c], &[0x0b, 0x0b], &[0x00]] {
            assert_eq!(refused(UPDATE, message), None, "{message:?}");
        }
        // It is refused where it is malformed, and counted up to there.
        let truncated = [mask(101), vec![0x0a, 0x7f]].concat();
        assert_eq!(refused(UPDATE, &truncated).as_deref(), Some("update_mask"));
        assert_eq!(refused("/countersign.v1.TokenService/NoSuch", &mask(101)), None);
    }

    #[test]
    fn unknown_fields_and_groups_are_skipped() {
        let unknown = [0xfa, 0x3f, 0x02, 0x08, 0x01].repeat(10_000);
        let group = [0xfb, 0x3f, 0x08, 0x01, 0xfc, 0x3f].repeat(10_000);
        assert_eq!(refused(UPDATE, &[unknown, group, mask(100)].concat()), None);
    }
}
