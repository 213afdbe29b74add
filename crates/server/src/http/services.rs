//! Services.

use axum::Json;
use axum::extract::State;
use offtake_protocol::rest::ListedService;

use super::caller::Asker;
use super::openapi::Problems;
use crate::problem::Refused;
use crate::server::App;

/// Lists services that are not over, with their replicas counted.
#[utoipa::path(
    get, path = "/v1/services", tag = "jobs", operation_id = "services",
    responses((
        status = 200,
        description = "The services, by identity. A member sees its own tenant's.",
        body = [ListedService]
    ), Problems)
)]
pub(super) async fn list(State(server): App, asker: Asker) -> Result<Json<Vec<ListedService>>, Refused> {
    let caller = asker.caller();
    Ok(Json(server.handle.ask(move |core| core.services(&caller)).await?))
}
