//! ONNX models for tests, written field by field: an encoder of our own can also write what no library would.

use crate::tensor::ElementType;

/// A protobuf message.
#[derive(Clone, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field << 3));
        self.varint(value);
        self
    }

    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.varint(u64::from(field << 3 | 2));
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(super) fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    fn each(self, field: u32, values: &[Message]) -> Self {
        values.iter().fold(self, |m, v| m.message(field, v))
    }

    fn texts(self, field: u32, values: &[&str]) -> Self {
        values.iter().fold(self, |m, v| m.text(field, v))
    }
}

/// Size of a dimension.
#[derive(Clone, Copy)]
pub(super) enum D {
    N(u64),
    S(&'static str),
    Any,
}

pub(super) const ELEMENTS: [ElementType; 7] = [
    ElementType::F16,
    ElementType::Bf16,
    ElementType::F32,
    ElementType::F64,
    ElementType::U8,
    ElementType::I32,
    ElementType::I64,
];

/// `TensorProto.DataType`.
pub(super) fn number_of(element: ElementType) -> u64 {
    match element {
        ElementType::F32 => 1,
        ElementType::U8 => 2,
        ElementType::I32 => 6,
        ElementType::I64 => 7,
        ElementType::F16 => 10,
        ElementType::F64 => 11,
        ElementType::Bf16 => 16,
    }
}

pub(super) const F32: u64 = 1;
pub(super) const I64: u64 = 7;

/// `TypeProto` of a tensor.
pub(super) fn tensor_type(element: u64, dims: &[D]) -> Message {
    let dims: Vec<Message> = dims
        .iter()
        .map(|dim| match dim {
            D::N(size) => Message::default().number(1, *size),
            D::S(symbol) => Message::default().text(2, symbol),
            D::Any => Message::default(),
        })
        .collect();
    let shape = Message::default().each(1, &dims);
    Message::default().message(1, &Message::default().number(1, element).message(2, &shape))
}

/// `ValueInfoProto`.
pub(super) fn value(name: &str, element: u64, dims: &[D]) -> Message {
    Message::default().text(1, name).message(2, &tensor_type(element, dims))
}

/// `NodeProto`.
pub(super) fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Message]) -> Message {
    Message::default().texts(1, inputs).texts(2, outputs).text(4, op).each(5, attributes)
}

/// `AttributeProto` of an integer.
pub(super) fn int(name: &str, value: u64) -> Message {
    Message::default().text(1, name).number(3, value).number(20, 2)
}

/// `AttributeProto` of integers.
pub(super) fn ints(name: &str, values: &[u64]) -> Message {
    values.iter().fold(Message::default().text(1, name), |m, v| m.number(8, *v)).number(20, 7)
}

/// `AttributeProto` of a graph.
pub(super) fn graph_attribute(name: &str, graph: &Message) -> Message {
    Message::default().text(1, name).message(6, graph).number(20, 5)
}

/// `TensorProto` of `f32`.
pub(super) fn weights(name: &str, dims: &[u64], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    dims.iter().fold(Message::default(), |m, d| m.number(1, *d)).number(2, F32).text(8, name).bytes(9, &raw)
}

/// `TensorProto` whose values are elsewhere.
pub(super) fn external(name: &str, location: &str) -> Message {
    let entry = Message::default().text(1, "location").text(2, location);
    Message::default().number(1, 4).number(2, F32).text(8, name).message(13, &entry).number(14, 1)
}

/// `GraphProto`.
#[derive(Clone, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Message>,
    pub(super) initializers: Vec<Message>,
    pub(super) inputs: Vec<Message>,
    pub(super) outputs: Vec<Message>,
}

impl Graph {
    pub(super) fn message(&self) -> Message {
        Message::default()
            .each(1, &self.nodes)
            .text(2, "g")
            .each(5, &self.initializers)
            .each(11, &self.inputs)
            .each(12, &self.outputs)
    }

    /// `ModelProto`, operator set 17.
    pub(super) fn model(&self) -> Vec<u8> {
        model(&self.message()).0
    }
}

pub(super) fn model(graph: &Message) -> Message {
    Message::default().number(1, 8).message(7, graph).message(8, &Message::default().text(1, "").number(2, 17))
}

/// One node from `x` to `y`, both of one type.
pub(super) fn unary(op: &str, element: u64, from: &[D], to: &[D], attributes: &[Message]) -> Vec<u8> {
    Graph {
        nodes: vec![node(op, &["x"], &["y"], attributes)],
        inputs: vec![value("x", element, from)],
        outputs: vec![value("y", element, to)],
        ..Graph::default()
    }
    .model()
}

/// A convolution of 3×3 from `channels` to 2 channels with bias, padded by 1, over `[n, channels, h, w]`.
pub(super) fn convolution(channels: u64, kernel: &[f32], bias: &[f32]) -> Vec<u8> {
    Graph {
        nodes: vec![node(
            "Conv",
            &["ct", "k", "b"],
            &["logits"],
            &[ints("pads", &[1; 4]), ints("kernel_shape", &[3, 3])],
        )],
        initializers: vec![weights("k", &[2, channels, 3, 3], kernel), weights("b", &[2], bias)],
        inputs: vec![value("ct", F32, &[D::S("n"), D::N(channels), D::S("h"), D::S("w")])],
        outputs: vec![value("logits", F32, &[D::S("n"), D::N(2), D::S("h"), D::S("w")])],
    }
    .model()
}
