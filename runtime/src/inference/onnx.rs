//! What the host reads of an ONNX file before an engine sees it.
//!
//! A walk over the protobuf wire format, without a copy of the weights, that finds the signature and refuses what
//! must not reach an engine: tensors kept in other files (engines would open them by paths that the vendor chose, or
//! take numbers for addresses), inputs and outputs that are no tensors, and the ambiguities of protobuf that two
//! parsers could read differently.
//!
//! Message and field numbers are those of `onnx.proto` 1.20.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::check::RANK_MAX;
use super::{Dim, InferenceError, TensorSpec, name};
use crate::tensor::{ElementType, Tensor};

/// Graphs within attributes of nodes within graphs: deeper than any exporter nests, shallower than our stack.
const DEPTH_MAX: usize = 24;

/// Nodes of all graphs: nets for volumes have some thousand.
const NODES_MAX: usize = 100_000;
/// Inputs and outputs of a graph, operator sets, dimensions: each takes more of the host's memory than of the file.
const PORTS_MAX: usize = 1024;
/// The latest operator set of [`STANDARD`] that is known: a model of a later one is of an exporter that nobody tried here.
const OPSET_MAX: u64 = 25;
/// Operator sets that engines bring along. Operators of others are native code of a vendor, which no engine here has.
const DOMAINS: [&str; 4] = [STANDARD, "ai.onnx", "ai.onnx.ml", "com.microsoft"];
/// How most models write `ai.onnx`.
const STANDARD: &str = "";

/// What a model is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Anatomy {
    /// Nodes of all graphs and functions.
    pub nodes: usize,
    /// Version of the standard's operator set.
    pub opset: u64,
    /// Names of its operators, with their domain where that is not the standard's.
    pub operators: BTreeSet<String>,
}

/// The bytes of a model that the host has looked through, and its signature.
#[derive(Debug)]
pub struct OnnxModel<'a> {
    name: &'a str,
    bytes: &'a [u8],
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    anatomy: Anatomy,
    sha256: OnceLock<[u8; 32]>,
    warm_up: BTreeMap<String, Vec<usize>>,
}

impl<'a> OnnxModel<'a> {
    /// Reads the signature of a model of at most `model_max_mib` MiB. `name` is its name in the package.
    ///
    /// Fails with [`InferenceError::Refused`] when it is larger, is no ONNX model, keeps tensors in other files, or
    /// takes or gives anything but tensors of wasi-nn's types.
    pub fn read(name: &'a str, bytes: &'a [u8], model_max_mib: u64) -> Result<Self, InferenceError> {
        let refused = |reason| InferenceError::Refused { model: super::name(name), reason };
        if bytes.len() as u64 > model_max_mib.saturating_mul(1 << 20) {
            return Err(refused(format!("its {} bytes pass model_max_mib = {model_max_mib}", bytes.len())));
        }
        // ONNX Runtime would take these flatbuffers for what they are, past every check below.
        if bytes.get(4..8) == Some(b"ORTM") {
            return Err(refused("it is in ORT format; export it as ONNX".into()));
        }
        let (inputs, outputs, anatomy) = signature(bytes).map_err(refused)?;
        Ok(Self { name, bytes, inputs, outputs, anatomy, sha256: OnceLock::new(), warm_up: BTreeMap::new() })
    }

    /// Its name in the package.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What it takes, without inputs that an initializer gives.
    #[must_use]
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What it gives.
    #[must_use]
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// What it is made of.
    #[must_use]
    pub fn anatomy(&self) -> &Anatomy {
        &self.anatomy
    }

    /// The operator that makes this value of the graph, without its domain, and what it takes first; none where no node makes it.
    #[must_use]
    pub fn made_by(&self, value: &str) -> Option<(&'a str, Option<&'a str>)> {
        // The file was read to its end before, so nothing is wrong with a field.
        let graph = Fields(self.bytes).flatten().find_map(|field| match field {
            (7, Value::Bytes(graph)) => Some(graph),
            _ => None,
        })?;
        for field in Fields(graph).flatten() {
            let (1, Value::Bytes(node)) = field else { continue };
            let (mut first, mut operator, mut makes) = (None, "", false);
            for field in Fields(node).flatten() {
                match field {
                    (1, Value::Bytes(input)) if first.is_none() => first = std::str::from_utf8(input).ok(),
                    (2, Value::Bytes(output)) => makes |= output == value.as_bytes(),
                    (4, Value::Bytes(bytes)) => operator = std::str::from_utf8(bytes).unwrap_or_default(),
                    _ => {}
                }
            }
            if makes {
                return Some((operator, first));
            }
        }
        None
    }

    /// SHA-256 of the file.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        *self.sha256.get_or_init(|| Sha256::digest(self.bytes).into())
    }

    /// With a first run as soon as it is loaded: shapes of its inputs, by name.
    #[must_use]
    pub fn warmed_up_by(mut self, shapes: &BTreeMap<String, Vec<usize>>) -> Self {
        self.warm_up.clone_from(shapes);
        self
    }

    /// Shapes of inputs for a first run; none where there is none.
    #[must_use]
    pub fn warm_up(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.warm_up
    }
}

type Read<T> = Result<T, String>;

/// What was seen on the way through a file.
#[derive(Default)]
struct Seen<'a> {
    nodes: usize,
    /// Domain and name.
    operators: BTreeSet<(&'a str, &'a str)>,
}

/// `ModelProto`.
fn signature(bytes: &[u8]) -> Read<(Vec<TensorSpec>, Vec<TensorSpec>, Anatomy)> {
    let mut graph = None;
    let mut opsets = Vec::new();
    let mut functions = HashSet::new();
    let mut seen = Seen::default();
    for field in Fields(bytes) {
        match field? {
            (8, Value::Bytes(opset)) if opsets.len() < PORTS_MAX => opsets.push(read_opset(opset)?),
            (8, Value::Bytes(_)) => return Err(format!("it states more than {PORTS_MAX} operator sets")),
            (7, Value::Bytes(bytes)) => once(&mut graph, bytes, "graph")?,
            // TrainingInfoProto: two graphs.
            (20, Value::Bytes(training)) => {
                for field in Fields(training) {
                    if let (1 | 2, Value::Bytes(bytes)) = field? {
                        read_graph(bytes, 0, &mut seen)?;
                    }
                }
            }
            (25, Value::Bytes(bytes)) => {
                functions.insert(read_function(bytes, &mut seen)?);
            }
            _ => {}
        }
    }
    let graph = graph.ok_or("it holds no graph: it is no ONNX model")?;
    if opsets.is_empty() {
        return Err("it states no operator set, or is truncated".into());
    }
    let standard = |domain: &str| domain == STANDARD || domain == "ai.onnx";
    let opset = opsets.iter().filter(|(domain, _)| standard(domain)).map(|(_, version)| *version).max().unwrap_or(0);
    if opset > OPSET_MAX {
        return Err(format!("it is of operator set {opset}, later than {OPSET_MAX}; export it for an earlier one"));
    }
    let GraphParts { inputs, outputs, initializers } = read_graph(graph, 0, &mut seen)?;
    let foreign =
        |(domain, operator): &&(&str, &str)| !DOMAINS.contains(domain) && !functions.contains(&(*domain, *operator));
    if let Some((domain, operator)) = seen.operators.iter().find(foreign) {
        return Err(format!(
            "operator '{}' of '{}' is a vendor's own, which no engine has; export the model with standard operators",
            name(operator),
            name(domain)
        ));
    }
    let written = |(domain, operator): &(&str, &str)| match standard(domain) {
        true => name(operator),
        false => format!("{}.{}", name(domain), name(operator)),
    };
    let anatomy = Anatomy { nodes: seen.nodes, opset, operators: seen.operators.iter().map(written).collect() };
    let inputs = inputs
        .into_iter()
        .map(|bytes| read_value(bytes, "input"))
        .filter(|value| !value.as_ref().is_ok_and(|v| initializers.contains(v.name.as_str())))
        .collect::<Read<Vec<_>>>()?;
    let inputs = inputs.into_iter().map(Info::input).collect::<Read<Vec<_>>>()?;
    let outputs = outputs.into_iter().map(|bytes| read_value(bytes, "output")?.output()).collect::<Read<Vec<_>>>()?;
    if outputs.is_empty() {
        return Err("it has no outputs".into());
    }
    distinct(&inputs, "inputs")?;
    distinct(&outputs, "outputs")?;
    Ok((inputs, outputs, anatomy))
}

/// `OperatorSetIdProto`: domain and version.
fn read_opset(bytes: &[u8]) -> Read<(&str, u64)> {
    let (mut domain, mut version) = ("", 0);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => domain = text(bytes, "domain")?,
            (2, Value::Number(number)) => version = number,
            _ => {}
        }
    }
    Ok((domain, version))
}

fn distinct(specs: &[TensorSpec], which: &str) -> Read<()> {
    let mut seen = HashSet::new();
    match specs.iter().find(|spec| !seen.insert(spec.name.as_str())) {
        Some(spec) => Err(format!("two {which} are called '{}'", name(&spec.name))),
        None => Ok(()),
    }
}

/// Parts of a `GraphProto`, unread.
struct GraphParts<'a> {
    inputs: Vec<&'a [u8]>,
    outputs: Vec<&'a [u8]>,
    initializers: HashSet<&'a str>,
}

fn read_graph<'a>(bytes: &'a [u8], depth: usize, seen: &mut Seen<'a>) -> Read<GraphParts<'a>> {
    if depth > DEPTH_MAX {
        return Err(format!("graphs are nested deeper than {DEPTH_MAX}"));
    }
    let mut made = HashSet::new();
    let mut graph = GraphParts { inputs: vec![], outputs: vec![], initializers: HashSet::new() };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(node)) => read_node(node, depth, seen, &mut made)?,
            (5, Value::Bytes(tensor)) => {
                graph.initializers.insert(read_tensor(tensor)?);
            }
            (11 | 12, _) if graph.inputs.len() + graph.outputs.len() >= PORTS_MAX => {
                return Err(format!("it has more than {PORTS_MAX} inputs and outputs"));
            }
            (11, Value::Bytes(input)) => graph.inputs.push(input),
            (12, Value::Bytes(output)) => graph.outputs.push(output),
            (15, Value::Bytes(sparse)) => {
                graph.initializers.insert(read_sparse(sparse)?);
            }
            _ => {}
        }
    }
    Ok(graph)
}

/// `FunctionProto`: nodes, and default values of attributes. Its domain and name.
fn read_function<'a>(bytes: &'a [u8], seen: &mut Seen<'a>) -> Read<(&'a str, &'a str)> {
    let (mut domain, mut function) = ("", "");
    let mut made = HashSet::new();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => function = text(bytes, "function")?,
            (10, Value::Bytes(bytes)) => domain = text(bytes, "domain")?,
            (7, Value::Bytes(node)) => read_node(node, 0, seen, &mut made)?,
            (11, Value::Bytes(attribute)) => read_attribute(attribute, 0, seen)?,
            _ => {}
        }
    }
    Ok((domain, function))
}

/// `made` has what the nodes before it make: each value is made once, and engines differ where it is not.
fn read_node<'a>(bytes: &'a [u8], depth: usize, seen: &mut Seen<'a>, made: &mut HashSet<&'a str>) -> Read<()> {
    seen.nodes += 1;
    if seen.nodes > NODES_MAX {
        return Err(format!("it has more than {NODES_MAX} nodes"));
    }
    let (mut domain, mut operator) = ("", "");
    for field in Fields(bytes) {
        match field? {
            (2, Value::Bytes(bytes)) => {
                let output = text(bytes, "value")?;
                // Without a name: one that nobody wants.
                if !output.is_empty() && !made.insert(output) {
                    return Err(format!("two nodes make '{}'", name(output)));
                }
            }
            (4, Value::Bytes(bytes)) => operator = text(bytes, "operator")?,
            (7, Value::Bytes(bytes)) => domain = text(bytes, "domain")?,
            (5, Value::Bytes(attribute)) => read_attribute(attribute, depth, seen)?,
            _ => {}
        }
    }
    seen.operators.insert((domain, operator));
    Ok(())
}

/// `AttributeProto`: may hold tensors and graphs, one or many.
fn read_attribute<'a>(bytes: &'a [u8], depth: usize, seen: &mut Seen<'a>) -> Read<()> {
    for field in Fields(bytes) {
        match field? {
            (5 | 10, Value::Bytes(tensor)) => {
                read_tensor(tensor)?;
            }
            (6 | 11, Value::Bytes(graph)) => {
                read_graph(graph, depth + 1, seen)?;
            }
            (22 | 23, Value::Bytes(sparse)) => {
                read_sparse(sparse)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// `SparseTensorProto`: values and indices. Its name is that of the values.
fn read_sparse(bytes: &[u8]) -> Read<&str> {
    let mut name = "";
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(values)) => name = read_tensor(values)?,
            (2, Value::Bytes(indices)) => {
                read_tensor(indices)?;
            }
            _ => {}
        }
    }
    Ok(name)
}

/// `TensorProto`: its name, once it is clear that its values are in the file, as many as it states.
fn read_tensor(bytes: &[u8]) -> Read<&str> {
    let mut tensor_name = None;
    let mut external = false;
    let mut elements = Some(1u64);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Number(size)) => elements = elements.and_then(|n| n.checked_mul(size)),
            // Packed.
            (1, Value::Bytes(sizes)) => {
                let mut sizes = Fields(sizes);
                while !sizes.0.is_empty() {
                    let size = sizes.varint().ok_or("a tensor states no dimensions that can be read")?;
                    elements = elements.and_then(|n| n.checked_mul(size));
                }
            }
            (8, Value::Bytes(bytes)) => once(&mut tensor_name, text(bytes, "tensor")?, "name of a tensor")?,
            (13, _) => external = true,
            (14, Value::Number(location)) => external |= location != 0,
            _ => {}
        }
    }
    let tensor_name = tensor_name.unwrap_or_default();
    if external {
        return Err(format!(
            "tensor '{}' is kept in another file; save the model with its weights inside",
            name(tensor_name)
        ));
    }
    // The smallest elements are of four bits.
    if elements.is_none_or(|n| n > 2 * bytes.len() as u64) {
        return Err(format!("tensor '{}' states more elements than the file holds", name(tensor_name)));
    }
    Ok(tensor_name)
}

/// A `ValueInfoProto` of the signature.
struct Info {
    name: String,
    element: ElementType,
    dims: Option<Vec<Dim>>,
}

impl Info {
    fn input(self) -> Read<TensorSpec> {
        let Self { name, element, dims } = self;
        match dims {
            Some(dims) if dims.len() <= RANK_MAX && !can_be_addressed(element, &dims) => {
                Err(format!("input '{}' states more elements than can be addressed", super::name(&name)))
            }
            Some(dims) if dims.len() <= RANK_MAX => Ok(TensorSpec { name, element, dims }),
            Some(dims) => {
                Err(format!("input '{}' has {} dimensions, more than {RANK_MAX}", super::name(&name), dims.len()))
            }
            None => Err(format!(
                "input '{}' has no shape; export the model with one (named dimensions for what varies)",
                super::name(&name)
            )),
        }
    }

    fn output(self) -> Read<TensorSpec> {
        Ok(TensorSpec { name: self.name, element: self.element, dims: self.dims.unwrap_or_default() })
    }
}

/// Whether a tensor whose open dimensions are 1 fits an address space.
fn can_be_addressed(element: ElementType, dims: &[Dim]) -> bool {
    let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 1 };
    Tensor::bytes_of(&dims.iter().map(size).collect::<Vec<_>>(), element).is_ok()
}

fn read_value(bytes: &[u8], which: &'static str) -> Read<Info> {
    let (mut value_name, mut ty) = (None, None);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => once(&mut value_name, text(bytes, which)?, which)?,
            (2, Value::Bytes(bytes)) => once(&mut ty, bytes, which)?,
            _ => {}
        }
    }
    let value_name = value_name.filter(|n| !n.is_empty()).ok_or_else(|| format!("an {which} has no name"))?;
    let about = |what: &str| format!("{which} '{}' {what}", name(value_name));
    let tensor = read_type(ty.unwrap_or_default()).map_err(|what| about(&what))?;
    let (mut element, mut shape) = (None, None);
    for field in Fields(tensor) {
        match field? {
            (1, Value::Number(n)) => once(&mut element, n, which)?,
            (2, Value::Bytes(bytes)) => once(&mut shape, bytes, which)?,
            _ => {}
        }
    }
    let element = element_type(element.unwrap_or_default()).map_err(|what| about(&what))?;
    let dims = shape.map(read_shape).transpose().map_err(|what| about(&what))?;
    Ok(Info { name: value_name.to_string(), element, dims })
}

/// `TypeProto`: the `TypeProto.Tensor` within.
fn read_type(bytes: &[u8]) -> Read<&[u8]> {
    let mut tensor = None;
    for field in Fields(bytes) {
        let kind = match field? {
            (1, Value::Bytes(bytes)) => {
                once(&mut tensor, bytes, "type")?;
                continue;
            }
            (4, _) => "a sequence",
            (5, _) => "a map",
            (7, _) => "an opaque value",
            (8, _) => "a sparse tensor",
            (9, _) => "optional",
            _ => continue,
        };
        return Err(format!("is {kind}; only tensors can be taken and given"));
    }
    tensor.ok_or_else(|| "has no type".to_string())
}

/// `TensorShapeProto`.
fn read_shape(bytes: &[u8]) -> Read<Vec<Dim>> {
    let mut dims = Vec::new();
    for field in Fields(bytes) {
        if dims.len() >= PORTS_MAX {
            return Err(format!("has more than {PORTS_MAX} dimensions"));
        }
        if let (1, Value::Bytes(dimension)) = field? {
            let mut dim = None;
            for field in Fields(dimension) {
                match field? {
                    (1, Value::Number(size)) => once(&mut dim, fixed(size)?, "dimension")?,
                    (2, Value::Bytes(symbol)) => once(&mut dim, symbolic(symbol)?, "dimension")?,
                    _ => {}
                }
            }
            dims.push(dim.unwrap_or(Dim::Any));
        }
    }
    Ok(dims)
}

/// `dim_value`: an `int64`; exporters write negative ones for "any".
fn fixed(size: u64) -> Read<Dim> {
    let size = size.cast_signed();
    if size < 0 {
        return Ok(Dim::Any);
    }
    usize::try_from(size).map(Dim::Fixed).map_err(|_| format!("has a dimension of {size}"))
}

/// `dim_param`.
fn symbolic(symbol: &[u8]) -> Read<Dim> {
    let symbol = text(symbol, "dimension")?;
    Ok(if symbol.is_empty() || symbol == "?" { Dim::Any } else { Dim::Named(symbol.to_string()) })
}

/// `TensorProto.DataType`.
fn element_type(number: u64) -> Read<ElementType> {
    let other = match number {
        1 => return Ok(ElementType::F32),
        2 => return Ok(ElementType::U8),
        6 => return Ok(ElementType::I32),
        7 => return Ok(ElementType::I64),
        10 => return Ok(ElementType::F16),
        11 => return Ok(ElementType::F64),
        16 => return Ok(ElementType::Bf16),
        3 => "i8",
        4 => "u16",
        5 => "i16",
        8 => "string",
        9 => "bool",
        12 => "u32",
        13 => "u64",
        14 => "complex64",
        15 => "complex128",
        0 => return Err("has no element type".into()),
        n => return Err(format!("has elements of type {n}, which wasi-nn cannot hold; cast in the model")),
    };
    Err(format!(
        "has {other} elements, which wasi-nn cannot hold; cast to f16, bf16, f32, f64, u8, i32 or i64 in the model"
    ))
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Read<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| format!("the name of a {what} is not UTF-8"))
}

/// Protobuf lets a field of one value appear often, and parsers then take the last or merge: refuse it.
fn once<T>(slot: &mut Option<T>, value: T, what: &str) -> Read<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{what} is stated twice")),
    }
}

/// A field's value on the wire.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Fields of one protobuf message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next_field(&mut self) -> Option<(u32, Value<'a>)> {
        let tag = u32::try_from(self.varint()?).ok()?;
        let number = tag >> 3;
        if number == 0 {
            return None;
        }
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups: no field of ONNX is one.
            _ => return None,
        };
        Some((number, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Read<(u32, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.next_field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "it is no ONNX model, or is truncated".to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testmodels::*;
    use super::*;

    fn read(bytes: &[u8]) -> Result<OnnxModel<'_>, String> {
        OnnxModel::read("m", bytes, 64).map_err(|e| e.to_string())
    }

    fn refusal(bytes: &[u8]) -> String {
        let message = read(bytes).expect_err("refused");
        message.strip_prefix("model 'm' is refused: ").expect("names the model").to_string()
    }

    fn identity() -> Graph {
        Graph {
            nodes: vec![node("Identity", &["x"], &["y"], &[])],
            inputs: vec![value("x", F32, &[D::S("n"), D::N(3), D::Any])],
            outputs: vec![value("y", F32, &[D::S("n"), D::N(3), D::Any])],
            ..Graph::default()
        }
    }

    fn with_input(input: Message) -> Vec<u8> {
        Graph { inputs: vec![input], ..identity() }.model()
    }

    #[test]
    fn the_signature_is_read() {
        let bytes = identity().model();
        let model = read(&bytes).expect("a model");
        let dims = vec![Dim::Named("n".into()), Dim::Fixed(3), Dim::Any];
        assert_eq!(model.inputs(), [TensorSpec { name: "x".into(), element: ElementType::F32, dims: dims.clone() }]);
        assert_eq!(model.outputs(), [TensorSpec { name: "y".into(), element: ElementType::F32, dims }]);
        let negative = with_input(value("x", F32, &[D::N(u64::MAX)]));
        assert_eq!(read(&negative).expect("a model").inputs()[0].dims, [Dim::Any], "-1 is how some write any");
        let silent = Message::default()
            .text(1, "y")
            .message(2, &{ Message::default().message(1, &Message::default().number(1, F32)) });
        let bytes = Graph { outputs: vec![silent], ..identity() }.model();
        assert!(read(&bytes).expect("an output may be silent about its shape").outputs()[0].dims.is_empty());
    }

    #[test]
    fn what_makes_a_value_is_found() {
        let nodes = vec![node("Sigmoid", &["x"], &["t"], &[]), node("Mul", &["t", "x"], &["y"], &[])];
        let bytes = Graph { nodes, ..identity() }.model();
        let model = read(&bytes).expect("a model");
        assert_eq!(model.made_by("y"), Some(("Mul", Some("t"))));
        assert_eq!(model.made_by("t"), Some(("Sigmoid", Some("x"))));
        assert_eq!(model.made_by("x"), None, "it is an input");
    }

    #[test]
    fn a_tensor_in_another_file_is_refused_wherever_it_hides() {
        let tensor = external("secret", "../../etc/passwd");
        let attribute = |field| Message::default().text(1, "value").message(field, &tensor);
        let sparse = Message::default().message(1, &tensor);
        let body = Graph { initializers: vec![tensor.clone()], ..Graph::default() }.message();
        let deep = Graph {
            nodes: vec![node("If", &["x"], &["y"], &[graph_attribute("then_branch", &body)])],
            ..Graph::default()
        };
        let holder = |attribute: Message| {
            Graph { nodes: vec![node("Constant", &[], &["c"], &[attribute])], ..identity() }.message()
        };
        let places = [
            ("initializer", Graph { initializers: vec![tensor.clone()], ..identity() }.message()),
            ("sparse initializer", identity().message().message(15, &sparse)),
            ("attribute", holder(attribute(5))),
            ("attribute of many", holder(attribute(10))),
            ("sparse attribute", holder(Message::default().message(22, &sparse))),
            ("graph within a graph", holder(graph_attribute("body", &deep.message()))),
        ];
        for (place, graph) in places {
            let message = refusal(&model(&graph).0);
            assert_eq!(
                message, "tensor 'secret' is kept in another file; save the model with its weights inside",
                "{place}"
            );
        }
        let function = Message::default().message(7, &node("Constant", &[], &["c"], &[attribute(5)]));
        assert!(refusal(&model(&identity().message()).message(25, &function).0).contains("another file"));
        let training = Message::default().message(1, &body);
        assert!(refusal(&model(&identity().message()).message(20, &training).0).contains("another file"));
        // A location without the mark, and the mark without a location.
        for half in [Message::default().number(14, 1), Message::default().bytes(13, b"")] {
            let graph = Graph { initializers: vec![half], ..identity() };
            assert!(refusal(&graph.model()).contains("another file"));
        }
    }

    #[test]
    fn only_tensors_of_our_types_are_taken_and_given() {
        let of_type = |field| {
            let ty = Message::default().message(field, &Message::default());
            refusal(&with_input(Message::default().text(1, "x").message(2, &ty)))
        };
        assert_eq!(of_type(4), "input 'x' is a sequence; only tensors can be taken and given");
        assert_eq!(of_type(5), "input 'x' is a map; only tensors can be taken and given");
        assert_eq!(of_type(8), "input 'x' is a sparse tensor; only tensors can be taken and given");
        assert_eq!(of_type(9), "input 'x' is optional; only tensors can be taken and given");
        assert_eq!(refusal(&with_input(Message::default().text(1, "x"))), "input 'x' has no type");
        assert!(refusal(&with_input(value("x", 8, &[]))).starts_with("input 'x' has string elements"));
        assert!(refusal(&with_input(value("x", 99, &[]))).starts_with("input 'x' has elements of type 99"));
        assert!(refusal(&with_input(value("x", F32, &[D::Any; 9]))).contains("9 dimensions, more than 8"));
        let mask = Graph { outputs: vec![value("y", 9, &[])], ..identity() };
        assert!(refusal(&mask.model()).starts_with("output 'y' has bool elements, which wasi-nn cannot hold; cast"));
        let overflow = [D::N(1 << 40), D::Any, D::N(1 << 40)];
        assert_eq!(
            refusal(&with_input(value("x", F32, &overflow))),
            "input 'x' states more elements than can be addressed"
        );
        let shapeless = Message::default().message(1, &Message::default().number(1, F32));
        let shapeless = with_input(Message::default().text(1, "x").message(2, &shapeless));
        assert!(refusal(&shapeless).starts_with("input 'x' has no shape"));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        let graph = identity().message();
        assert_eq!(refusal(&model(&graph).message(7, &graph).0), "graph is stated twice");
        let x = value("x", F32, &[D::N(1)]);
        assert!(refusal(&with_input(x.clone().text(1, "z"))).contains("stated twice"));
        assert!(refusal(&with_input(x.clone().message(2, &tensor_type(F32, &[])))).contains("stated twice"));
        let twins = Graph { inputs: vec![x.clone(), x], ..identity() };
        assert_eq!(refusal(&twins.model()), "two inputs are called 'x'");
        assert!(refusal(&Graph { outputs: vec![], ..identity() }.model()).contains("no outputs"));
        assert!(refusal(&with_input(value("", F32, &[]))).contains("no name"));
        assert!(refusal(&with_input(Message::default().bytes(1, b"\xff"))).contains("not UTF-8"));
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert!(refusal(b"").contains("no graph"));
        assert!(refusal(b"\x89PNG\r\n\x1a\n").contains("no ONNX model"));
        assert!(refusal(b"\x20\0\0\0ORTM....").contains("ORT format"));
        let cut = &identity().model()[..identity().model().len() - 6];
        assert!(refusal(cut).contains("no operator set"));
        assert!(refusal(&[0xff; 64]).contains("no ONNX model"));
        let bytes = vec![0; (1 << 20) + 1];
        let message = OnnxModel::read("m", &bytes, 1).expect_err("refused").to_string();
        assert_eq!(message, "model 'm' is refused: its 1048577 bytes pass model_max_mib = 1");
        let mut nested = Graph::default().message();
        for _ in 0..=DEPTH_MAX {
            nested = Graph { nodes: vec![node("If", &[], &[], &[graph_attribute("g", &nested)])], ..Graph::default() }
                .message();
        }
        assert!(refusal(&model(&nested).0).contains("nested deeper"));
    }

    #[test]
    fn what_it_is_made_of_is_told_and_bounded() {
        let graph =
            Graph { nodes: vec![node("Neg", &["x"], &["t"], &[]), node("Neg", &["t"], &["y"], &[])], ..identity() };
        let bytes = graph.model();
        let anatomy = read(&bytes).expect("a model").anatomy().clone();
        assert_eq!(anatomy, Anatomy { nodes: 2, opset: 17, operators: ["Neg".to_owned()].into() });
        let twice =
            Graph { nodes: vec![node("Neg", &["x"], &["y"], &[]), node("Abs", &["x"], &["y"], &[])], ..identity() };
        assert_eq!(refusal(&twice.model()), "two nodes make 'y'");
        let many = Graph { nodes: vec![Message::default(); NODES_MAX + 1], ..identity() };
        assert_eq!(refusal(&many.model()), "it has more than 100000 nodes");
        let future = identity().message();
        let future = Message::default().message(7, &future).message(8, &Message::default().text(1, "").number(2, 999));
        assert!(refusal(&future.0).contains("operator set 999, later than 25"));
    }

    #[test]
    fn operators_of_a_vendor_are_refused_unless_the_file_defines_them() {
        let own = node("Decode", &["x"], &["y"], &[]).text(7, "com.vendor");
        let graph = model(&Graph { nodes: vec![own], ..identity() }.message());
        assert!(refusal(&graph.0).starts_with("operator 'Decode' of 'com.vendor' is a vendor's own"));
        let function =
            Message::default().text(1, "Decode").text(10, "com.vendor").message(7, &node("Neg", &[], &[], &[]));
        let defined = graph.message(25, &function);
        let operators = read(&defined.0).expect("a model").anatomy().operators.clone();
        assert_eq!(operators.iter().collect::<Vec<_>>(), ["Neg", "com.vendor.Decode"]);
        let built_in = node("FusedConv", &["x"], &["y"], &[]).text(7, "com.microsoft");
        assert!(read(&Graph { nodes: vec![built_in], ..identity() }.model()).is_ok());
    }

    #[test]
    fn a_tensor_holds_what_it_states() {
        let stated = |dims: &[u64], values: &[f32]| {
            Graph { initializers: vec![weights("w", dims, values)], ..identity() }.model()
        };
        assert!(read(&stated(&[2, 2], &[0.0; 4])).is_ok());
        for dims in [&[1 << 40][..], &[u64::MAX], &[1 << 40, 1 << 40], &[1000, 1000]] {
            assert_eq!(refusal(&stated(dims, &[0.0; 4])), "tensor 'w' states more elements than the file holds");
        }
        let packed = Message::default().bytes(1, &[0xff, 0xff, 0xff, 0xff, 0x0f]).number(2, F32).text(8, "w");
        assert!(refusal(&Graph { initializers: vec![packed], ..identity() }.model()).contains("more elements"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&model(&Message(bytes)).0);
        }
    }
}
