//! One binary of scenarios.

mod command;
mod completion;
mod containment;
mod contract;
mod dicomweb;
mod dimse;
mod examples;
mod grants;
mod input;
mod jobs;
mod malformed;
mod models;
mod node;
mod openvino;
mod peers;
mod priors;
mod readme;
mod record;
mod shown;
mod tls;
mod tools;
mod triage;
mod upstream;
mod vendor;
mod wado;
mod workers;
