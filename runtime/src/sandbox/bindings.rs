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
        "wasi:nn/graph.graph": wasmtime_wasi_nn::Graph,
        "wasi:nn/inference.graph-execution-context": wasmtime_wasi_nn::ExecutionContext,
        "wasi:nn/errors.error": crate::sandbox::capability::nn::NnError,
    },
});
