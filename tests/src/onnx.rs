//! ONNX files by hand: one that is right, and those that are wrong in every way there is.

/// A model that must not give a result.
#[derive(Debug)]
pub struct Wrong {
    /// What is wrong with it.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// What is in the error: with tract, and with ONNX Runtime.
    pub says: [&'static str; 2],
}

/// All of them.
#[must_use]
pub fn wrong_models() -> Vec<Wrong> {
    let whole = negation().model();
    let huge = |operator| Graph::of(vec![node(operator, &["x", "n"], &["t"]), node("Neg", &["t"], &["y"])]);
    let sum = |from| with_integer(node("ReduceSum", &[from], &["s"]), "keepdims", 0);
    let expanded = Graph::of(vec![node("ConstantOfShape", &["n"], &["t"]), sum("t"), node("Add", &["s", "x"], &["y"])]);
    let stated = |element, dims: &[u64]| Graph { inputs: vec![value("x", element, dims)], ..negation() }.model();
    let scalar =
        |name: &str, value: i64| Message::default().number(2, I64).text(8, name).bytes(9, &value.to_le_bytes());
    let unheld = Message::default().number(1, 1 << 40).number(2, F32).text(8, "w").bytes(9, &[0; 16]);
    let three = Message::default().number(1, 3).number(2, F32).text(8, "w").bytes(9, &[0; 12]);
    // By the host's own reading, before any engine.
    let refused = |name, bytes, says| wrong(name, bytes, says, says);
    vec![
        refused("empty", Vec::new(), "it holds no graph"),
        refused("truncated", whole[..whole.len() / 2].to_vec(), "or is truncated"),
        refused("cut by a byte", whole[..whole.len() - 1].to_vec(), "or is truncated"),
        refused("no protobuf", b"\x89PNG\r\n\x1a\n and so on".to_vec(), "it is no ONNX model"),
        refused("ones", vec![0xff; 4096], "it is no ONNX model"),
        refused("zeros", vec![0; 4096], "it is no ONNX model"),
        refused("another format", b"\x20\0\0\0ORTM and so on".to_vec(), "it is in ORT format"),
        refused("giant input", stated(F32, &[1 << 62]), "more elements than can be addressed"),
        refused("input of overflowing size", stated(F32, &[1 << 40, 1 << 40]), "more elements than can be addressed"),
        refused("text as input", stated(STRING, &[4]), "input 'x' has string elements"),
        refused("truth as input", stated(BOOL, &[4]), "input 'x' has bool elements"),
        refused("signed bytes as input", stated(3, &[4]), "input 'x' has i8 elements"),
        refused("64 unsigned bits as input", stated(13, &[4]), "input 'x' has u64 elements"),
        refused("complex numbers as input", stated(14, &[4]), "input 'x' has complex64 elements"),
        refused("elements of a type of the future", stated(999, &[4]), "input 'x' has elements of type 999"),
        wrong(
            "bfloat16 where it cannot be",
            Graph { inputs: vec![value("x", BF16, &[4])], outputs: vec![value("y", BF16, &[4])], ..negation() }.model(),
            "which tract lacks; use ONNX Runtime",
            "Could not find an implementation for Neg",
        ),
        refused("nine dimensions", stated(F32, &[1; 9]), "9 dimensions, more than 8"),
        refused(
            "two inputs of one name",
            Graph { inputs: vec![value("x", F32, &[4]); 2], ..negation() }.model(),
            "two inputs are called 'x'",
        ),
        refused("conditions in conditions without end", nested(30), "graphs are nested deeper than 24"),
        refused("external data, absolute", negation().with(external("/etc/passwd")).model(), "kept in another file"),
        refused("external data, relative", negation().with(external("../../../x")).model(), "kept in another file"),
        refused(
            "a vendor's operator",
            Graph::of(vec![node("Decode", &["x"], &["y"]).text(7, "com.vendor")]).model(),
            "operator 'Decode' of 'com.vendor' is a vendor's own",
        ),
        wrong(
            "an operator that is none",
            Graph::of(vec![node("NoSuchOperator", &["x"], &["y"])]).model(),
            "it has no operator",
            "NoSuchOperator",
        ),
        wrong(
            "a cycle",
            Graph::of(vec![
                node("Add", &["x", "b"], &["a"]),
                node("Add", &["a", "x"], &["b"]),
                node("Neg", &["b"], &["y"]),
            ])
            .model(),
            "Loop detected",
            "the graph is not acyclic",
        ),
        refused(
            "one name twice",
            Graph::of(vec![node("Neg", &["x"], &["y"]), node("Abs", &["x"], &["y"])]).model(),
            "two nodes make 'y'",
        ),
        wrong(
            "a value from nowhere",
            Graph::of(vec![node("Add", &["x", "nowhere"], &["y"])]).model(),
            "nowhere",
            "nowhere",
        ),
        wrong(
            "types that do not fit",
            Graph::of(vec![node("Add", &["x", "n"], &["y"])]).with(integers("n", &[1])).model(),
            "No super type for F32 and I64",
            "bound to different types",
        ),
        wrong(
            "shapes that do not fit",
            Graph::of(vec![node("Add", &["x", "w"], &["y"])]).with(three).model(),
            "Can not broadcast 4 against 3",
            "Incompatible dimensions",
        ),
        refused("a million nodes", chain(1_000_000), "it has more than 100000 nodes"),
        wrong("slow shape inference", slow_shape(), "engines.load_deadline_ms", "engines.load_deadline_ms"),
        wrong("functions of functions", doubled(), "it has no operator", "engines.load_deadline_ms"),
        wrong(
            "a constant of 100 GB",
            expanded.clone().with(integers("n", &[25_000_000_000])).model(),
            "it panicked",
            "Failed to allocate memory",
        ),
        wrong(
            "a constant of negative size",
            expanded.with(integers("n", &[-5])).model(),
            "it panicked",
            "must have non-negative elements",
        ),
        wrong(
            "expanded without end",
            huge("Expand").with(integers("n", &[1 << 34, 4])).model(),
            "which the model does not state",
            "Failed to allocate memory",
        ),
        wrong(
            "repeated without end",
            huge("Tile").with(integers("n", &[1 << 50])).model(),
            "which the model does not state",
            "exceeds the supported maximum",
        ),
        wrong(
            "a range without end",
            Graph::of(vec![
                node("Range", &["a", "b", "c"], &["t"]),
                sum("t"),
                with_integer(node("Cast", &["s"], &["f"]), "to", F32),
                node("Add", &["f", "x"], &["y"]),
            ])
            .with(scalar("a", 0))
            .with(scalar("b", i64::MAX))
            .with(scalar("c", 1))
            .model(),
            "it panicked",
            "while running Range node",
        ),
        wrong(
            "reshaped to another size",
            Graph::of(vec![node("Reshape", &["x", "n"], &["y"])]).with(integers("n", &[5])).model(),
            "Reshape volume mismatch",
            "cannot be reshaped",
        ),
        wrong(
            "an index that is out",
            Graph::of(vec![node("Gather", &["x", "n"], &["y"])]).with(integers("n", &[1 << 40; 4])).model(),
            "index out of bounds",
            "indices element out of data bounds",
        ),
        refused("more weights than it holds", negation().with(unheld).model(), "more elements than the file holds"),
        refused(
            "an operator set of the future",
            Graph { opset: 4000, ..negation() }.model(),
            "it is of operator set 4000",
        ),
        wrong("a loop without end", endless(), "it has no operator", "engines.compute_deadline_ms = 2000"),
        refused(
            "no graph",
            Message::default().number(1, 8).bytes(8, &Message::default().number(2, 17).0).0,
            "it holds no graph",
        ),
        refused("no outputs", Graph { outputs: Vec::new(), ..negation() }.model(), "it has no outputs"),
    ]
}

/// `y = -x`, of four numbers.
#[must_use]
pub fn right_model() -> Vec<u8> {
    negation().model()
}

fn wrong(name: &'static str, bytes: Vec<u8>, tract: &'static str, onnx_runtime: &'static str) -> Wrong {
    Wrong { name, bytes, says: [tract, onnx_runtime] }
}

/// Protobuf, field by field.
#[derive(Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    pub(crate) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    pub(crate) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn fixed(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn each(self, field: u64, values: &[Self]) -> Self {
        values.iter().fold(self, |message, value| message.bytes(field, &value.0))
    }
}

const F32: u64 = 1;
const I64: u64 = 7;
const STRING: u64 = 8;
const BOOL: u64 = 9;
const BF16: u64 = 16;

fn value(name: &str, element: u64, dims: &[u64]) -> Message {
    let dims: Vec<Message> = dims.iter().map(|size| Message::default().number(1, *size)).collect();
    let tensor = Message::default().number(1, element).bytes(2, &Message::default().each(1, &dims).0);
    Message::default().text(1, name).bytes(2, &Message::default().bytes(1, &tensor.0).0)
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let named = |message: Message, field, names: &[&str]| names.iter().fold(message, |m, name| m.text(field, name));
    named(named(Message::default(), 1, inputs), 2, outputs).text(4, operator)
}

fn with_graph(node: Message, attribute: &str, graph: &Message) -> Message {
    node.bytes(5, &Message::default().text(1, attribute).bytes(6, &graph.0).number(20, 5).0)
}

/// With an integer, of a name of its own.
fn with_integer(node: Message, attribute: &str, value: u64) -> Message {
    node.bytes(5, &Message::default().text(1, attribute).number(3, value).number(20, 2).0)
}

fn integers(name: &str, values: &[i64]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Message::default().number(1, values.len() as u64).number(2, I64).text(8, name).bytes(9, &raw)
}

fn external(path: &str) -> Message {
    let entry = Message::default().text(1, "location").text(2, path);
    Message::default().number(1, 4).number(2, F32).text(8, "w").bytes(13, &entry.0).number(14, 1)
}

#[derive(Clone)]
struct Graph {
    nodes: Vec<Message>,
    constants: Vec<Message>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
    opset: u64,
}

impl Graph {
    /// From `x` to `y`, four numbers each.
    fn of(nodes: Vec<Message>) -> Self {
        let (x, y) = (value("x", F32, &[4]), value("y", F32, &[4]));
        Self { nodes, constants: Vec::new(), inputs: vec![x], outputs: vec![y], opset: 17 }
    }

    fn with(mut self, constant: Message) -> Self {
        self.constants.push(constant);
        self
    }

    fn inner(&self) -> Message {
        Message::default()
            .each(1, &self.nodes)
            .text(2, "g")
            .each(5, &self.constants)
            .each(11, &self.inputs)
            .each(12, &self.outputs)
    }

    fn model(&self) -> Vec<u8> {
        let opset = Message::default().text(1, "").number(2, self.opset);
        Message::default().number(1, 8).bytes(7, &self.inner().0).bytes(8, &opset.0).0
    }
}

fn negation() -> Graph {
    Graph::of(vec![node("Neg", &["x"], &["y"])])
}

/// `depth` conditions, each in a branch of the one before, around `y = -x`.
#[must_use]
pub fn nested(depth: usize) -> Vec<u8> {
    let yes = Message::default().number(2, BOOL).text(8, "yes").bytes(9, &[1]);
    let plain = Graph { inputs: Vec::new(), ..negation() };
    let mut graph = plain.clone();
    for _ in 0..depth {
        let condition = with_graph(node("If", &["yes"], &["y"]), "then_branch", &graph.inner());
        graph.nodes = vec![with_graph(condition, "else_branch", &plain.inner())];
    }
    Graph { inputs: negation().inputs, ..graph }.with(yes).model()
}

fn chain(length: usize) -> Vec<u8> {
    let name = |n: usize| match n {
        0 => "x".to_owned(),
        n if n == length => "y".to_owned(),
        n => format!("v{n}"),
    };
    let nodes = (0..length).map(|n| node("Neg", &[&name(n)], &[&name(n + 1)]));
    Graph::of(nodes.collect()).model()
}

/// A loop, which tract has not, and that does not end where there are loops.
#[must_use]
pub fn endless() -> Vec<u8> {
    let body = Graph {
        nodes: vec![node("Identity", &["c"], &["again"]), node("Neg", &["v"], &["w"])],
        constants: Vec::new(),
        inputs: vec![value("i", I64, &[]), value("c", BOOL, &[]), value("v", F32, &[4])],
        outputs: vec![value("again", BOOL, &[]), value("w", F32, &[4])],
        opset: 17,
    };
    let yes = Message::default().number(2, BOOL).text(8, "yes").bytes(9, &[1]);
    let most = Message::default().number(2, I64).text(8, "most").bytes(9, &i64::MAX.to_le_bytes());
    let repeat = with_graph(node("Loop", &["most", "yes", "x"], &["y"]), "body", &body.inner());
    Graph::of(vec![repeat]).with(yes).with(most).model()
}

/// The shape of `y` is a sum over products of matrices that are given by their sizes: who infers it computes them all, or follows
/// a long chain of sums.
fn slow_shape() -> Vec<u8> {
    const PRODUCTS: usize = 15_000;
    let mut nodes = vec![node("ConstantOfShape", &["wide"], &["a"]), node("ConstantOfShape", &["high"], &["b"])];
    for n in 0..PRODUCTS {
        // Each another one, so that none is a common subexpression.
        let alpha = Message::default().text(1, "alpha").fixed(2, 1.0 + n as f32).number(20, 1);
        nodes.push(node("Gemm", &["a", "b"], &[&format!("p{n}")]).bytes(5, &alpha.0));
        nodes.push(with_integer(node("ReduceSum", &[&format!("p{n}")], &[&format!("s{n}")]), "keepdims", 0));
        let before = if n == 0 { "zero".to_owned() } else { format!("t{}", n - 1) };
        nodes.push(node("Add", &[&before, &format!("s{n}")], &[&format!("t{n}")]));
    }
    nodes.push(with_integer(node("Cast", &[&format!("t{}", PRODUCTS - 1)], &["whole"]), "to", I64));
    nodes.push(node("Add", &["whole", "four"], &["shape"]));
    nodes.push(node("Reshape", &["x", "shape"], &["y"]));
    let zero = Message::default().number(2, F32).text(8, "zero").bytes(9, &[0; 4]);
    let sizes = integers("wide", &[256, 4096]);
    Graph::of(nodes).with(sizes).with(integers("high", &[4096, 256])).with(integers("four", &[4])).with(zero).model()
}

/// Functions that call the one before twice: 2⁴⁰ nodes for who inlines them.
fn doubled() -> Vec<u8> {
    const DOMAIN: &str = "doubled";
    let opset = |domain, version| Message::default().text(1, domain).number(2, version).0;
    let call = |n: u32, from, to| match n {
        0 => node("Neg", &[from], &[to]),
        n => node(&format!("F{}", n - 1), &[from], &[to]).text(7, DOMAIN),
    };
    let function = |n: u32| {
        let ports = Message::default().text(1, &format!("F{n}")).text(4, "a").text(5, "b");
        let nodes = ports.each(7, &[call(n, "a", "c"), call(n, "c", "b")]);
        nodes.bytes(9, &opset("", 17)).bytes(9, &opset(DOMAIN, 1)).text(10, DOMAIN)
    };
    let graph = Graph::of(vec![call(40, "x", "y")]).inner();
    let model = Message::default().number(1, 8).bytes(7, &graph.0).bytes(8, &opset("", 17)).bytes(8, &opset(DOMAIN, 1));
    model.each(25, &(0..40).map(function).collect::<Vec<_>>()).0
}
