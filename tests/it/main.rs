//! One binary of scenarios.

mod command;
mod containment;
mod input;
mod models;
mod peers;
mod readme;
mod vendor;
