//! Components that misbehave, and how each must end.

use crate::{MANIFEST, Scenario};

/// How a job must end.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// At a limit of this name.
    Limit(&'static str),
    /// With a trap whose message has this in it.
    Trap(&'static str),
    /// With the guest's own error, with this in it: the host's reason, or what the guest has to say.
    Module(&'static str),
    /// At the output gate, for this reason.
    Gate(&'static str),
    /// Before it ran, with this in the reason.
    Unprepared(&'static str),
    /// Well: it looked at each refusal itself.
    Done,
}

/// A component that misbehaves.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its example, without `.rs`.
    pub name: &'static str,
    /// How it must end.
    pub end: End,
    /// Which of those that it knows, from 0.
    pub misdeed: usize,
    /// Whether its package has the model `net`.
    pub has_net: bool,
    /// Interfaces that it is granted beyond the usual ones.
    pub granted: &'static [&'static str],
    /// Of its manifest.
    pub guest_memory_mib: u64,
    /// Of its manifest.
    pub job_deadline_ms: u64,
    /// One that is no example.
    pub component: Option<Vec<u8>>,
}

/// With what every guest has here: little memory, and more time than it needs.
#[must_use]
pub fn guest(name: &'static str, end: End) -> Guest {
    let (misdeed, has_net, granted, component) = Default::default();
    let (guest_memory_mib, job_deadline_ms) = (64, 20_000);
    Guest { name, end, misdeed, has_net, granted, guest_memory_mib, job_deadline_ms, component }
}

impl Guest {
    fn with_net(self) -> Self {
        Self { has_net: true, ..self }
    }

    fn granted(self, granted: &'static [&'static str]) -> Self {
        Self { granted, ..self }
    }

    /// Enough that a neighbour runs meanwhile.
    #[must_use]
    pub fn with_little_time(self) -> Self {
        Self { job_deadline_ms: 300, ..self }
    }

    /// Its package and its study; nothing where it is not built.
    #[must_use]
    pub fn scenario(&self) -> Option<Scenario> {
        let limits = format!(
            "[limits]\nguest_memory_mib = {}\nhost_memory_mib = 64\njob_deadline_ms = {}\n",
            self.guest_memory_mib, self.job_deadline_ms
        );
        let more: String = self.granted.iter().map(|interface| format!(", \"{interface}\"")).collect();
        let manifest = format!("{MANIFEST}{limits}").replace(", \"wasi:nn\"]", &format!(", \"wasi:nn\"{more}]"));
        let mut scenario = match (&self.component, self.has_net) {
            (Some(bytes), _) => Scenario::new(bytes, &manifest).expect("a scenario"),
            (None, true) => Scenario::with_net(self.name, &manifest, "cpu")?,
            (None, false) => Scenario::rogue_with(self.name, &manifest)?,
        };
        scenario.grants = self.granted.iter().map(|&grant| grant.to_owned()).collect();
        for slice in 0..self.misdeed {
            std::fs::remove_file(scenario.study().join(format!("{}.dcm", 9 - slice))).expect("it was there");
        }
        Some(scenario)
    }

    /// One for each of its misdeeds.
    fn each(self, ends: &[End]) -> Vec<Self> {
        ends.iter().enumerate().map(|(misdeed, end)| Self { misdeed, end: *end, ..self.clone() }).collect()
    }
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Guest> {
    [greedy(), endless(), traps(), misstated(), refused(), unlinked()].concat()
}

/// They take something without end.
#[must_use]
pub fn greedy() -> Vec<Guest> {
    // With less memory they would fail by themselves.
    let large = |name| Guest { guest_memory_mib: 4096, ..guest(name, End::Limit("guest_list_mib")) };
    vec![
        guest("recurse", End::Limit("guest_stack_kib")),
        guest("deep-host-calls", End::Limit("guest_stack_kib")),
        guest("allocate", End::Limit("guest_memory_mib")),
        guest("host-memory", End::Limit("host_memory_mib")),
        guest("handles", End::Limit("handles_max")),
        guest("tensors", End::Limit("handles_max")),
        guest("errors", End::Limit("handles_max")),
        guest("contexts", End::Limit("handles_max")).with_net(),
        guest("findings-flood", End::Limit("findings_max")),
        guest("segments-flood", End::Limit("findings_max")),
        large("list-2gib"),
        large("tensor-2gib"),
    ]
}

/// They run without end.
#[must_use]
pub fn endless() -> Vec<Guest> {
    let endless = |name| guest(name, End::Limit("job_deadline_ms")).with_little_time();
    let clock = &["wasi:io", "wasi:clocks"];
    vec![
        endless("loop"),
        endless("poll-host"),
        endless("compute-loop").with_net(),
        endless("sleep").granted(clock),
        endless("poll-clock").granted(clock),
        endless("endless-filter").granted(&["gantry:imaging/filters"]),
        endless("endless-windows").with_net().granted(&["gantry:imaging/patches"]),
    ]
}

/// They trap, or are trapped in a call.
#[must_use]
pub fn traps() -> Vec<Guest> {
    let single = vec![
        guest("trap", End::Trap("unreachable")),
        guest("panic", End::Trap("unreachable")),
        guest("trap-drop", End::Trap("unreachable")),
        guest("trap-realloc", End::Trap("unreachable")),
        guest("wild-realloc", End::Trap("realloc return")),
        guest("wrong-length", End::Trap("has 256 bytes, but 252 were given")),
        guest("tensor-overflow", End::Trap("cannot be addressed")),
        guest("wraps", End::Trap("cannot be addressed")),
        guest("leaves", End::Module("it ended itself with exit status 1")).granted(&["wasi:empty"]),
    ];
    let lengths = [
        End::Trap("a f16 tensor of shape [3] has 6 bytes, but 7 were given"),
        End::Trap("a bf16 tensor of shape [3] has 6 bytes, but 7 were given"),
        End::Trap("a f32 tensor of shape [3] has 12 bytes, but 13 were given"),
        End::Trap("a f64 tensor of shape [3] has 24 bytes, but 25 were given"),
        End::Trap("a u8 tensor of shape [3] has 3 bytes, but 4 were given"),
        End::Trap("a i32 tensor of shape [3] has 12 bytes, but 13 were given"),
        End::Trap("a i64 tensor of shape [3] has 24 bytes, but 25 were given"),
    ];
    let unknown = End::Trap("unknown handle index");
    let dropped = [unknown, unknown, unknown, End::Trap("used with the wrong type"), unknown];
    [single, guest("lengths", End::Done).each(&lengths), guest("dropped", End::Done).with_net().each(&dropped)].concat()
}

/// They state what cannot be written.
#[must_use]
pub fn misstated() -> Vec<Guest> {
    let probability = "is not in 0..=1";
    let single = vec![
        guest("nan", End::Gate("the segmentation, slice 0")),
        guest("fraction", End::Gate("the segmentation, slice 0")),
        guest("unknown-label", End::Gate("no segment has that value")),
        guest("wrong-shape", End::Gate("is the grid of no volume")),
        guest("elsewhere", End::Gate("is the grid of no volume")),
        guest("probability", End::Gate(probability)),
        guest("ignores-refusals", End::Gate(probability)),
        guest("unfit-and-more", End::Gate("an input that is not fit has none")),
    ];
    let twice = [
        End::Module("at most one segmentation"),
        End::Module("state those of a segment once"),
        End::Gate("triage 1: it contradicts triage 0"),
        End::Gate("classification 1: it contradicts classification 0"),
    ];
    let infinite = End::Gate("is not finite");
    let elsewhere = End::Gate("not on the grid of the labels");
    let numbers = [infinite, infinite, infinite].into_iter().chain([End::Gate(probability); 6]).chain([elsewhere]);
    let control = End::Gate("control characters");
    let texts = [control, control, End::Gate("coding scheme"), End::Gate("not UCUM"), control, control, control];
    let no_number = End::Gate("a voxel is NaN or infinite");
    let outside = End::Gate("leaves the first source volume");
    let shown = [
        no_number,
        no_number,
        End::Gate("is the grid of no volume"),
        End::Gate("its title is not"),
        End::Module("at most one heatmap"),
        outside,
        outside,
        outside,
        End::Gate(probability),
    ];
    [
        single,
        guest("twice", End::Done).each(&twice),
        guest("bad-marks", End::Done).granted(&["gantry:imaging/marks"]).each(&shown),
        guest("nan-findings", End::Done).each(&numbers.collect::<Vec<_>>()),
        guest("nul-text", End::Done).each(&texts),
    ]
    .concat()
}

/// They ask for what they must not have, and look at the refusal or give up.
#[must_use]
pub fn refused() -> Vec<Guest> {
    vec![
        guest("identity", End::Done),
        guest("other-model", End::Done),
        guest("load-bytes", End::Done),
        guest("huge-grid", End::Done),
        guest("log-flood", End::Done),
        guest("nul-names", End::Done),
        guest("not-finite", End::Done),
        guest("zero-size", End::Done),
        guest("wrong-inputs", End::Done).with_net(),
        guest("wrong-filters", End::Done).with_net().granted(&["gantry:imaging/filters", "gantry:imaging/patches"]),
        guest("nan-inputs", End::Done).with_net(),
        guest("given-twice", End::Module("input 'x' was given twice")).with_net(),
        guest("missing-input", End::Module("input 'x' is missing")).with_net(),
        guest("extra-input", End::Module("has no input 'z'; it takes 'x'")).with_net(),
        guest("long-error", End::Module("no [31m way")),
    ]
}

/// They import or declare what they must not.
#[must_use]
pub fn unlinked() -> Vec<Guest> {
    vec![
        guest("ungranted", End::Unprepared("--grant wasi:random")),
        guest("unknown-import", End::Unprepared("imports `")),
        guest("tables", End::Unprepared("guest_table_elements_max")),
    ]
}
