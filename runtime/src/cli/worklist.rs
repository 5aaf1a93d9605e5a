//! `gantry worklist`: which studies are open, in which order, and why.

use std::fmt::Write;

use gantry::store::{OpenStudy, Store, Why, now_ms};

use super::job::{NodeArgs, pretty, with_journal};

type Failure = (u8, anyhow::Error);

#[derive(clap::Args)]
pub(crate) struct WorklistArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Studies at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Without the first so many.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    offset: u32,
}

pub(crate) fn run(args: &WorklistArgs) -> Result<(), Failure> {
    let (limit, offset, json) = (args.limit, args.offset, args.node.json);
    let text = with_journal(&args.node, |config, store: Store| async move {
        let list = store.worklist(config.worklist.open_since_ms(now_ms()), limit, offset).await?;
        if json {
            return pretty(&list);
        }
        let mut text = String::new();
        for study in &list.studies {
            describe(&mut text, study)?;
        }
        let last = u64::from(offset) + list.studies.len() as u64;
        if list.total == 0 {
            text.push_str("no study is open\n");
        } else if last < list.total {
            writeln!(text, "{} studies are open; more from --offset {last} on", list.total)?;
        }
        Ok(text)
    });
    crate::print(text?.as_bytes())
}

fn describe(text: &mut String, study: &OpenStudy) -> std::fmt::Result {
    let OpenStudy { place, accession_number, state, level, study_instance_uid, .. } = study;
    let accession = match accession_number.as_str() {
        "" => "-".to_owned(),
        accession => gantry::printable(accession),
    };
    writeln!(text, "{place:>5}  {:<8}  {:<14}  {accession:<16}  {study_instance_uid}", level.name(), state.name())?;
    for why in &study.reasons {
        let level = why.level().name();
        match why {
            Why::Order { priority, .. } => {
                writeln!(text, "         {level}: the order is {}", gantry::printable(priority))?
            }
            Why::Rule { rule, .. } => writeln!(text, "         {level}: rule {}", gantry::printable(rule))?,
            Why::Module { module, .. } => writeln!(text, "         {level}: {module} runs on it")?,
            Why::Job { job, module, .. } => writeln!(text, "         {level}: job {job} of {module} stands there")?,
            Why::Triage { module, job, finding, probability, reason, held, .. } => {
                let held = if *held { ", held for release" } else { "" };
                let (meaning, reason) = (gantry::printable(&finding.meaning), gantry::printable(reason));
                writeln!(
                    text,
                    "         {level}: {module} (job {job}{held}) found {meaning} with {probability:.2}: {reason}"
                )?;
            }
            Why::Age { seconds } => writeln!(text, "         here for {}", duration(*seconds))?,
        }
    }
    Ok(())
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}
