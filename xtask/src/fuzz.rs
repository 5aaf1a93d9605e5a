//! `cargo xtask fuzz`: throws bytes at what reads the network, DICOM files, packages, the configuration and what guests ask, guided by the
//! code they reach.

use crate::process::{Step, seconds, timed};
use crate::repository::{Repository, find_program};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
libFuzzer, with the stable compiler: coverage, comparisons and integer overflow are watched. AddressSanitizer is not, since
it needs a nightly compiler; the code that is fuzzed has no `unsafe` but for the decoder of JPEG 2000 under `reader`. Each
target checks what must hold for all bytes, says so at the top of its file in fuzz/fuzz_targets/, and covers the source files
that fuzz/src/lib.rs names, no others.
What a run learns stays in the build folder and is where the next one begins. Needs a C++ compiler.

Examples:
  cargo xtask fuzz                         each target for a minute
  cargo xtask fuzz multipart --seconds 3600
  cargo xtask fuzz guard --input FILE      one input, such as one that failed")]
pub(crate) struct Options {
    /// Only this one
    #[arg(value_enum)]
    pub(crate) target: Option<Target>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = SECONDS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) seconds: u32,
    /// Run this input once, and nothing else
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(crate) input: Option<PathBuf>,
}

/// What CI runs.
pub(crate) const SECONDS: u32 = 60;

/// One program in `fuzz/fuzz_targets/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// The guard on a stream of PDUs
    Guard,
    /// A DIMSE command set
    Command,
    /// The multipart body of a STOW request
    Multipart,
    /// MLLP, and a message of HL7 v2
    Hl7,
    /// A DICOM file: its header, its pixels, and what is made of it
    Reader,
    /// The text of gantry.toml
    Config,
    /// A package in one file
    Pack,
    /// What a guest asks of volumes
    Volumes,
}

/// The crate; no member of the workspace.
pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";

/// Every key of a configuration, as people read them; an input to begin with, too.
const EXAMPLE: &str = "examples/gantry.toml";

/// As cargo-fuzz sets them, without a sanitizer: those need a nightly compiler.
const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Command => "command",
            Self::Multipart => "multipart",
            Self::Hl7 => "hl7",
            Self::Reader => "reader",
            Self::Config => "config",
            Self::Pack => "pack",
            Self::Volumes => "volumes",
        }
    }

    /// Inputs are at most so long. Limits of the multipart reader lie at 16 KiB; elsewhere short inputs reach everything.
    fn input_max_bytes(self) -> u32 {
        match self {
            Self::Guard | Self::Command | Self::Hl7 => 4 << 10,
            Self::Multipart => 20 << 10,
            // A header, and a small image in any transfer syntax.
            Self::Reader => 8 << 10,
            Self::Config | Self::Pack => 16 << 10,
            Self::Volumes => 1 << 10,
        }
    }
}

/// Runs `cargo xtask fuzz`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    use clap::ValueEnum;
    let programs = build(repository)?;
    if let (Some(target), Some(input)) = (options.target, &options.input) {
        return Step::new(programs.join(target.name())).shown_as(target.name()).arg(input).run();
    }
    let targets = options.target.as_ref().map_or(Target::value_variants(), std::slice::from_ref);
    // Each takes one processor.
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed = Vec::new();
    for some in targets.chunks(at_once) {
        let passed = std::thread::scope(|scope| {
            let start = |target: &Target| {
                let (programs, target) = (&programs, *target);
                scope.spawn(move || fuzz(repository, programs, target, options.seconds))
            };
            let running: Vec<_> = some.iter().map(start).collect();
            running.into_iter().map(|one| one.join().expect("it says what is wrong")).collect::<Vec<_>>()
        });
        for (target, passed) in some.iter().zip(passed) {
            if !passed? {
                failed.push(target.name());
            }
        }
    }
    if !failed.is_empty() {
        bail!("fuzzing failed for: {}", failed.join(", "));
    }
    Ok(())
}

/// Builds the targets, with a folder and flags of their own; says where they lie.
fn build(repository: &Repository) -> Result<PathBuf> {
    if find_program("c++").is_none() {
        bail!("libFuzzer needs a C++ compiler and `c++` is not there; on Debian: apt-get install g++");
    }
    // A target that is named keeps the flags away from build scripts and macros.
    let host = host()?;
    let target = folder(repository);
    let (outcome, elapsed) = timed(|| {
        repository
            .cargo()
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
            .args([
                "build",
                "--release",
                "--locked",
                "--quiet",
                "--bins",
                "--manifest-path",
                MANIFEST,
                "--target",
                &host,
            ])
            .arg("--target-dir")
            .arg(&target)
            .run()
    });
    outcome.context("cannot build the fuzz targets")?;
    println!("fuzz targets: built ({})", seconds(elapsed));
    Ok(target.join(host).join("release"))
}

fn folder(repository: &Repository) -> PathBuf {
    repository.target.join("fuzz")
}

fn host() -> Result<String> {
    let version = Step::new("rustc").arg("-vV").capture()?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("`rustc -vV` names no host")?.to_owned())
}

/// Runs one target and prints a line of what it did; false where it found something.
fn fuzz(repository: &Repository, programs: &Path, target: Target, time: u32) -> Result<bool> {
    let name = target.name();
    let learnt = folder(repository).join("corpus").join(name);
    let found = folder(repository).join("found").join(name);
    for path in [&learnt, &found] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let step = Step::new(programs.join(name)).shown_as(name).in_folder(&repository.root);
    let step = step.args([
        format!("-max_total_time={time}"),
        format!("-max_len={}", target.input_max_bytes()),
        format!("-artifact_prefix={}/", found.display()),
        "-timeout=10".into(),
        "-rss_limit_mb=1024".into(),
        "-print_final_stats=1".into(),
    ]);
    let step = match target {
        Target::Guard
        | Target::Command
        | Target::Multipart
        | Target::Hl7
        | Target::Pack
        | Target::Volumes
        | Target::Reader => step,
        Target::Config => {
            fs::copy(repository.root.join(EXAMPLE), learnt.join("example")).context("cannot copy the example")?;
            step.arg(format!("-dict={}", words(repository)?.display()))
        }
    };
    println!("{name}: {time} s ...");
    // The first folder takes what is learnt; that of the repository is only read.
    let (passed, said) = step.arg(&learnt).arg(repository.root.join("fuzz/corpus").join(name)).transcript()?;
    if passed {
        println!("{name}: {}", summary(&said));
    } else {
        eprintln!("{said}\n{name}: FAILED");
        if let Some(input) = said.lines().rev().find_map(|line| line.split_once("Test unit written to ")) {
            eprintln!("to run it again: cargo xtask fuzz {name} --input {}", input.1);
        }
    }
    Ok(passed)
}

/// The keys and values of the example as libFuzzer's dictionary: random text is never a key.
fn words(repository: &Repository) -> Result<PathBuf> {
    let text = fs::read_to_string(repository.root.join(EXAMPLE)).with_context(|| format!("cannot read {EXAMPLE}"))?;
    let path = folder(repository).join("config.dict");
    fs::write(&path, dictionary(&text)).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Headings and settings, commented ones too, without the comments after them.
fn dictionary(text: &str) -> String {
    let plain = |line: &str| line.split(" #").next().unwrap_or_default().trim_end().to_owned();
    let setting = |line: &String| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| is_key(key));
    let lines = text.lines().map(|line| plain(line.trim_start_matches(['#', ' ']))).filter(setting);
    lines.map(|line| format!("\"\\x0A{}\\x0A\"\n", escaped(&line))).collect()
}

/// libFuzzer's dictionaries are printable ASCII.
fn escaped(line: &str) -> String {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02X}"),
    };
    line.bytes().map(byte).collect()
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// What libFuzzer's last lines come to.
fn summary(said: &str) -> String {
    let last = |name: &str| {
        let value = said.lines().rev().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        value.map_or("?", |value| value.trim_start_matches(':').trim()).to_owned()
    };
    let word = |name: &str| {
        let mut words = said.lines().rev().find(|line| line.contains(name))?.split_whitespace();
        words.find(|word| *word == name)?;
        words.next()
    };
    format!(
        "{} inputs, {} a second, {} edges reached, {} inputs worth keeping, {} MiB at most; nothing found",
        last("number_of_executed_units"),
        last("average_exec_per_sec"),
        word("cov:").unwrap_or("?"),
        word("corp:").and_then(|corpus| corpus.split('/').next()).unwrap_or("?"),
        last("peak_rss_mb"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout").to_path_buf()
    }

    #[test]
    fn every_target_has_a_program_and_inputs_to_begin_with() {
        for target in Target::value_variants() {
            assert_eq!(Target::from_str(target.name(), false), Ok(*target));
            assert!(root().join(format!("fuzz/fuzz_targets/{}.rs", target.name())).is_file(), "{}", target.name());
            let seeds = fs::read_dir(root().join("fuzz/corpus").join(target.name())).expect("a folder");
            for seed in seeds {
                let seed = seed.expect("a file");
                let bytes = seed.metadata().expect("a size").len();
                assert!(bytes <= target.input_max_bytes().into(), "{} would be cut", seed.path().display());
            }
        }
    }

    #[test]
    fn the_dictionary_has_settings_of_the_example_and_no_prose() {
        let text = "# Prose = not a key.\n[web] # é\n#listen = \"[::1]:1\"\npath = 'a\\bé'\n";
        let expected =
            "\"\\x0A[web]\\x0A\"\n\"\\x0Alisten = \\\"[::1]:1\\\"\\x0A\"\n\"\\x0Apath = 'a\\\\b\\xC3\\xA9'\\x0A\"\n";
        assert_eq!(dictionary(text), expected);
        let example = fs::read_to_string(root().join(EXAMPLE)).expect("readable");
        assert!(dictionary(&example).lines().count() > 20);
    }

    #[test]
    fn the_summary_is_read_from_what_libfuzzer_prints() {
        let said = "#16\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 28Mb\n#99\tDONE   cov: 55 ft: 99 corp: 34/1025b \
                    lim: 4096 exec/s: 50 rss: 29Mb\nDone 99 runs in 2 second(s)\nstat::number_of_executed_units: 99\n\
                    stat::average_exec_per_sec:     49\nstat::peak_rss_mb:              29\n";
        let expected =
            "99 inputs, 49 a second, 55 edges reached, 34 inputs worth keeping, 29 MiB at most; nothing found";
        assert_eq!(summary(said), expected);
    }
}
