//! `cargo xtask bench`: speed and memory. Ratios within one run, since machines differ.

use crate::repository::{Profile, Repository};
use crate::{assets, guests};
use anyhow::Result;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything is built optimised, which takes long the first time; close what else keeps the machine busy. Numbers stand
beside their targets; one that misses is no failure. Comparisons with Python, radosgw and s5cmd need `cargo xtask assets --peers`;
that of `ingest` needs `apt-get install dcmtk orthanc orthanc-dicomweb` too, and that of `deid` `apt-get install libgdcm-tools`.

Examples:
  cargo xtask bench sandbox                  what the sandbox costs over native Rust, and the command over its network
  cargo xtask bench sandbox -- --json        the same for scripts
  cargo xtask bench sandbox -- --help        what that benchmark can vary
  cargo xtask bench workers                  what workers cost, what urgent work waits for, what neighbours feel
  cargo xtask bench ingest                   images a second, beside storescp, Orthanc and the disk alone
  cargo xtask bench ingest --development     the same with what `cargo build` makes
  cargo xtask bench hospital -- --times 60   a hospital's busiest hour in a minute: what is lost, and the node's memory
  cargo xtask bench hospital -- --times 20 --minutes 0.5
  cargo xtask bench hospital -- --find       with how many hours at once two cores keep up; takes some minutes
  cargo xtask bench sync-triage              what urgent findings feel of sync beside them
  cargo xtask bench outputs                  a SEG beside highdicom, and what a result waits for before Orthanc has it
  cargo xtask bench outputs -- --only seg    the SEG alone; also: orthanc, gone
  cargo xtask bench deid                     slices without identities, beside dicom-anonymizer and gdcmanon
  cargo xtask bench decode                   a CT in JPEG 2000 to a volume, beside pydicom with OpenJPEG
  cargo xtask bench sync                     a batch into a bucket (radosgw), beside s5cmd
  cargo xtask bench volumes                  each operation on a volume, beside scipy and SimpleITK
  cargo xtask bench volumes -- --only median --slices 300
  cargo xtask bench stream                   two ultrasound streams at once, against the frame budget and one alone
  cargo xtask bench gpu -- --library LIBRARY --out ratios.json
                                             what everything around an engine costs on a GPU, beside the bare engine
  cargo xtask bench gpu -- --device cpu      the same on processors
A machine with a GPU needs target/release/bench, the library and the models: `bench gpu --library LIBRARY --models FOLDER`.")]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum)]
    subject: Subject,
    /// Measure the development build, which is there sooner and is slower
    #[arg(long)]
    development: bool,
    /// Passed to the benchmark
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// A 300-slice CT through ct-organs against the same steps in native Rust; the whole command; starting a component
    Sandbox,
    /// ct-organs with its engine in a worker and in the process; a killed worker; urgent work beside routine work; small runs as
    /// one; a neighbour of who misbehaves
    Workers,
    /// 400 CT slices by dcmsend, pynetdicom and our own sender, over one and four associations; the time to the module
    Ingest,
    /// The busiest hour of a large hospital in less time, sent to `gantry serve`
    Hospital,
    /// The time from an urgent study to its finding, with sync at work and with sync paused
    SyncTriage,
    /// A SEG of three organs on 300 slices beside highdicom; a result's way to Orthanc, and beside 10,000 for a destination that is gone
    Outputs,
    /// 400 slices without identities, proven, beside dicom-anonymizer and gdcmanon; the memory of 100, 400 and 1600
    Deid,
    /// A CT of 300 slices in JPEG 2000 to a volume, beside pydicom with OpenJPEG, on two processors
    Decode,
    /// A batch of 2,000 small objects, and one of four large ones, to radosgw by our uploader and by s5cmd
    Sync,
    /// Smoothing, projections, morphology, resampling and the like on a CT of 512 × 512 × 100, beside scipy and SimpleITK
    Volumes,
    /// A real ultrasound cine at 30 frames a second through us-guidance: two streams at once against 33 ms, and against one
    Stream,
    /// Models by the bare engine in a loop, by the engine in the process, and by a worker; urgent runs; a killed worker
    Gpu,
}

/// Runs `cargo xtask bench`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    let profile = Profile::from_flag(!options.development);
    let (subject, runs_modules) = match options.subject {
        Subject::Sandbox => ("sandbox", true),
        Subject::Workers => ("workers", true),
        Subject::Ingest => ("ingest", true),
        Subject::Hospital => ("hospital", false),
        Subject::SyncTriage => ("sync-triage", true),
        Subject::Outputs => ("outputs", false),
        Subject::Deid => ("deid", false),
        Subject::Decode => ("decode", false),
        Subject::Sync => ("sync", false),
        Subject::Volumes => ("volumes", false),
        Subject::Stream => ("stream", true),
        Subject::Gpu => ("gpu", false),
    };
    if runs_modules || matches!(options.subject, Subject::Outputs | Subject::Deid | Subject::Decode) {
        assets::run(repository, &assets::Options { peers: false })?;
    }
    repository.build(&["gantry", "bench", "faulty-worker"], profile)?;
    if runs_modules {
        for module in guests::modules(repository)? {
            module.build(repository, profile)?;
        }
    }
    // Each error would look up where it came from: time that no node takes.
    let bench = repository.program("bench", profile).shown_as("bench").without_env("RUST_BACKTRACE".as_ref());
    bench.arg(subject).args(&options.arguments).run()
}
