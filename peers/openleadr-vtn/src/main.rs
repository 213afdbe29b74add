//! OpenLEADR's VTN as its own binary starts it, but on this machine alone. Prints its port when it is ready.

use openleadr_vtn::{VtnConfig, VtnServer};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let VtnServer { router, listener, .. } = VtnServer::new(VtnConfig::from_env()).await?;
    let port = listener.local_addr()?.port();
    drop(listener);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("{port}");
    axum::serve(listener, router).await?;
    Ok(())
}
