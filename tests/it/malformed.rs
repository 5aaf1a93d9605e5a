//! Models that are wrong in every way there is, loaded and run by the real engines in real workers: each ends in an error that names
//! it, and another model runs beside it as if nothing had happened.

use std::time::{Duration, Instant};

use gantry::inference::{
    Batch, Call, Device, Dim, EngineConfig, EnginePreference, Engines, InferenceError, LoadedModel, Request, Turn,
    find_library,
};
use gantry::memory::Budget;
use gantry::tensor::{ElementType, Tensor};

/// Protobuf, field by field.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
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

/// `depth` conditions, each in a branch of the one before.
fn nested(depth: usize) -> Vec<u8> {
    let yes = Message::default().number(2, BOOL).text(8, "yes").bytes(9, &[1]);
    let mut graph = Graph { inputs: Vec::new(), ..Graph::of(vec![node("Neg", &["x"], &["y"])]) };
    for _ in 0..depth {
        let condition = with_graph(node("If", &["yes"], &["y"]), "then_branch", &graph.inner());
        graph.nodes = vec![with_graph(condition, "else_branch", &graph.inner())];
    }
    Graph { inputs: vec![value("x", F32, &[4])], ..graph }.with(yes).model()
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

fn endless() -> Vec<u8> {
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

/// Every one of them must not give a result.
fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    let whole = negation().model();
    let huge = |operator| Graph::of(vec![node(operator, &["x", "n"], &["t"]), node("Neg", &["t"], &["y"])]);
    let expanded = Graph::of(vec![node("ConstantOfShape", &["n"], &["t"]), node("Add", &["t", "x"], &["y"])]);
    let stated = |element, dims: &[u64]| Graph { inputs: vec![value("x", element, dims)], ..negation() };
    let scalar =
        |name: &str, value: i64| Message::default().number(2, I64).text(8, name).bytes(9, &value.to_le_bytes());
    let unheld = Message::default().number(1, 1 << 40).number(2, F32).text(8, "w").bytes(9, &[0; 16]);
    vec![
        ("empty", Vec::new()),
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("cut by a byte", whole[..whole.len() - 1].to_vec()),
        ("no protobuf", b"\x89PNG\r\n\x1a\n and so on".to_vec()),
        ("ones", vec![0xff; 4096]),
        ("zeros", vec![0; 4096]),
        ("another format", b"\x20\0\0\0ORTM and so on".to_vec()),
        ("giant input", stated(F32, &[1 << 62]).model()),
        ("input of overflowing size", stated(F32, &[1 << 40, 1 << 40]).model()),
        ("text as input", stated(STRING, &[4]).model()),
        ("nine dimensions", stated(F32, &[1; 9]).model()),
        ("two inputs of one name", Graph { inputs: vec![value("x", F32, &[4]); 2], ..negation() }.model()),
        ("conditions in conditions", nested(8)),
        ("external data, absolute", negation().with(external("/etc/passwd")).model()),
        ("external data, relative", negation().with(external("../../../etc/passwd")).model()),
        ("a vendor's operator", Graph::of(vec![node("Decode", &["x"], &["y"]).text(7, "com.vendor")]).model()),
        ("an operator that is none", Graph::of(vec![node("NoSuchOperator", &["x"], &["y"])]).model()),
        (
            "a cycle",
            Graph::of(vec![
                node("Add", &["x", "b"], &["a"]),
                node("Add", &["a", "x"], &["b"]),
                node("Neg", &["b"], &["y"]),
            ])
            .model(),
        ),
        ("one name twice", Graph::of(vec![node("Neg", &["x"], &["y"]), node("Abs", &["x"], &["y"])]).model()),
        ("a value from nowhere", Graph::of(vec![node("Add", &["x", "nowhere"], &["y"])]).model()),
        ("types that do not fit", Graph::of(vec![node("Add", &["x", "n"], &["y"])]).with(integers("n", &[1])).model()),
        (
            "shapes that do not fit",
            Graph::of(vec![node("Add", &["x", "w"], &["y"])]).with(integers("w", &[1, 2, 3])).model(),
        ),
        ("a million nodes", chain(1_000_000)),
        ("a constant of 100 GB", expanded.clone().with(integers("n", &[25_000_000_000])).model()),
        ("a constant of negative size", expanded.with(integers("n", &[-5])).model()),
        ("expanded without end", huge("Expand").with(integers("n", &[1 << 34, 4])).model()),
        ("repeated without end", huge("Tile").with(integers("n", &[1 << 50])).model()),
        (
            "a range without end",
            Graph::of(vec![node("Range", &["a", "b", "c"], &["t"]), node("Cast", &["t"], &["y"])])
                .with(scalar("a", 0))
                .with(scalar("b", i64::MAX))
                .with(scalar("c", 1))
                .model(),
        ),
        (
            "reshaped to another size",
            Graph::of(vec![node("Reshape", &["x", "n"], &["y"])]).with(integers("n", &[5])).model(),
        ),
        (
            "an index that is out",
            Graph::of(vec![node("Gather", &["x", "n"], &["y"])]).with(integers("n", &[1 << 40; 4])).model(),
        ),
        ("more weights than it holds", negation().with(unheld).model()),
        ("an operator set of the future", Graph { opset: 4000, ..negation() }.model()),
        ("a loop without end", endless()),
        ("no graph", Message::default().number(1, 8).bytes(8, &Message::default().number(2, 17).0).0),
        ("no outputs", Graph { outputs: Vec::new(), ..negation() }.model()),
    ]
}

struct Site {
    engines: Engines,
    budget: Budget,
}

impl Site {
    fn all() -> Vec<Self> {
        let library = gantry_tests::asset("onnxruntime").and_then(|_| find_library(None));
        let with = |engine| {
            let config = EngineConfig {
                engine,
                intra_threads: 1,
                worker_memory_mib: 700,
                load_deadline_ms: 4000,
                compute_deadline_ms: 2000,
                model_failures_max: 1000,
                isolation: gantry_tests::command::workers(),
                ..EngineConfig::default()
            };
            Self { engines: Engines::discover(&config).expect("an engine"), budget: Budget::mib(64) }
        };
        let mut sites = vec![with(EnginePreference::Tract)];
        sites.extend(library.map(|_| with(EnginePreference::OnnxRuntime)));
        sites
    }

    fn call<T>(&self, run: impl FnOnce(&Call<'_>) -> T) -> T {
        let turn = Turn::default();
        run(&Call { budget: &self.budget, deadline: None, turn: &turn, batch: Batch::Whole })
    }

    fn load(&self, name: &str, bytes: &[u8]) -> Result<LoadedModel, InferenceError> {
        self.call(|call| {
            self.engines.load(Request { vendor: "v", name, bytes, target: Device::Cpu, warm_up: None }, call)
        })
    }

    /// On ones, of the sizes that the model states.
    fn run(&self, model: &LoadedModel) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let mut inputs = Vec::new();
        for spec in model.inputs() {
            let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 4 };
            let shape = spec.dims.iter().map(size).collect();
            inputs.push((spec.name.clone(), Tensor::zeroed(shape, spec.element, &self.budget)?));
        }
        self.call(|call| model.run(inputs, call))
    }
}

#[test]
fn models_that_are_wrong_end_in_an_error_and_harm_nobody() {
    let models = wrong();
    assert!(models.len() >= 30);
    for site in Site::all() {
        let good = site.load("good", &negation().model()).expect("loads");
        for (name, bytes) in &models {
            let since = Instant::now();
            let ended = site.load(name, bytes).and_then(|model| site.run(&model));
            let engine = site.engines.kind();
            // A branch that is deep and right is no harm.
            match &ended {
                Err(error) => assert!(!error.to_string().is_empty(), "{name}"),
                Ok(_) if *name == "conditions in conditions" => {}
                Ok(outputs) => panic!("{engine} gave {outputs:?} for: {name}"),
            }
            drop(ended);
            assert!(since.elapsed() < Duration::from_secs(15), "{engine} took {:?} for: {name}", since.elapsed());
            let outputs = site.run(&good).unwrap_or_else(|e| panic!("{engine}, after: {name}: {e}"));
            assert_eq!((outputs[0].1.element(), outputs[0].1.shape()), (ElementType::F32, &[4][..]));
            assert_eq!(site.budget.used(), outputs[0].1.data().len() as u64, "{engine}, after: {name}");
        }
    }
}

/// Each bit of a model turned over, one at a time: a result or an error.
#[test]
fn a_bit_that_is_turned_over_is_a_result_or_an_error() {
    let whole = negation().model();
    for site in Site::all() {
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(model) = site.load("turned", &bytes) {
                // What it gives need not be right.
                let _ = site.run(&model);
            }
        }
        let lost: u64 = site.engines.workers().iter().map(|worker| worker.restarts).sum();
        assert!(lost < 10, "most are errors of the model, {lost} ended a worker");
    }
}
