//! A worker whose engine does what no engine should, as the name of its model says, and whose compiler and decoder do it as
//! what they are given says. Everything around these is that of `gantry worker`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gantry::config::Limits;
use gantry::inference::{Call, Device, Engine, EngineKind, InferenceError, Model, OnnxModel, TensorSpec};
use gantry::study::CompressedFrame;
use gantry::tensor::Tensor;
use gantry::worker::Tools;

struct Faulty;

/// Models that this process was to load.
static OTHERS: AtomicU32 = AtomicU32::new(0);

/// What every model does when it runs, whatever its name: `as WHAT`.
fn always() -> Option<String> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, how, what] = arguments.as_slice() else { return None };
    (how == "as").then(|| what.clone())
}

struct Obedient {
    name: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    ballast: Vec<u8>,
}

impl Engine for Faulty {
    fn kind(&self) -> EngineKind {
        EngineKind::Tract
    }

    fn version(&self) -> String {
        "faulty 1".into()
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn load(&self, model: &OnnxModel<'_>, _: &Call<'_>) -> Result<Box<dyn Model>, InferenceError> {
        let ballast = if model.name().starts_with("large") { vec![1; 40 << 20] } else { Vec::new() };
        if let Some(what) = model.name().strip_prefix("load-") {
            misbehave(what);
        }
        // It has no place beside others, and says so as ONNX Runtime does.
        if OTHERS.fetch_add(1, Ordering::Relaxed) > 0 && model.name().starts_with("shy") {
            let (engine, name) = (EngineKind::Tract, model.name().to_owned());
            return Err(InferenceError::Load { engine, model: name, reason: "std::bad_alloc".into() });
        }
        // Late, and for good.
        if let Some(ms) = model.name().strip_prefix("slow-load-").and_then(|ms| ms.parse().ok()) {
            std::thread::sleep(Duration::from_millis(ms));
            std::process::abort();
        }
        let (inputs, outputs) = (model.inputs().to_vec(), model.outputs().to_vec());
        let name = always().unwrap_or_else(|| model.name().to_owned());
        Ok(Box::new(Obedient { name, inputs, outputs, ballast }))
    }
}

impl Model for Obedient {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Gives back what it got, once it did what its name says.
    fn run(&self, inputs: Vec<Tensor>, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError> {
        let items = inputs.first().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1);
        let is_poison = |bytes: &[u8]| bytes == 13f32.to_le_bytes();
        if self.name == "poison" && inputs.iter().any(|tensor| tensor.data().chunks(4).any(is_poison)) {
            std::process::abort();
        }
        match self.name.strip_prefix("slow-").and_then(|ms| ms.parse().ok()) {
            // Milliseconds an item.
            Some(ms) => std::thread::sleep(Duration::from_millis(ms) * u32::try_from(items).unwrap_or(1)),
            None => misbehave(&self.name),
        }
        assert!(self.ballast.iter().all(|byte| *byte == 1));
        let copies = inputs.iter().map(|tensor| {
            let (shape, element) = (tensor.shape().to_vec(), tensor.element());
            Tensor::new(shape, element, tensor.data().to_vec(), call.budget)
        });
        let mut outputs = copies.collect::<Result<Vec<_>, _>>()?;
        if self.name == "too-many" {
            outputs.push(Tensor::zeroed(vec![1], outputs[0].element(), call.budget)?);
        }
        Ok(outputs)
    }
}

/// What bytes tell to do: `faulty:abort.`
fn told(bytes: &[u8]) -> Option<&str> {
    const MARK: &[u8] = b"faulty:";
    let at = bytes.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let text = bytes.get(at..)?.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(text).ok()
}

fn compile(limits: &Limits, component: &[u8]) -> Result<Vec<u8>, String> {
    match told(component) {
        Some("nonsense") => return Ok(b"no code".to_vec()),
        what => misbehave(what.unwrap_or_default()),
    }
    (Tools::default().compile)(limits, component)
}

fn decode(frame: &CompressedFrame, value: &[u8], out: &mut Vec<u8>) -> Result<u16, String> {
    misbehave(told(value).unwrap_or_default());
    let precision = (Tools::default().decode)(frame, value, out)?;
    if told(value) == Some("short") {
        out.pop();
    }
    Ok(precision)
}

fn misbehave(what: &str) {
    match what {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(7),
        "panic" => panic!("as it was told"),
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "spin" => {
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(600) {
                std::hint::spin_loop();
            }
        }
        "recurse" => println!("{}", deeper(1)),
        "allocate" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1u8; 16 << 20]);
            }
        }
        "chatty" => (0..20_000).for_each(|n| eprintln!("line {n}")),
        "never-silent" => loop {
            eprintln!("{}", "a".repeat(1000));
        },
        "threads" => threads(),
        // Descriptor 0 is the socket.
        "garbage" => drop(rustix::io::write(std::io::stdin(), b"{\"number\":1,\"what\":\"nonsense\"}")),
        "twice" => drop(rustix::io::write(std::io::stdin(), b"{\"number\":1,\"what\":{\"ran\":{\"outputs\":[]}}}")),
        "flood" => drop(rustix::io::write(std::io::stdin(), &vec![b' '; 150 << 10])),
        // Its exit status tells the reason.
        "read" => {
            std::process::exit(std::fs::read("/etc/hostname").map_or_else(|e| e.raw_os_error().unwrap_or(0), |_| 0))
        }
        "connect" => {
            let connected = std::net::TcpStream::connect("127.0.0.1:1");
            std::process::exit(connected.map_or_else(|e| e.raw_os_error().unwrap_or(0), |_| 0));
        }
        _ => {}
    }
}

/// Threads of a bomb: as many as would be felt, and no more than machines survive.
const THREADS_MAX: u32 = 4000;

/// Starts threads until there are no more; its exit status tells whether something refused them.
fn threads() {
    let start = || std::thread::Builder::new().stack_size(64 << 10).spawn(wait_for_good).is_ok();
    let started = (0..THREADS_MAX).take_while(|_| start()).count();
    std::process::exit(if started < THREADS_MAX as usize { 11 } else { 12 });
}

fn wait_for_good() {
    loop {
        std::thread::park();
    }
}

#[expect(unconditional_recursion, reason = "that is what is tested")]
fn deeper(n: u64) -> u64 {
    let place = std::hint::black_box([n; 512]);
    deeper(n + 1) + place[7]
}

/// Says that a wall does not stand, and does nothing more.
fn without(wall: &str) -> std::io::Result<()> {
    let (socket, mut message) = (std::io::stdin(), vec![0; 128 << 10]);
    let length = rustix::io::read(&socket, &mut message)?;
    let ask: serde_json::Value = serde_json::from_slice(&message[..length])?;
    let kept = serde_json::json!([{ "wall": wall, "missing": "as it was told" }]);
    let version = &ask["what"]["start"]["version"];
    let started =
        serde_json::json!({ "version": version, "engine_version": "faulty 1", "providers": [], "kept": kept });
    let answer = serde_json::json!({ "number": ask["number"], "what": { "started": started } });
    rustix::io::write(&socket, answer.to_string().as_bytes())?;
    rustix::io::read(&socket, &mut message)?;
    Ok(())
}

fn main() -> ExitCode {
    if let [_, what, wall] = std::env::args().collect::<Vec<_>>().as_slice()
        && what == "without"
    {
        return without(wall).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let Err(e) = gantry::worker::run(|_| Ok(()), |_| Ok(Box::new(Faulty)), Tools { compile, decode });
    eprintln!("error: {e}");
    ExitCode::FAILURE
}
