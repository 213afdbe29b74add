//! Reading and writing workloads through the public interface.

mod builders;
mod errors;
mod guide;
mod job_file;
mod real_traces;
mod round_trip;
mod sbatch;
mod wild_input;
