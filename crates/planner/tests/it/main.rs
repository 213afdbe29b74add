//! The planner's answers against what the engine really places.

mod size;
