//! The text of `/metrics`, in the format of OpenMetrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::families;
use super::writer::Writer;
use crate::state::State;

/// The beginning of each name.
const PREFIX: &str = "countersign";

/// All metrics of a server, as they are now.
pub fn exposition(state: Arc<State>) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Families(state)));
    let mut text = String::with_capacity(64 << 10);
    encode(&mut text, &registry).expect("a string takes any text");
    text
}

struct Families(Arc<State>);

impl Collector for Families {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        families::write(&mut Writer::new(encoder), &self.0)
    }
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Families")
    }
}
