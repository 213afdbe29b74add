//! Reading and writing workloads through the public interface.

mod builders;
mod errors;
mod guide;
mod real_traces;
mod round_trip;
mod wild_input;
