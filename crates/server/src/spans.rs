//! Spans for OpenTelemetry, through the tracer provider that the process has installed.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, Method, StatusCode};
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};

use crate::core::Caller;

/// Who makes a request, noted for its span once that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted(pub(crate) Arc<OnceLock<Arc<Caller>>>);

/// A request that was answered.
pub(crate) struct Answered<'a> {
    pub(crate) id: u64,
    pub(crate) method: &'a Method,
    pub(crate) route: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) caller: Option<&'a Caller>,
    /// The span of whoever asked.
    pub(crate) parent: SpanContext,
    pub(crate) took: Duration,
}

/// Tells what was done, and how long it took. Costs nothing while nobody wants to know.
#[derive(Debug)]
pub(crate) struct Spans(Option<BoxedTracer>);

impl Spans {
    pub(crate) fn new(wanted: bool) -> Self {
        Self(wanted.then(|| global::tracer("offtake")))
    }

    pub(crate) const fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// A request, named as OpenTelemetry's conventions for HTTP have it.
    pub(crate) fn request(&self, answered: Answered<'_>) {
        let Some(tracer) = &self.0 else { return };
        let Answered { id, method, route, status, caller, parent, took } = answered;
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.as_str().to_owned()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
            KeyValue::new("offtake.request_id", i64::try_from(id).unwrap_or(i64::MAX)),
        ];
        if let Some(caller) = caller {
            attributes.push(KeyValue::new("offtake.caller", caller.name.clone()));
            attributes.extend(caller.only_tenant().map(|tenant| KeyValue::new("offtake.tenant", tenant.to_owned())));
        }
        let span = SpanBuilder::from_name(format!("{method} {route}")).with_kind(SpanKind::Server);
        let mut span = start(tracer, span.with_attributes(attributes), parent, took);
        if status.is_server_error() {
            span.set_status(Status::Error { description: Cow::Borrowed("") });
        }
    }

    /// A pass of which so many facts came; the context for what follows from it.
    pub(crate) fn pass(&self, took: Duration, facts: usize) -> SpanContext {
        self.facts("placement pass", facts, SpanContext::NONE, took)
    }

    /// So many facts were written to the journal, or could not be.
    pub(crate) fn commit(&self, took: Duration, facts: usize, pass: SpanContext) {
        self.facts("journal commit", facts, pass, took);
    }

    fn facts(&self, name: &'static str, facts: usize, parent: SpanContext, took: Duration) -> SpanContext {
        let Some(tracer) = &self.0 else { return SpanContext::NONE };
        let attribute = KeyValue::new("offtake.facts", i64::try_from(facts).unwrap_or(i64::MAX));
        let span = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_attributes([attribute]);
        start(tracer, span, parent, took).span_context().clone()
    }
}

/// A span that began so long ago. It ends when it is dropped.
fn start(tracer: &BoxedTracer, span: SpanBuilder, parent: SpanContext, took: Duration) -> global::BoxedSpan {
    let now = SystemTime::now();
    let span = span.with_start_time(now.checked_sub(took).unwrap_or(now));
    // A parent that is none would be taken for one that is not sampled.
    let around = Context::new();
    let around = if parent.is_valid() { around.with_remote_span_context(parent) } else { around };
    tracer.build_with_context(span, &around)
}

/// The span of whoever asks, by the header `traceparent` (W3C Trace Context, level 1, 3.2); none where there is no valid one.
pub(crate) fn parent(headers: &HeaderMap) -> SpanContext {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
    given.and_then(read).unwrap_or(SpanContext::NONE)
}

fn read(given: &str) -> Option<SpanContext> {
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = given.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_whole = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    // Later versions may have more parts; the first has not.
    if !is_whole || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_as_the_standard_has_it() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let good = read(&format!("00-{trace}-{span}-01")).expect("the standard's own example");
        assert_eq!((good.trace_id().to_string(), good.span_id().to_string()), (trace.to_owned(), span.to_owned()));
        assert!(good.is_sampled() && good.is_remote());
        assert!(!read(&format!("00-{trace}-{span}-00")).expect("not sampled").is_sampled());
        assert!(read(&format!("01-{trace}-{span}-01-more")).is_some(), "a later version");
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{zeros}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{}-01", &span[1..]),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }
}
