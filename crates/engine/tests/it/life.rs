//! The life of a job, of nodes, of caps and of the fleet, told as short stories.
