//! Write a Gantry module in Rust: read a study, run a model, state findings.
//!
//! A module is a WebAssembly component that Gantry runs in a sandbox beside the scanner. It sees one study, without
//! the patient's identity; it steers voxels and tensors that stay on the host; and it states findings, which the
//! host checks and writes as DICOM.
//!
//! # From an ONNX file to a package
//!
//! 1. `gantry module new liver` writes a folder `liver/` that builds and passes its test at once.
//! 2. Put your network into `liver/models/liver.onnx`. In `liver/module.toml`, name it, and add `"wasi:nn"` to
//!    `interfaces`:
//!
//!    ```toml
//!    [needs]
//!    interfaces = [
//!        "gantry:imaging/study",
//!        "gantry:imaging/volumes",
//!        "gantry:imaging/findings",
//!        "gantry:imaging/log",
//!        "wasi:nn",
//!    ]
//!
//!    [[models]]
//!    name = "liver"
//!    file = "models/liver.onnx"
//!    target = "cpu"              # or "gpu"
//!    ```
//!
//! 3. Replace `liver/src/lib.rs`: say how a study becomes the network's input, and its output a finding. This one
//!    takes a network of
//!
//!    | | name | type | shape | what it holds |
//!    | --- | --- | --- | --- | --- |
//!    | input | `ct` | f32 | [1, 1, z, y, x] | intensities, 0 to 1; z, y and x are free |
//!    | output | `scores` | f32 | [1, 2, z, y, x] | a score for background and one for liver, with softmax or without |
//!
//!    ```
//!    use gantry_guest::prelude::*;
//!
//!    struct Liver;
//!
//!    impl Analyzer for Liver {
//!        fn analyze(study: &Study) -> Result<(), Error> {
//!            // Hounsfield units, in whatever order and spacing the scanner chose.
//!            let source = study.first("CT")?.volume(0)?;
//!            // What the network was trained on: axes towards left, posterior, head; 3 mm; soft tissue in 0..1.
//!            let input = source
//!                .orient("LPS")?
//!                .resample(Vec3::new(3.0, 3.0, 3.0), Interpolation::Linear)?
//!                .window(40.0, 400.0)?;
//!            let outputs = Model::load("liver")?.run([("ct", input.to_tensor(TensorType::Fp32)?)])?;
//!            // Scores for background and liver, back on the grid of the source.
//!            let labels = volumes::argmax(outputs.get("scores")?, &input, &source)?.keep_largest(1)?;
//!
//!            let liver = Code::sct("10200004", "Liver");
//!            findings::segmentation(&labels, &[Segment::anatomy(1, "Liver", liver)])?;
//!            let millilitres = labels.components(1)?.iter().map(|c| c.millilitres).sum();
//!            findings::measure(&Code::sct("118565006", "Volume"), millilitres, "mL", Some(1))
//!        }
//!    }
//!
//!    gantry_guest::export!(Liver);
//!
//!    # /*
//!    #[cfg(test)]
//!    # */
//!    mod tests {
//!        use super::*;
//!        use gantry_guest::testing::{FakeSeries, FakeStudy, run};
//!
//!        # /*
//!        #[test]
//!        # */
//!        # pub
//!        fn the_half_with_soft_tissue_is_measured() {
//!            // 4 × 4 × 4 voxels of 3 mm, of which 2 × 4 × 4 hold soft tissue and the rest air.
//!            let grid = Geometry::upright(Extent::new(4, 4, 4), Vec3::new(3.0, 3.0, 3.0));
//!            let series = FakeSeries::new("CT").volume_from(grid, |[x, ..]| if x < 2 { 60.0 } else { -1000.0 });
//!            // A closure plays the network: liver where the input is above 0.5.
//!            let study = FakeStudy::new().series(series).model("liver", |inputs| {
//!                let (name, ct) = &inputs[0];
//!                assert_eq!((name.as_str(), ct.dimensions()), ("ct", vec![1, 1, 4, 4, 4]));
//!                let liver = ct.to_f32().map_err(|e| e.to_string())?;
//!                let background = vec![0.5; liver.len()];
//!                let scores = Tensor::from_f32(&[1, 2, 4, 4, 4], &[background, liver].concat());
//!                Ok(vec![("scores".into(), scores)])
//!            });
//!
//!            let stated = run::<Liver>(study).expect("a CT is analyzed");
//!            let (quantity, millilitres, unit, segment) = &stated.measurements[0];
//!            assert_eq!((quantity.meaning.as_str(), unit.as_str(), *segment), ("Volume", "mL", Some(1)));
//!            assert!((millilitres - 32.0 * 0.027).abs() < 1e-9);
//!        }
//!    }
//!    # fn main() { tests::the_half_with_soft_tissue_is_measured() }
//!    ```
//!
//! 4. Test it natively: `cargo test` in `liver/` runs what is in `mod tests`, in seconds and without Gantry.
//!    [`testing`] has fake studies, and closures that play models.
//! 5. Rewrite `liver/MODEL_CARD.md`. Then `gantry module build liver` makes the package `liver/package/`: the
//!    component, the models, the manifest with the digest of each, and the model card.
//! 6. `gantry module test liver` runs the cases of `liver/cases/`, and `gantry module check liver` asks what a hospital will.
//! 7. `gantry run --module liver/package STUDY --out OUT` runs it.
//!
//! `examples/module.toml` in the repository of Gantry explains every key of the manifest.
//!
//! # What to know
//!
//! - **Voxels stay on the host.** A [`Volume`] or [`Tensor`] is a handle; operations give new handles. Drop what
//!   you no longer need: the job has a budget of host memory. [`Volume::read`] copies a region into the module.
//! - **Large studies go slab by slab.** [`Volume::crop`] is a view; [`volumes::stack`] puts results together.
//! - **Ask for what you use.** The manifest names interfaces and attributes; what the operator does not grant is
//!   not there. A component imports exactly the interfaces that its code uses. Modules made with [`export!`] always
//!   import `gantry:imaging/log`: a panic is logged, with its place, before the job ends as failed.
//! - **Earlier studies are asked for.** [`Study::earlier`] gives those of the same patient, by how many days before; the
//!   manifest lists `"gantry:imaging/priors"`, and says with `priors_max` how many it can use. `docs/priors.md` in the
//!   repository says what a site does to provide them.
//! - **An error ends the job.** Return it with `?`; its text is shown to the operator, with the lines of your log.
//!   When the input is not fit for your model, say so with [`findings::unfit`] and return `Ok`.
//!
//! - **Modules come after one another where the site says so.** [`upstream`] has what earlier ones found, their
//!   segmentations too.
//!
//! - **What a network needs before and after** is there: smoothing, percentiles, projections, splines, morphology, masks of the
//!   body, as methods of [`Volume`]; the manifest lists `"gantry:imaging/filters"`. A network that takes windows of a volume is
//!   run over all of it by [`Model::sliding_window`] (`"gantry:imaging/patches"`).
//!
//! - **What is seen is believed.** [`marks`] has a heatmap and boxes, which the host shows over the images.
//!
//! - **Frames one after another are another kind of module.** One that guides whoever holds an ultrasound probe implements
//!   [`frames::FrameAnalyzer`] instead of [`Analyzer`], with the feature `frames` of this crate, and `gantry stream` runs it.
//!
//! Order of reading: [`Analyzer`], [`Study`], [`Volume`] and [`volumes`], [`Model`], [`findings`], [`marks`],
//! [`upstream`], [`frames`], [`testing`].

#![expect(clippy::test_attr_in_doctest, reason = "hidden lines take the attribute out, and `main` calls the test")]

#[doc(hidden)]
pub mod bindings;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod fake;
mod filters;
pub mod findings;
#[cfg(any(feature = "frames", not(target_arch = "wasm32")))]
pub mod frames;
mod log;
pub mod marks;
mod patches;
#[doc(hidden)]
#[cfg(any(feature = "frames", not(target_arch = "wasm32")))]
pub mod stream_bindings;
mod study;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod types;
pub mod upstream;
pub mod volumes;

pub use error::Error;
pub use study::{Prior, Series, Study};
pub use tensor::{Model, Outputs, Tensor};
pub use types::{
    Axes, Axis, Blend, Code, Component, ErrorCode, Extent, Failure, Geometry, Interpolation, Morphology, Projection,
    Region, Sampling, Segment, Statistics, TensorType, Urgency, Vec3, Windows,
};
pub use volumes::Volume;

/// What a module's source begins with: `use gantry_guest::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Analyzer, Axes, Axis, Blend, Code, Component, Error, ErrorCode, Extent, Failure, Geometry, Interpolation,
        Model, Morphology, Outputs, Prior, Projection, Region, Sampling, Segment, Series, Statistics, Study, Tensor,
        TensorType, Urgency, Vec3, Volume, Windows, debug, findings, info, marks, upstream, volumes, warn,
    };
}

/// Who answers: the host for a component, the fake natively. Both have the same names.
mod sys {
    #[cfg(target_arch = "wasm32")]
    pub(crate) use crate::bindings::{
        gantry::imaging::{filters, findings, log, marks, patches, priors, study, upstream, volumes},
        wasi::nn::{errors, graph, inference, tensor},
    };
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) use crate::fake::stream as frames;
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) use crate::fake::{
        errors, filters, findings, graph, inference, log, marks, patches, priors, study, tensor, upstream, volumes,
    };
    #[cfg(all(feature = "frames", target_arch = "wasm32"))]
    pub(crate) use crate::stream_bindings::gantry::imaging::frames;
}

/// A module: sees one study, states findings.
pub trait Analyzer {
    /// Called once a job. An error ends the job as failed; its text is shown to the operator.
    fn analyze(study: &Study) -> Result<(), Error>;
}

/// Makes a type that implements [`Analyzer`] the module of this crate. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export {
    ($analyzer:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Exported;
            impl $crate::__private::bindings::Guest for Exported {
                fn analyze() -> ::core::result::Result<(), ::std::string::String> {
                    $crate::__private::analyze::<$analyzer>()
                }
            }
    $crate::__private::bindings::export_analyzer!(Exported with_types_in $crate::__private::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> ::core::result::Result<(), ::std::string::String> = $crate::__private::analyze::<$analyzer>;
    };
}

/// For the macros.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    pub use crate::bindings::gantry::imaging::log::Level;
    #[cfg(all(feature = "frames", target_arch = "wasm32"))]
    pub use crate::frames::session::{close, next, open};
    #[cfg(any(feature = "frames", not(target_arch = "wasm32")))]
    pub use crate::stream_bindings;

    /// What the component exports.
    pub fn analyze<A: crate::Analyzer>() -> Result<(), String> {
        say_panics();
        A::analyze(&crate::Study::of_this_job()).map_err(|error| error.to_string())
    }

    /// A panic ends the component without a word, so say it before.
    pub(crate) fn say_panics() {
        #[cfg(target_arch = "wasm32")]
        std::panic::set_hook(Box::new(|panic| log(Level::Warn, format_args!("{panic}"))));
    }

    /// One line of the log.
    pub fn log(level: Level, text: core::fmt::Arguments<'_>) {
        crate::sys::log::write(level, &text.to_string());
    }
}
