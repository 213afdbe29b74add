//! Spans for an OpenTelemetry collector, when the standard environment variables name one.

use std::time::Duration;

use offtake_client::Trust;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// How long what was not sent yet may take at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// What the specification has where no other is set.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends spans on a thread of its own, from a queue that drops what it has no room for: a collector that is slow or away
/// costs spans, and nothing else. What is left is sent when this is dropped.
pub struct Export(Option<SdkTracerProvider>);

impl Export {
    /// Begins to export, where that is configured. Once in a process, and not within an event loop.
    ///
    /// What cannot be meant is logged, and nothing exported: work does not depend on it.
    pub fn begin() -> Self {
        let provider = provider().unwrap_or_else(|reason| {
            tracing::error!(reason, "no spans are exported to OpenTelemetry");
            None
        });
        if let Some(provider) = &provider {
            opentelemetry::global::set_tracer_provider(provider.clone());
        }
        Self(provider)
    }

    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let Some(provider) = &self.0 else { return };
        if let Err(error) = provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last spans were not exported to OpenTelemetry");
        }
    }
}

/// A variable that is set to something.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variable of traces, or else that of all signals.
fn exporter(name: &str) -> Option<String> {
    set(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

fn provider() -> Result<Option<SdkTracerProvider>, String> {
    let is_off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let Some(endpoint) = exporter("ENDPOINT").filter(|_| !is_off) else { return Ok(None) };
    if let Some(protocol) = exporter("PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
        return Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is `{protocol}`; allowed is http/protobuf, which collectors take at port 4318"
        ));
    }
    let timeout = match exporter("TIMEOUT") {
        None => TIMEOUT,
        Some(text) => Duration::from_millis(
            text.parse().map_err(|_| format!("OTEL_EXPORTER_OTLP_TIMEOUT is `{text}`; give milliseconds"))?,
        ),
    };
    let trust = exporter("CERTIFICATE").map_or(Trust::System, |path| Trust::Authority(path.into()));
    let client = reqwest::blocking::Client::builder()
        .timeout(timeout)
        .tls_backend_preconfigured(trust.configuration().map_err(|error| error.to_string())?)
        .build()
        .map_err(|error| error.to_string())?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|error| format!("{endpoint}: {error}"))?;
    tracing::info!(endpoint, "spans are exported to OpenTelemetry");
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build()))
}

/// What the spans are of: as `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", offtake_server::VERSION);
    let is_named = Resource::builder()
        .build()
        .get(&Key::from_static_str("service.name"))
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let resource = Resource::builder().with_attribute(version);
    if is_named { resource.build() } else { resource.with_service_name("offtake").build() }
}
