//! Stands in for the host in native unit tests: the same names and signatures as the generated bindings, in memory.
//!
//! The operations are written to be obviously right, one voxel at a time; the host's own are the fast ones.

mod frames;
mod grid;
mod job;
mod labels;
mod near;
mod ops;
mod spline;
mod windows;

pub(crate) use frames::judge;
pub(crate) use job::Job;

pub(crate) mod study {
    pub(crate) use super::job::{Series, accepted};
}

pub(crate) mod priors {
    pub(crate) use super::job::{Prior, earlier};
}

pub(crate) mod volumes {
    pub(crate) use super::grid::Volume;
    pub(crate) use super::ops::{argmax, from_list, from_tensor, softmax, stack};
}

pub(crate) mod filters {
    pub(crate) use super::near::{
        body_mask, breast_mask, equalise, gaussian, gradient_magnitude, median, morphology, normalise, percentiles,
        project, slab,
    };
    pub(crate) use super::spline::{onto, resample_cubic};
}

pub(crate) mod patches {
    pub(crate) use super::windows::sliding_window;
}

pub(crate) mod findings {
    pub(crate) use super::job::{classify, measure, probabilities, segmentation, triage, unfit};
}

pub(crate) mod marks {
    pub(crate) use super::job::{heatmap, mark};
}

pub(crate) mod upstream {
    pub(crate) use super::job::{Finished, results};
}

pub(crate) mod stream {
    pub(crate) use super::frames::Frame;
}

pub(crate) mod log {
    pub(crate) use super::job::write;
}

pub(crate) mod tensor {
    pub(crate) use super::job::Tensor;
}

pub(crate) mod graph {
    pub(crate) use super::job::load_by_name;
}

pub(crate) mod inference {
    pub(crate) use super::job::GraphExecutionContext;
}

pub(crate) mod errors {
    pub(crate) use super::job::Error;
}
