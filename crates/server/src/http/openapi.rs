//! The OpenAPI document, from the handlers and the types that they take and give.

use offtake_protocol::rest::Problem;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi};

/// The header that makes a write repeatable.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header; the value is read by hand")]
pub(super) struct IdempotencyKey {
    /// A repetition with the same key and the same body changes nothing and gets the same answer. Kept for a day.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    idempotency_key: Option<String>,
}

/// What every read may be refused with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers; they are made by hand")]
pub(super) enum Problems {
    /// The request cannot be meant.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// Nobody known asks.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// Whoever asks may not.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// There is no such thing, or none that the caller may know of.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// A value cannot be meant; the field is named.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(Problem),
    /// Too much at once; the header Retry-After says when to ask again.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// The server has failed; its log says how.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// Not now; the header Retry-After says when to ask again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// What every write may be refused with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers; they are made by hand")]
pub(super) enum WriteProblems {
    /// The request cannot be meant.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// Nobody known asks.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// Whoever asks may not.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// There is no such thing, or none that the caller may know of.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The body did not come in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Timeout(Problem),
    /// It cannot be done as things stand.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is no JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedType(Problem),
    /// A value cannot be meant; the field is named.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(Problem),
    /// Too much at once; the header Retry-After says when to ask again.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// The server has failed; its log says how.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// Not now: nothing was recorded. The header Retry-After says when to ask again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Offtake",
        description = "The control plane for fleets of AI compute. Instants are milliseconds since 1970 UTC.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        super::jobs::submit,
        super::jobs::submit_batch,
        super::jobs::list,
        super::jobs::get,
        super::jobs::cancel,
        super::jobs::hold,
        super::jobs::release,
        super::jobs::requeue,
        super::jobs::scale,
        super::jobs::demand,
        super::jobs::why,
        super::services::list,
        super::logs::read,
        super::steps::ask,
        super::steps::get,
        super::steps::end,
        super::nodes::list,
        super::nodes::get,
        super::nodes::drain,
        super::nodes::resume,
        super::nodes::fleet,
        super::grid::set_cap,
        super::grid::list,
        super::grid::announce,
        super::grid::withdraw,
        super::policy::get,
        super::policy::set,
        super::policy::tenants,
        super::reservations::list,
        super::reservations::make,
        super::reservations::withdraw,
        super::what_if::ask,
        super::defrag::plan,
        super::defrag::apply,
        super::events::follow,
        super::tokens::list,
        super::tokens::make,
        super::tokens::revoke,
        super::tokens::make_join_token,
        super::agents::join,
        super::agents::exchange,
        super::agents::logs,
        super::about::health,
        super::about::version,
        super::about::openapi,
        super::about::metrics,
    ),
    tags(
        (name = "jobs", description = "What is asked for."),
        (name = "steps", description = "What runs inside a job: what `srun` asks for."),
        (name = "nodes", description = "What there is to run it on."),
        (name = "grid", description = "What may be drawn, and what is asked of it for a time."),
        (name = "policy", description = "Who goes first, and what tenants may have."),
        (name = "events", description = "What has happened."),
        (name = "tokens", description = "Who may ask."),
        (name = "agents", description = "For the agents on the nodes; `docs/api.md` explains their signatures."),
        (name = "server", description = "The server itself."),
    ),
    security(("token" = [])),
    modifiers(&SecuritySchemes)
)]
struct Document;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "A token, made with `POST /v1/tokens`. Over the unix socket none is needed: the kernel names the user.",
        ));
        components.add_security_scheme("token", SecurityScheme::Http(token.build()));
        let agent = ApiKeyValue::with_description(
            offtake_protocol::agent::SIGNATURE_HEADER,
            "The Ed25519 signature of a node's agent; goes with the headers offtake-node and offtake-time.",
        );
        components.add_security_scheme("agent", SecurityScheme::ApiKey(ApiKey::Header(agent)));
    }
}

/// The OpenAPI document of the API. `docs/openapi.json` is this, and a test holds them together.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
