//! What wasmtime generates from `wit/` for modules that look at streams: what they have in common with others is that of
//! [`super::bindings`].

wasmtime::component::bindgen!({
    world: "frame-analyzer",
    path: "../wit",
    imports: { default: trappable },
    trappable_error_type: { "gantry:imaging/types.failure" => crate::sandbox::Failure },
    with: {
        "gantry:imaging/types": crate::sandbox::bindings::gantry::imaging::types,
        "gantry:imaging/volumes": crate::sandbox::bindings::gantry::imaging::volumes,
        "gantry:imaging/log": crate::sandbox::bindings::gantry::imaging::log,
        "wasi:nn/tensor": crate::sandbox::bindings::wasi::nn::tensor,
        "wasi:nn/graph": crate::sandbox::bindings::wasi::nn::graph,
        "wasi:nn/inference": crate::sandbox::bindings::wasi::nn::inference,
        "wasi:nn/errors": crate::sandbox::bindings::wasi::nn::errors,
        "gantry:imaging/frames.frame": crate::sandbox::capability::frames::FrameHandle,
    },
});
