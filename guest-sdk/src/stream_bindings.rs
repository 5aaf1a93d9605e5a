//! Generated from the contract in `wit/` for modules that look at frames; what they share with others is in `bindings`.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::unwrap_used,
    reason = "generated, and natively only in part used"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "frame-analyzer",
    with: {
        "gantry:imaging/types@0.1.0": crate::bindings::gantry::imaging::types,
        "gantry:imaging/volumes@0.1.0": crate::bindings::gantry::imaging::volumes,
        "gantry:imaging/log@0.1.0": crate::bindings::gantry::imaging::log,
        "wasi:nn/tensor@0.2.0-rc-2024-10-28": crate::bindings::wasi::nn::tensor,
        "wasi:nn/graph@0.2.0-rc-2024-10-28": crate::bindings::wasi::nn::graph,
        "wasi:nn/inference@0.2.0-rc-2024-10-28": crate::bindings::wasi::nn::inference,
        "wasi:nn/errors@0.2.0-rc-2024-10-28": crate::bindings::wasi::nn::errors,
        "gantry:imaging/frames@0.1.0": generate,
    },
    pub_export_macro: true,
    export_macro_name: "export_frame_analyzer",
    default_bindings_module: "gantry_guest::__private::stream_bindings",
    additional_derives: [PartialEq],
});
