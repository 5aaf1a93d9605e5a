//! One binary of scenarios.

mod containment;
