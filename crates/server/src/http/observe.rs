//! Every request is counted, timed, logged and traced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::server::Server;
use crate::spans::{Answered, Noted, parent};

static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// The header that names a request in the server's log.
const REQUEST_ID: &str = "x-request-id";

pub(super) async fn observe(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "request",
        id,
        %method,
        route,
        caller = tracing::field::Empty,
        status = tracing::field::Empty,
        ms = tracing::field::Empty
    );
    let traced = server.shared.spans.are_wanted().then(|| {
        let caller = Noted::default();
        request.extensions_mut().insert(caller.clone());
        (caller, parent(request.headers()))
    });
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status(), began.elapsed());
    server.shared.metrics.http_request(&route, &method, status, took);
    if let Some((caller, parent)) = traced {
        let caller = caller.0.get().map(Arc::as_ref);
        server.shared.spans.request(Answered { id, method: &method, route: &route, status, caller, parent, took });
    }
    span.record("status", status.as_u16());
    span.record("ms", took.as_secs_f64() * 1e3);
    if status.is_server_error() {
        tracing::warn!(parent: &span, "refused");
    } else {
        tracing::debug!(parent: &span, "answered");
    }
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from(id));
    response
}
