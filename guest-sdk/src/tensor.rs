//! Models and what goes in and out of them (wasi-nn).

use crate::error::Error;
use crate::sys;
use crate::types::TensorType;

/// A tensor on the host: row-major, little-endian.
#[derive(Debug)]
pub struct Tensor(pub(crate) sys::tensor::Tensor);

impl Tensor {
    /// Elements that the module computed itself. The length of `data` must be the product of the dimensions times
    /// the size of an element: the host ends the job when it is not, and past `host_memory_mib`.
    #[must_use]
    pub fn new(dimensions: &[u32], ty: TensorType, data: &[u8]) -> Self {
        Self(sys::tensor::Tensor::new(dimensions, ty, data))
    }

    /// As [`Tensor::new`], from `f32`.
    #[must_use]
    pub fn from_f32(dimensions: &[u32], elements: &[f32]) -> Self {
        let data: Vec<u8> = elements.iter().flat_map(|e| e.to_le_bytes()).collect();
        Self::new(dimensions, TensorType::Fp32, &data)
    }

    /// Size of each dimension, outermost first.
    #[must_use]
    pub fn dimensions(&self) -> Vec<u32> {
        self.0.dimensions()
    }

    /// Type of the elements.
    #[must_use]
    pub fn ty(&self) -> TensorType {
        self.0.ty()
    }

    /// Copies all elements into the module's memory; the job ends past `guest_read_mib` (64). Meant for small outputs,
    /// such as the scores of a classifier; what is a grid stays on the host with
    /// [`volumes::from_tensor`](crate::volumes::from_tensor).
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        self.0.data()
    }

    /// The elements of an `f32` tensor; an error for another type.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        if self.ty() != TensorType::Fp32 {
            return Err(Error::new(format_args!("the tensor holds {:?}, not Fp32", self.ty())));
        }
        let data = self.data();
        Ok(data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// A model of the module's own package, ready to run.
#[derive(Debug)]
pub struct Model {
    name: String,
    pub(crate) context: sys::inference::GraphExecutionContext,
}

impl Model {
    /// Loads a model by the name that the manifest gives it.
    ///
    /// Fails with `not-found` for any other name, `runtime-error` when the model cannot be read or loaded, and
    /// `unsupported-operation` when it is to run on a GPU and there is none.
    pub fn load(name: &str) -> Result<Self, Error> {
        let graph = sys::graph::load_by_name(name)?;
        Ok(Self { name: name.into(), context: graph.init_execution_context()? })
    }

    /// Runs it on every input by name. The host takes the tensors: they are not copied.
    ///
    /// Fails with `invalid-argument`, which names the input that is missing, unknown, twice there, or of the wrong type
    /// or shape; `too-large` past `host_memory_mib`; and `runtime-error` when the engine fails.
    pub fn run<N: Into<String>>(&self, inputs: impl IntoIterator<Item = (N, Tensor)>) -> Result<Outputs, Error> {
        let inputs = inputs.into_iter().map(|(name, tensor)| (name.into(), tensor.0)).collect::<Vec<_>>();
        let outputs = self.context.compute(inputs)?;
        let tensors = outputs.into_iter().map(|(name, tensor)| (name, Tensor(tensor))).collect();
        Ok(Outputs { model: self.name.clone(), tensors })
    }
}

/// What a model gave, by name.
#[derive(Debug)]
pub struct Outputs {
    model: String,
    tensors: Vec<(String, Tensor)>,
}

impl Outputs {
    /// An output by name; an error that lists what there is otherwise.
    pub fn get(&self, name: &str) -> Result<&Tensor, Error> {
        let found = self.tensors.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.tensors.iter().map(|(name, _)| name.as_str()).collect();
            Error::new(format_args!("model {} has no output {name}; it has {}", self.model, names.join(", ")))
        })
    }

    /// All of them, in the order of the model.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}
