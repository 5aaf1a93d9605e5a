//! One binary of scenarios.

mod containment;
mod grants;
mod models;
mod record;
mod vendor;
