//! The server as its users meet it: over its socket, TCP and TLS, on a folder of its own.

mod agents;
mod durability;
mod events;
mod identity;
mod jobs;
mod limits;
mod openapi;
mod support;
mod tls;
