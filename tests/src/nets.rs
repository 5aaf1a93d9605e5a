//! Networks of the kinds that segment images, written as ONNX in code: nothing needs to be there but the engine.

use crate::onnx::Message;

/// Items of a batch are in the first dimension, which is open.
#[derive(Debug)]
pub struct Net {
    /// Of what kind it is.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// Of one item of its input, `x`.
    pub shape: &'static [usize],
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Net> {
    vec![
        Net { name: "2-D U-Net", bytes: unet(), shape: &[1, 256, 256] },
        Net { name: "3-D convolutions", bytes: volume(), shape: &[1, 64, 64, 64] },
    ]
}

/// A graph in the making. Each layer gives the name of its output.
#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    weights: Vec<Message>,
    layers: usize,
}

impl Graph {
    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, &[u64])]) -> String {
        self.layers += 1;
        let output = format!("t{}", self.layers);
        let mut node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input.as_bytes()));
        node = node.bytes(2, output.as_bytes()).bytes(4, op.as_bytes());
        for (name, values) in attributes {
            // AttributeProto: an integer alone is of type 2, several are of type 7.
            let named = Message::default().bytes(1, name.as_bytes());
            let attribute = match (*name, values) {
                ("axis", [axis]) => named.number(3, *axis).number(20, 2),
                _ => values.iter().fold(named, |a, value| a.number(8, *value)).number(20, 7),
            };
            node = node.bytes(5, &attribute.0);
        }
        self.nodes.push(node);
        output
    }

    fn weight(&mut self, shape: &[usize]) -> String {
        let name = format!("w{}", self.weights.len());
        let count = shape.iter().product::<usize>();
        // As He has it: what comes out is as large as what went in, through all layers.
        let fan_in = shape.iter().skip(1).product::<usize>().max(1);
        let scale = (6.0 / fan_in as f32).sqrt();
        let raw: Vec<u8> =
            noise(count, self.weights.len() as u32 + 1).into_iter().flat_map(|v| (v * scale).to_le_bytes()).collect();
        let dims = shape.iter().fold(Message::default(), |tensor, size| tensor.number(1, *size as u64));
        self.weights.push(dims.number(2, 1).bytes(8, name.as_bytes()).bytes(9, &raw));
        name
    }

    /// A convolution with edges of 3, and what is below zero cut.
    fn convolution(&mut self, input: &str, from: usize, to: usize, axes: usize) -> String {
        let weight = self.weight(&[&[to, from][..], &vec![3; axes]].concat());
        let (kernel, pads) = (vec![3; axes], vec![1; 2 * axes]);
        let out = self.node("Conv", &[input, &weight], &[("kernel_shape", &kernel), ("pads", &pads)]);
        self.node("Relu", &[&out], &[])
    }

    /// Scores of classes for each pixel.
    fn scores(&mut self, input: &str, from: usize, classes: usize, axes: usize) -> String {
        let weight = self.weight(&[&[classes, from][..], &vec![1; axes]].concat());
        self.node("Conv", &[input, &weight], &[("kernel_shape", &vec![1; axes])])
    }

    fn model(self, output: &str, input_dims: &[Option<u64>], output_dims: &[Option<u64>]) -> Vec<u8> {
        let value = |name: &str, dims: &[Option<u64>]| {
            let shape = dims.iter().fold(Message::default(), |shape, dim| {
                let dim = match dim {
                    Some(size) => Message::default().number(1, *size),
                    None => Message::default().bytes(2, b"n"),
                };
                shape.bytes(1, &dim.0)
            });
            let tensor = Message::default().number(1, 1).bytes(2, &shape.0);
            Message::default().bytes(1, name.as_bytes()).bytes(2, &Message::default().bytes(1, &tensor.0).0)
        };
        let graph = self.nodes.iter().fold(Message::default(), |graph, node| graph.bytes(1, &node.0)).bytes(2, b"g");
        let graph = self.weights.iter().fold(graph, |graph, weight| graph.bytes(5, &weight.0));
        let graph = graph.bytes(11, &value("x", input_dims).0).bytes(12, &value(output, output_dims).0);
        let opset = Message::default().number(2, 17);
        Message::default().number(1, 8).bytes(7, &graph.0).bytes(8, &opset.0).0
    }
}

/// Four levels down and up again, two convolutions on each, 32 channels at the top.
fn unet() -> Vec<u8> {
    let mut graph = Graph::default();
    let mut at = "x".to_owned();
    let (mut channels, mut levels) = (1, Vec::new());
    for wide in [32, 64, 128] {
        at = graph.convolution(&at, channels, wide, 2);
        at = graph.convolution(&at, wide, wide, 2);
        levels.push((at.clone(), wide));
        at = graph.node("MaxPool", &[&at], &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])]);
        channels = wide;
    }
    at = graph.convolution(&at, channels, 256, 2);
    channels = 256;
    while let Some((beside, wide)) = levels.pop() {
        let weight = graph.weight(&[channels, wide, 2, 2]);
        at = graph.node("ConvTranspose", &[&at, &weight], &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])]);
        at = graph.node("Concat", &[&beside, &at], &[("axis", &[1])]);
        at = graph.convolution(&at, 2 * wide, wide, 2);
        at = graph.convolution(&at, wide, wide, 2);
        channels = wide;
    }
    let out = graph.scores(&at, channels, 4, 2);
    graph.model(&out, &[None, Some(1), Some(256), Some(256)], &[None, Some(4), Some(256), Some(256)])
}

/// Six convolutions at full size.
fn volume() -> Vec<u8> {
    let mut graph = Graph::default();
    let mut at = graph.convolution("x", 1, 16, 3);
    for _ in 0..4 {
        at = graph.convolution(&at, 16, 16, 3);
    }
    let out = graph.scores(&at, 16, 4, 3);
    graph.model(&out, &[None, Some(1), Some(64), Some(64), Some(64)], &[None, Some(4), Some(64), Some(64), Some(64)])
}

/// Repeatable numbers in -1..1.
#[must_use]
pub fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
