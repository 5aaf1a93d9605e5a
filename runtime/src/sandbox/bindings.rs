//! What wasmtime generates from `wit/`.

wasmtime::component::bindgen!({
    world: "analyzer",
    path: "../wit",
    imports: { default: trappable },
    trappable_error_type: { "gantry:imaging/types.failure" => crate::sandbox::Failure },
    with: {
        "gantry:imaging/study.series": crate::sandbox::capability::study::SeriesHandle,
        "gantry:imaging/upstream.finished": crate::sandbox::capability::upstream::FinishedHandle,
        "gantry:imaging/volumes.volume": crate::volumes::Volume,
        "wasi:nn/tensor.tensor": crate::tensor::Tensor,
        "wasi:nn/graph.graph": crate::sandbox::capability::nn::Graph,
        "wasi:nn/inference.graph-execution-context": crate::sandbox::capability::nn::Context,
        "wasi:nn/errors.error": crate::sandbox::capability::nn::NnError,
    },
});
