//! What this disk does by itself: the steps that an instance needs to be durable, one after the other, and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

/// What is added to the journal for one instance.
const ROW_BYTES: usize = 4096;

/// Files per second of `threads` that each write `files` of `bytes` bytes: write, fsync, rename, fsync of the folder,
/// append to a journal and fsync of it. Threads share a folder and nothing else.
pub(crate) fn durable_files_per_second(below: &Path, bytes: &[u8], threads: usize, files: usize) -> Result<f64> {
    // Stays: see what is said of receivers.
    let folder = tempfile::tempdir_in(below)?.keep();
    let path = folder.as_path();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || write(path, thread, bytes, files))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("a writer does not panic"))
    })?;
    Ok((threads * files) as f64 / begun.elapsed().as_secs_f64())
}

fn write(folder: &Path, thread: usize, bytes: &[u8], files: usize) -> Result<()> {
    let names = File::open(folder)?;
    let journal = folder.join(format!("journal-{thread}"));
    let mut journal = OpenOptions::new().create(true).append(true).open(journal)?;
    for index in 0..files {
        let incoming = folder.join(format!("incoming-{thread}-{index}"));
        let mut file = File::create(&incoming)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&incoming, folder.join(format!("{thread}-{index}")))?;
        names.sync_all()?;
        journal.write_all(&[0; ROW_BYTES])?;
        journal.sync_all()?;
    }
    Ok(())
}
