//! One binary of scenarios.

mod containment;
mod models;
mod peers;
mod vendor;
