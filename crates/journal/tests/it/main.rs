//! The journal through its public interface: on real files, with crashes, damage and full disks.

mod archive;
mod crash;
mod damage;
mod fixture;
mod history;
mod limits;
mod lock;
mod model;
mod reading;
mod snapshots;
mod support;
mod transfer;
mod writer;
