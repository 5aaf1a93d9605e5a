//! One binary of scenarios.

mod command;
mod containment;
mod contract;
mod examples;
mod grants;
mod input;
mod jobs;
mod models;
mod peers;
mod readme;
mod record;
mod vendor;
