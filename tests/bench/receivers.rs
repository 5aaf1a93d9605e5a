//! Software that images are sent to: ours and what others use, each fresh for every measurement, on the same disk.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gantry::store::Store;
use gantry_tests::node::{NODE_TITLE, Node};
use gantry_tests::orthanc::Orthanc;
use tempfile::TempDir;

use crate::synthetic::Study;

/// What a receiver may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Software {
    /// `gantry serve`, which acknowledges what is durable.
    Gantry,
    /// DCMTK's receiver, a process for each association. It never syncs.
    Storescp,
    /// Orthanc with SQLite, as it is without a configuration.
    Orthanc,
}

/// One that runs until it is dropped.
pub(crate) enum Receiver {
    Gantry(Node),
    Storescp(Storescp),
    Orthanc(Orthanc),
}

/// `storescp`, and where it writes.
pub(crate) struct Storescp {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Software {
    pub(crate) const ALL: [Self; 3] = [Self::Gantry, Self::Storescp, Self::Orthanc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gantry => "Gantry",
            Self::Storescp => "storescp",
            Self::Orthanc => "Orthanc",
        }
    }

    /// Starts one below a folder, where what it keeps stays; nothing where it is not installed.
    ///
    /// Deleting files slows who makes the next ones: ext4 gives the number of a deleted file to no other for a minute, and looks
    /// through all of them for each new file.
    pub(crate) fn start(self, gantry: &Path, below: &Path) -> Result<Option<Receiver>> {
        let mut started = match self {
            Self::Gantry => Some(Receiver::Gantry(Node::of(gantry, below, "")?)),
            Self::Storescp => Storescp::start(below)?.map(Receiver::Storescp),
            Self::Orthanc => Orthanc::start_in(below).map(Receiver::Orthanc),
        };
        match &mut started {
            Some(Receiver::Gantry(node)) => node.leave_files(),
            Some(Receiver::Storescp(storescp)) => storescp.folder.disable_cleanup(true),
            Some(Receiver::Orthanc(orthanc)) => orthanc.leave_files(),
            None => {}
        }
        Ok(started)
    }
}

impl Receiver {
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(match self {
            Self::Gantry(node) => node.dimse,
            Self::Storescp(storescp) => storescp.address,
            Self::Orthanc(orthanc) => orthanc.dicom().parse()?,
        })
    }

    /// Its AE title; only ours minds.
    pub(crate) fn title(&self) -> &'static str {
        match self {
            Self::Gantry(_) => NODE_TITLE,
            Self::Storescp(_) => "STORESCP",
            Self::Orthanc(_) => "ORTHANC",
        }
    }

    /// Makes sure that it keeps every image of the study: a fast answer alone is worth nothing.
    pub(crate) fn keeps(&self, study: &Study) -> Result<()> {
        let kept = match self {
            Self::Gantry(node) => instances(&node.data(), &study.uid())?,
            Self::Storescp(storescp) => std::fs::read_dir(storescp.folder.path())?.count(),
            Self::Orthanc(orthanc) => usize::try_from(orthanc.instances()?)?,
        };
        ensure!(kept == study.images, "{kept} of {} images are kept", study.images);
        Ok(())
    }
}

/// Instances of a study in the journal of a node.
fn instances(data: &Path, study: &str) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open_to_read(data).await?;
        Ok(store.instances_of_study(study).await?.len())
    })
}

impl Storescp {
    fn start(below: &Path) -> Result<Option<Self>> {
        let folder = tempfile::tempdir_in(below)?;
        // Held until here: somebody else could take the port now, and then it ends.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new("storescp");
        command.args(["--fork", "--output-directory"]).arg(folder.path()).arg(address.port().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = command.spawn() else { return Ok(None) };
        let mut storescp = Self { process, address, folder };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = storescp.process.try_wait().context("storescp")? {
                bail!("storescp ended before it listened: {status}");
            }
            ensure!(Instant::now() < deadline, "storescp does not listen within {PATIENCE:?}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok(Some(storescp))
    }
}

impl Drop for Storescp {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
