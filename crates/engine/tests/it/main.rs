//! The engine against its invariants, on random fleets of work.

mod backfill;
mod blast;
mod cooling;
mod crossing;
mod curtail;
mod defrag;
mod elastic;
mod evacuation;
mod health;
mod history;
mod invariants;
mod life;
mod pause;
mod power;
mod preempt;
mod ramp;
mod reclaim;
mod reservations;
mod support;
mod tenants;
mod throttle;
mod topology;
mod torus;
