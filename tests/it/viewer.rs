//! What a radiologist sees of a result: OHIF in headless Chromium, which has the study from an archive, and from a node.

use std::path::{Path, PathBuf};

use gantry_tests::complete::complete;
use gantry_tests::node::Node;
use gantry_tests::orthanc::Orthanc;
use gantry_tests::peers::Peers;

use crate::completion::multipart;
use crate::dicomweb::{MULTIPART, WEB, post, web};
use crate::peers::{Done, path_text, real};

/// A result and the images that it is of, as an archive has them.
struct Study {
    peers: Peers,
    ohif: PathBuf,
    done: &'static Done,
    files: Vec<PathBuf>,
    folder: tempfile::TempDir,
}

impl Study {
    fn find() -> Option<Self> {
        let (peers, ohif) = (Peers::with("numpy, PIL, pydicom")?, gantry_tests::needed_peer("ohif/index.html")?);
        let done = browser_is_there().then(real)??;
        let folder = tempfile::tempdir().expect("a folder");
        let sources = std::fs::read_dir(done.scenario.study()).expect("images").map(|entry| entry.expect("one").path());
        let images = complete(&sources.collect::<Vec<_>>(), &folder.path().join("images")).expect("written");
        let files = [images.files, vec![done.written("segmentation.dcm").into()]].concat();
        Some(Self { peers, ohif, done, files, folder })
    }

    /// The SEG is seen where the module stated it, in the study as `dicom_web` serves it. Pictures of it stay in the build folder.
    fn is_seen(&self, dicom_web: &str, name: &str) {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let ohif = path_text(self.ohif.parent().expect("a folder"));
        let [seg, source] = [self.done.written("segmentation.dcm"), path_text(self.done.scenario.study())];
        let expected = self.done.expected(self.folder.path());
        self.peers.agree("judge_viewer.py", &[&ohif, dicom_web, &seg, &source, &expected, &path_text(&out)]);
    }
}

fn browser_is_there() -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&paths).any(|folder| folder.join("chromium-headless-shell").is_file());
    if !there {
        gantry_tests::skipped("Chromium: run `apt-get install chromium-headless-shell`");
    }
    there
}

#[test]
fn a_viewer_shows_segments_of_an_archive_where_they_were() {
    let (Some(study), Some(orthanc)) = (Study::find(), Orthanc::start()) else { return };
    for file in &study.files {
        orthanc.keep(file).expect("kept");
    }
    study.is_seen(&orthanc.dicom_web(), "viewer-archive");
}

#[test]
fn a_viewer_shows_segments_of_a_node_where_they_were() {
    let Some(study) = Study::find() else { return };
    let node = Node::start(WEB);
    let files: Vec<Vec<u8>> = study.files.iter().map(|file| std::fs::read(file).expect("readable")).collect();
    let reply = post(&node, "/dicom-web/studies", MULTIPART, &multipart(&files));
    assert_eq!(reply.status, 200, "{}", reply.text());
    study.is_seen(&format!("http://{}/dicom-web", web(&node)), "viewer-node");
}
