//! The lines of the log, where more is enabled than they are to show.

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;

/// A layer that gets the events of these levels alone, and no spans.
///
/// It is not a filter of that layer, which would remember its refusals (see [`start`](super::start)).
pub(super) struct Lines<L> {
    pub(super) levels: Targets,
    pub(super) layer: L,
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Lines<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if self.levels.would_enable(metadata.target(), metadata.level()) {
            self.layer.on_event(event, context);
        }
    }
}
