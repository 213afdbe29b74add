//! Who asks: by a token, by the user at the other end of the socket, or by the signature of a node's agent.

mod agents;
mod callers;
mod peers;
mod rate;
mod remembered;

pub(crate) use agents::{Agents, Signed};
pub(crate) use callers::Callers;
pub(crate) use peers::{Peer, of_socket};
pub(crate) use rate::Rates;
