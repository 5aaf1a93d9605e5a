//! A batch into a bucket: our uploader and s5cmd, in turn, as processes, to one radosgw in memory on the same processors.
//!
//! Ours does all that it does at a hospital: checks each file against its digest, signs bodies, lets the server check them, writes over
//! nothing, and puts the manifest last. What it does beyond that, reading everything back, s5cmd has not; it is measured apart.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry_cloud_sync::s3::{Config, Uploader};
use gantry_tests::s3::S3Server;

use crate::Built;
use crate::command::watched;
use crate::report::{Report, median};
use crate::spooled::{SITE, Spooled, noise, open};

const MIB: f64 = 1_048_576.0;
const CONFIG: &str = "s3.toml";

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each uploads, in turn; medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Small objects: compressed slices of a CT, 130 KiB in the middle.
    #[arg(long, default_value_t = 2000)]
    small: usize,
    /// Large objects.
    #[arg(long, default_value_t = 4)]
    large: usize,
    /// The size of each of these.
    #[arg(long, default_value_t = 128)]
    large_mib: usize,
    #[command(flatten)]
    pub(crate) built: Built,
}

/// One batch, by `bench upload`.
#[derive(Debug, clap::Args)]
pub(crate) struct Once {
    /// The spool, with `s3.toml` and `key` in it.
    folder: PathBuf,
}

/// Uploads what waits in a spool.
pub(crate) fn once(options: &Once) -> Result<()> {
    let config: Config = toml::from_str(&std::fs::read_to_string(options.folder.join(CONFIG))?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let spool = open(&options.folder, &std::fs::read(options.folder.join("key"))?);
        let uploader = Uploader::connect(config, &SITE.parse().map_err(anyhow::Error::msg)?).await?;
        // The batch stays in the spool, for the next round.
        let batch = spool.batch(spool.sealed()?.into_iter().next().context("no batch")?)?;
        uploader.upload(&batch, |_| {}).await?;
        Ok(())
    })
}

/// What one upload took.
struct Run {
    seconds: f64,
    peak_mib: f64,
}

/// Measures and reports.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    if gantry_tests::s3::s5cmd().is_none() {
        report.skip("s5cmd is missing: run `cargo xtask assets --peers`");
        return Ok(());
    }
    // 130 KiB in the middle, from 98 to 162.
    let small = (0..options.small).map(|n| noise(n as u64 + 1, 98 * 1024 + n * 7919 % (64 * 1024)));
    let large = (0..options.large).map(|n| noise(n as u64 + 1_000_001, options.large_mib << 20));
    let batches: [(&str, &mut dyn Iterator<Item = Vec<u8>>); 2] =
        [("small", &mut small.into_iter()), ("large", &mut large.into_iter())];
    for (name, objects) in batches {
        // All of a subject's uploads are in memory until its server ends.
        let Some(server) = S3Server::radosgw_with("memstore device bytes = 17179869184\n") else {
            report.skip("radosgw is missing: run `cargo xtask assets --peers`");
            return Ok(());
        };
        let mut spooled = Spooled::new(objects.collect());
        let (count, bytes) = (spooled.objects.len(), spooled.objects.iter().map(Vec::len).sum::<usize>());
        spooled.objects.clear();
        // What is still to be written to the disk is written now.
        rustix::fs::sync();
        let (mut ours, mut reading, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..options.rounds.max(1) {
            let bucket = |of: &str| format!("{name}-{round}-{of}");
            theirs.push(by_s5cmd(&server, &spooled, &bucket("s5cmd"))?);
            ours.push(by_us(&server, &spooled, &bucket("ours"), false)?);
            reading.push(by_us(&server, &spooled, &bucket("reading"), true)?);
        }
        let of = |runs: &[Run]| median(&runs.iter().map(|run| run.seconds).collect::<Vec<_>>());
        let peak = |runs: &[Run]| median(&runs.iter().map(|run| run.peak_mib).collect::<Vec<_>>());
        let what = format!("{count} objects, {:.0} MiB, {}", bytes as f64 / MIB, server.name);
        let speed = |runs: &[Run]| bytes as f64 / MIB / of(runs);
        let each = |runs: &[Run]| {
            format!("{:.0} objects/s, peak memory {:.0} MiB; {what}", count as f64 / of(runs), peak(runs))
        };
        report.told(&format!("{name}: s5cmd"), speed(&theirs), "MiB/s", each(&theirs));
        report.told(&format!("{name}: ours"), speed(&ours), "MiB/s", each(&ours));
        report.told(&format!("{name}: ours, all read back"), speed(&reading), "MiB/s", each(&reading));
        let note = format!("read_back = false; medians of {} rounds in turn", ours.len());
        report.at_least(&format!("{name}: ours ÷ s5cmd"), of(&theirs) / of(&ours), "", 1.0, note);
        let note = "read_back = true, as by default: twice the traffic";
        report.told(&format!("{name}: ours, all read back ÷ s5cmd"), of(&theirs) / of(&reading), "", note);
    }
    Ok(())
}

fn by_s5cmd(server: &S3Server, spooled: &Spooled, bucket: &str) -> Result<Run> {
    server.make(bucket);
    let mut command = server.s5cmd();
    command.args(["--log", "error", "cp"]).arg(spooled.folder.path().join("objects/*"));
    timed(command.arg(format!("s3://{bucket}/objects/")))
}

fn by_us(server: &S3Server, spooled: &Spooled, bucket: &str, read_back: bool) -> Result<Run> {
    server.make(bucket);
    let folder = spooled.folder.path();
    let credentials = folder.join("credentials");
    let text = format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", server.key, server.secret);
    std::fs::write(&credentials, text)?;
    let config = Config {
        bucket: bucket.to_owned(),
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(server.url.clone()),
        path_style: true,
        credentials_file: Some(credentials),
        read_back,
        ..Config::default()
    };
    std::fs::write(folder.join(CONFIG), toml::to_string(&config)?)?;
    timed(Command::new(std::env::current_exe()?).arg("upload").arg(folder))
}

fn timed(command: &mut Command) -> Result<Run> {
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let (status, peak) = watched(&mut child)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(Run { seconds, peak_mib: peak as f64 / MIB })
}
