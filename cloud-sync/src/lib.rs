//! What leaves a hospital for the cloud: de-identified, proven to be, sealed in batches, uploaded once.
//! It does not depend on the runtime.
