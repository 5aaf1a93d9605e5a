//! The DICOM network service, by real senders and by peers that mean no good.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceUserReason, AssociationRJSource, PDataValue,
    PDataValueType, Pdu, RequestorRoles, UserVariableItem, write_pdu,
};
use flate2::{Compress, Compression, FlushCompress};
use gantry_tests::certificates::certificates;
use gantry_tests::command::Said;
use gantry_tests::complete::complete;
use gantry_tests::dimse::{Peer, command, data_set, element, padded};
use gantry_tests::node::{NODE_TITLE, Node, eventually};
use gantry_tests::orthanc::Orthanc;
use gantry_tests::peers::Peers;
use gantry_tests::{asset, change_files, skipped, write_ct};
use tempfile::TempDir;

use crate::dicomweb::{INSTANCE, WEB, get, question, web};

const CT: &str = uids::CT_IMAGE_STORAGE;
const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
/// The first slice of the small CT.
const SLICE: &str = "2.25.10";

/// The small CT; its slices are `2.25.10` to `2.25.19`.
fn ct() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write_ct(folder.path()).expect("written");
    folder
}

/// The data set of its first slice.
fn slice() -> Vec<u8> {
    data_set(&ct().path().join("0.dcm"))
}

/// The data set of its first slice, changed.
fn changed(change: impl Fn(&mut InMemDicomObject)) -> Vec<u8> {
    let ct = ct();
    change_files(ct.path(), |_, object| change(object)).expect("changed");
    data_set(&ct.path().join("0.dcm"))
}

fn associate(node: &Node) -> Peer {
    Peer::associate(node.dimse, &[(CT, EXPLICIT)])
}

/// The node still does what it is there for.
fn still_serves(node: &Node) {
    let mut peer = Peer::associate(node.dimse, &[(CT, EXPLICIT)]);
    let other = changed(|object| {
        object.put_str(tags::SOP_INSTANCE_UID, VR::UI, "2.25.999");
        object.put_str(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.998");
    });
    assert_eq!(peer.store(1, CT, "2.25.999", &other).0, 0);
    assert!(peer.release());
}

/// What was refused is not among the instances, and nothing is left behind.
fn kept_nothing(node: &Node) {
    assert_eq!(node.files("instances"), Vec::<PathBuf>::new());
    eventually("incoming/ is empty", || node.files("incoming").is_empty());
}

/// A program of DCMTK with options, our title and our address; nothing where it is not installed.
fn dcmtk(program: &str, node: &Node, options: &[&str], files: &[&Path]) -> Option<Said> {
    let mut call = Command::new(program);
    call.args(options).args(["-aec", NODE_TITLE, "127.0.0.1", &node.dimse.port().to_string()]).args(files);
    match call.output() {
        Ok(output) => Some(output.into()),
        Err(_) => {
            skipped("DCMTK is not installed: run `apt-get install dcmtk`");
            None
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("readable").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Every slice of `folder` is kept byte for byte, and journalled.
fn kept_as_sent(node: &Node, folder: &Path) {
    for file in files(folder) {
        let sent = dicom_object::open_file(&file).expect("readable");
        let uid = sent.element(tags::SOP_INSTANCE_UID).expect("there").to_str().expect("text").into_owned();
        let row = node.instance(uid.trim_end_matches('\0')).expect("journalled");
        let kept = node.data().join(&row.path);
        assert_eq!(data_set(&kept), data_set(&file), "{}", file.display());
        assert_eq!(row.bytes, std::fs::metadata(&kept).expect("there").len());
        assert_eq!(row.transfer_syntax_uid, sent.meta().transfer_syntax().trim_end_matches('\0'));
    }
    assert_eq!(node.files("incoming"), Vec::<PathBuf>::new());
}

#[test]
fn dcmtk_echoes_and_sends_and_every_byte_is_kept() {
    let node = Node::start("");
    let Some(echo) = dcmtk("echoscu", &node, &[], &[]) else { return };
    assert_eq!(echo.code, Some(0), "{echo:?}");
    let ct = ct();
    let sent = dcmtk("storescu", &node, &["+sd", "-xe"], &[ct.path()]).expect("installed");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    kept_as_sent(&node, ct.path());
    let again = dcmtk("dcmsend", &node, &["+sd"], &[ct.path()]).expect("installed");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(node.files("instances").len(), 10, "the same bytes change nothing");
}

#[test]
fn compressed_images_are_kept_as_they_come() {
    let Some(source) = asset("totalsegmentator/example_ct_dicom") else { return };
    let (node, folder) = (Node::start(""), tempfile::tempdir().expect("a folder"));
    complete(&files(&source)[..3], folder.path()).expect("completed");
    let Some(sent) = dcmtk("dcmsend", &node, &["+sd"], &[folder.path()]) else { return };
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert_eq!(node.files("instances").len(), 3);
    for file in files(folder.path()) {
        let sent = dicom_object::open_file(&file).expect("readable");
        let uid = sent.meta().media_storage_sop_instance_uid.trim_end_matches('\0').to_owned();
        let kept = dicom_object::open_file(node.data().join(node.instance(&uid).expect("journalled").path));
        let kept = kept.expect("readable");
        assert_eq!(kept.meta().transfer_syntax(), sent.meta().transfer_syntax());
        // dcmsend writes lengths and offsets anew; the pixels it leaves alone.
        let pixels = |object: &InMemDicomObject| {
            object.element(tags::PIXEL_DATA).expect("pixels").fragments().map(<[_]>::to_vec)
        };
        assert!(pixels(&kept).is_some() && pixels(&kept) == pixels(&sent), "{}", file.display());
    }
}

#[test]
fn pynetdicom_sends_and_asks_for_commitment() {
    let Some(peers) = Peers::with("pynetdicom") else { return };
    let (node, ct) = (Node::start(""), ct());
    let (port, files) = (node.dimse.port().to_string(), files(ct.path()));
    let files = files.iter().map(|file| file.to_str().expect("UTF-8"));
    let arguments: Vec<&str> = [port.as_str(), NODE_TITLE].into_iter().chain(files).collect();
    peers.agree("send.py", &arguments);
    kept_as_sent(&node, ct.path());
    eventually("the result is noted", || node.log().contains("association released"));
}

#[test]
fn orthanc_sends() {
    let Some(orthanc) = Orthanc::start() else { return };
    let (node, ct) = (Node::start(""), ct());
    let modality = format!("{{\"AET\":\"{NODE_TITLE}\",\"Host\":\"127.0.0.1\",\"Port\":{}}}", node.dimse.port());
    orthanc.rest("PUT", "/modalities/gantry", modality.as_bytes()).expect("a modality");
    for file in files(ct.path()) {
        orthanc.keep(&file).expect("kept");
    }
    let series: Vec<String> =
        serde_json::from_str(&orthanc.rest("GET", "/series", b"").expect("series")).expect("a list");
    orthanc.rest("POST", "/modalities/gantry/store", series[0].as_bytes()).expect("sent");
    for z in 0..10 {
        assert!(node.instance(&format!("2.25.1{z}")).is_some(), "slice {z}");
    }
}

#[test]
fn tls_asks_for_the_clients_certificate() {
    let (folder, ct) = (tempfile::tempdir().expect("a folder"), ct());
    let paths = certificates(folder.path());
    let [root, server, server_key, client, client_key] = &paths;
    let node = Node::start(&format!(
        "{WEB}[dimse.tls]\ncertificate = {server:?}\nkey = {server_key:?}\nclient_roots = {root:?}\n"
    ));
    let mut plain = Peer::connect(node.dimse);
    plain.send_bytes(b"whatever this is, it is no TLS");
    eventually("it is counted", || rejected(&node, "tls") == 1);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (root, client, key) = (text(root), text(client), text(client_key));
    let options = ["+sd", "-xe", "+tls", &key, &client, "+cf", &root];
    let Some(sent) = dcmtk("storescu", &node, &options, &[ct.path()]) else { return };
    assert_eq!(sent.code, Some(0), "{sent:?}");
    kept_as_sent(&node, ct.path());
    let echo = dcmtk("echoscu", &node, &["+tls", &key, &client, "+cf", &root, "+px"], &[]).expect("installed");
    assert_eq!(echo.code, Some(0), "{echo:?}");
    for options in [&["+tla", "-ic"][..], &[]] {
        let refused = dcmtk("echoscu", &node, options, &[]).expect("installed");
        assert_ne!(refused.code, Some(0), "{options:?}: {refused:?}");
    }
    let rows = node.audited("association-rejected");
    assert!(rows.iter().any(|row| row["detail"] == "the TLS handshake failed, from 127.0.0.1"), "{rows:?}");
}

#[test]
fn callers_are_checked() {
    let node = Node::start("[dimse]\nunknown_callers = \"refuse\"\ncallers = [{ ae_title = \"CT1\" }]\n");
    let Some(known) = dcmtk("echoscu", &node, &["-aet", "CT1"], &[]) else { return };
    assert_eq!(known.code, Some(0), "{known:?}");
    let unknown = dcmtk("echoscu", &node, &["-aet", "CT2"], &[]).expect("installed");
    assert!(unknown.err.contains("Calling AE Title Not Recognized"), "{unknown:?}");
}

#[test]
fn a_caller_from_another_address_is_told_from_one_that_is_not_known() {
    let node = Node::start(
        "[dimse]\nunknown_callers = \"refuse\"\ncallers = [{ ae_title = \"RAW\", address = \"192.0.2.1\" }]\n",
    );
    let answer = Peer::connect(node.dimse).ask(&[(CT, EXPLICIT)]);
    let Some(Pdu::AssociationRJ(AssociationRJ { source, .. })) = answer else { panic!("{answer:?}") };
    let unknown = AssociationRJServiceUserReason::CallingAETitleNotRecognized;
    assert_eq!(source, AssociationRJSource::ServiceUser(unknown), "the peer is told nothing of the list");
    eventually("it is told", || node.audited("association-rejected").len() == 1);
    let row = &node.audited("association-rejected")[0];
    let says = "the calling AE title may only call from its address in dimse.callers, from 127.0.0.1";
    assert_eq!((&row["who"], &row["detail"]), (&"RAW".into(), &says.into()), "{row}");
    eventually("the log tells", || node.log().contains("may only call from its address"));
}

#[test]
fn a_full_disk_is_told_at_the_start_and_twice_for_an_association() {
    let node = Node::start("[node]\ndisk_free_min_mib = 1073741824\n");
    eventually("the start tells", || node.log().contains("less than node.disk_free_min_mib = 1073741824"));
    let mut peer = associate(&node);
    for _ in 0..3 {
        let (status, comment) = peer.store(1, CT, SLICE, &slice());
        assert_eq!(status, 0xA700, "{comment}");
    }
    assert!(peer.release());
    eventually("the number is told", || node.log().contains("instances refused on this association"));
    let log = node.log();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains("WARN association{")).collect();
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned[0].contains("instance refused: the disk has less than node.disk_free_min_mib"), "{warned:?}");
    assert!(warned[1].contains("reason=\"out-of-space\" instances=3"), "{warned:?}");
    kept_nothing(&node);
}

#[test]
fn a_flood_of_rejected_associations_is_two_rows_of_the_audit_log() {
    let mut node = Node::start("[dimse]\nunknown_callers = \"refuse\"\n");
    for _ in 0..50 {
        assert!(matches!(Peer::connect(node.dimse).ask(&[(CT, EXPLICIT)]), Some(Pdu::AssociationRJ(_))));
    }
    eventually("the first is told at once", || node.audited("association-rejected").len() == 1);
    let first = &node.audited("association-rejected")[0];
    assert_eq!(first["who"], "RAW");
    let detail = first["detail"].as_str().expect("text");
    assert!(detail.contains("calling AE title") && detail.ends_with("from 127.0.0.1"), "{first}");
    assert!(node.stop(), "{}", node.log());
    let rows = node.audited("association-rejected");
    let details: Vec<_> = rows.iter().map(|row| row["detail"].as_str().expect("text")).collect();
    assert_eq!(details.len(), 2, "{details:?}");
    assert!(details[1].starts_with("49 more within "), "{details:?}");
}

#[test]
fn a_pdu_that_declares_4_gib_ends_the_association() {
    let node = Node::start("");
    let mut peer = associate(&node);
    peer.send_bytes(&[4, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert!(matches!(peer.read(), Some(Pdu::AbortRQ { .. })));
    let mut first = Peer::connect(node.dimse);
    first.send_bytes(&[1, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert!(matches!(first.read(), Some(Pdu::AbortRQ { .. })));
    eventually("the log names the limit", || node.log().contains("dimse.pdu_max_bytes = 131072"));
    still_serves(&node);
}

#[test]
fn one_association_too_many_is_told_so() {
    let node = Node::start("[dimse]\nassociations_max = 2\n");
    let peers = [associate(&node), associate(&node)];
    let answer = Peer::connect(node.dimse).ask(&[(CT, EXPLICIT)]);
    let Some(Pdu::AssociationRJ(AssociationRJ { result, source })) = answer else { panic!("{answer:?}") };
    assert_eq!(result, AssociationRJResult::Transient);
    assert!(matches!(source, AssociationRJSource::ServiceProviderPresentation(_)), "{source:?}");
    assert!(peers.into_iter().all(Peer::release));
    eventually("there is room again", || {
        matches!(Peer::connect(node.dimse).ask(&[(CT, EXPLICIT)]), Some(Pdu::AssociationAC(_)))
    });
}

#[test]
fn who_only_connects_takes_no_place_of_an_association() {
    let node = Node::start("[dimse]\nassociations_max = 1\n");
    let _silent: Vec<_> = (0..4).map(|_| Peer::connect(node.dimse)).collect();
    assert!(associate(&node).release());
}

#[test]
fn a_half_open_association_times_out() {
    let node = Node::start(&format!("{WEB}[dimse]\nassociate_timeout_ms = 200\nassociations_max = 1\n"));
    let mut silent = Peer::connect(node.dimse);
    let mut half = Peer::connect(node.dimse);
    half.send_bytes(&[1, 0, 0, 0, 1, 0, 0, 1]);
    for peer in [&mut silent, &mut half] {
        while peer.read().is_some() {}
    }
    eventually("the log names the limit", || node.log().contains("dimse.associate_timeout_ms = 200"));
    eventually("both are counted", || rejected(&node, "timeout") == 2);
    eventually("it is served", || {
        matches!(Peer::connect(node.dimse).ask(&[(CT, EXPLICIT)]), Some(Pdu::AssociationAC(_)))
    });
}

/// How many associations `/metrics` tells as rejected for this reason.
fn rejected(node: &Node, reason: &str) -> u64 {
    let line = format!("gantry_associations_rejected_total{{reason=\"{reason}\"}} ");
    let metrics = get(node, "/metrics").text();
    metrics.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |count| count.parse().expect("a number"))
}

#[test]
fn an_idle_and_a_stalled_association_time_out() {
    let node = Node::start("[dimse]\nidle_timeout_ms = 200\ndimse_timeout_ms = 200\n");
    let mut idle = associate(&node);
    assert!(matches!(idle.read(), Some(Pdu::AbortRQ { .. })));
    let mut stalled = associate(&node);
    stalled.store_command(1, CT, SLICE);
    stalled.piece(1, PDataValueType::Data, false, &slice()[..100]);
    assert!(matches!(stalled.read(), Some(Pdu::AbortRQ { .. })));
    for limit in ["dimse.idle_timeout_ms = 200", "dimse.dimse_timeout_ms = 200"] {
        eventually(limit, || node.log().contains(limit));
    }
    kept_nothing(&node);
}

#[test]
fn garbage_before_an_association_is_not_waited_for() {
    let node = Node::start("");
    let mut peer = Peer::connect(node.dimse);
    peer.send_bytes(b"G");
    assert!(matches!(peer.read(), Some(Pdu::AbortRQ { .. })));
    assert_eq!(peer.read(), None);
    let mut data_first = Peer::connect(node.dimse);
    data_first.send_bytes(&[4, 0, 0, 0, 0, 0]);
    assert!(matches!(data_first.read(), Some(Pdu::AbortRQ { .. })));
    still_serves(&node);
}

#[test]
fn a_presentation_context_that_was_never_offered_ends_the_association() {
    let node = Node::start("");
    let mut peer = associate(&node);
    peer.store_command(77, CT, SLICE);
    assert!(matches!(peer.read(), Some(Pdu::AbortRQ { .. })));
    let mut within = associate(&node);
    within.store_command(1, CT, SLICE);
    within.piece(3, PDataValueType::Data, true, &slice());
    assert!(matches!(within.read(), Some(Pdu::AbortRQ { .. })));
    kept_nothing(&node);
}

#[test]
fn command_and_data_set_that_disagree_are_refused() {
    let node = Node::start("");
    let mut peer = Peer::associate(node.dimse, &[(CT, EXPLICIT), (uids::MR_IMAGE_STORAGE, EXPLICIT)]);
    for (context, class, instance, attribute) in [
        (1, CT, "2.25.4711", "SOPInstanceUID (0008,0018)"),
        (3, uids::MR_IMAGE_STORAGE, SLICE, "SOPClassUID (0008,0016)"),
    ] {
        let (status, comment) = peer.store(context, class, instance, &slice());
        assert_eq!(status, 0xA900, "{comment}");
        assert!(comment.contains(attribute), "{comment}");
    }
    assert_eq!(peer.store(3, CT, SLICE, &slice()).0, 0x0122, "the class is not the context's");
    kept_nothing(&node);
    assert_eq!(node.files("quarantine").len(), 2);
    assert_eq!(peer.store(1, CT, SLICE, &slice()).0, 0, "the association goes on");
    assert!(peer.release());
}

#[test]
fn an_instance_uid_that_is_none_is_refused() {
    let node = Node::start("");
    let mut peer = associate(&node);
    for uid in ["../../etc/x", "", &"1".repeat(70), "1..2"] {
        assert_eq!(peer.store(1, CT, uid, &slice()).0, 0x0117, "{uid}");
    }
    kept_nothing(&node);
    assert_eq!(node.files("quarantine"), Vec::<PathBuf>::new());
    assert_eq!(peer.store(1, CT, SLICE, &slice()).0, 0, "the association goes on");
}

#[test]
fn a_data_set_cut_within_an_element_is_refused() {
    let node = Node::start("");
    let mut peer = associate(&node);
    let whole = slice();
    // 300 would be between two elements, and so whole.
    for bytes in [whole.len() - 100, 295, 3, 0] {
        let (status, comment) = peer.store(1, CT, SLICE, &whole[..bytes]);
        assert_eq!(status, 0xC000, "{bytes}: {comment}");
        assert!(!comment.is_empty() && comment.len() <= 64, "{comment}");
        assert!(!comment.to_lowercase().contains("secret"), "{comment}");
    }
    kept_nothing(&node);
    still_serves(&node);
}

#[test]
fn a_connection_cut_within_a_pdu_leaves_nothing() {
    let node = Node::start("");
    let mut peer = associate(&node);
    peer.store_command(1, CT, SLICE);
    peer.piece(1, PDataValueType::Data, false, &slice()[..300]);
    eventually("it has begun", || !node.files("incoming").is_empty());
    peer.send_bytes(&[4, 0, 0, 0, 0x10, 0, 0, 0, 0x0F]);
    peer.cut();
    kept_nothing(&node);
    still_serves(&node);
}

#[test]
fn a_hundred_thousand_nested_sequences_are_refused() {
    let node = Node::start("");
    let mut bytes = slice();
    bytes.truncate(bytes.len() - 512 - 12);
    for _ in 0..100_000 {
        bytes.extend([0x88, 0x00, 0x00, 0x02, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }
    let mut peer = associate(&node);
    let (status, comment) = peer.store(1, CT, SLICE, &bytes);
    assert_eq!(status, 0xC000, "{comment}");
    kept_nothing(&node);
    still_serves(&node);
}

/// What the peak of a node that holds no instance in memory stays below.
const PEAK_MIB: u64 = 100;
/// What the deflated pixel data below expand to.
const EXPANDED_BYTES: u32 = 1 << 30;

/// The first slice with pixel data of 1 GiB, deflated: 1 MiB.
fn deflated() -> Vec<u8> {
    let mut header = slice();
    header.truncate(header.len() - 512 - 12);
    header.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0]);
    header.extend(EXPANDED_BYTES.to_le_bytes());
    let mut deflate = Compress::new(Compression::best(), false);
    // Flushed, blocks end with a byte and refer to nothing before them: the same ones again and again.
    let mut flushed = |bytes: &[u8], flush| {
        let (before, mut out) = (deflate.total_in(), Vec::with_capacity(bytes.len() / 256 + 4096));
        deflate.compress_vec(bytes, &mut out, flush).expect("deflated");
        assert_eq!(deflate.total_in() - before, bytes.len() as u64, "all of it");
        out
    };
    let header = flushed(&header, FlushCompress::Full);
    let zeros = vec![0; 16 << 20];
    let zeros = flushed(&zeros, FlushCompress::Full).repeat(EXPANDED_BYTES as usize / zeros.len());
    let bytes = [header, zeros, flushed(&[], FlushCompress::Finish)].concat();
    assert!(bytes.len() < 5 << 18, "{}", bytes.len());
    bytes
}

#[test]
fn a_deflated_object_of_1_mib_that_expands_to_1_gib_is_kept_and_given_out_and_never_held() {
    let node = Node::start(WEB);
    let mut peer = Peer::associate(node.dimse, &[(CT, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)]);
    let (status, comment) = peer.store(1, CT, SLICE, &deflated());
    assert_eq!(status, 0, "{comment}");
    assert!(node.peak_mib() < PEAK_MIB, "{} MiB", node.peak_mib());

    // Without a transfer syntax in Accept, it is Explicit VR Little Endian.
    let mut stream = TcpStream::connect(web(&node)).expect("connected");
    stream.write_all(&question("GET", INSTANCE, "")).expect("asked");
    let (mut buffer, mut last, mut bytes) = (vec![0; 1 << 20], Vec::new(), 0);
    loop {
        let got = stream.read(&mut buffer).expect("it goes on");
        if got == 0 {
            break;
        }
        assert!(bytes > 0 || buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..got]));
        bytes += got as u64;
        last.extend_from_slice(&buffer[..got]);
        last.drain(..last.len().saturating_sub(64));
    }
    let end = String::from_utf8_lossy(&last);
    assert!(end.contains("--\r\n") && end.ends_with("\r\n0\r\n\r\n"), "{end}");
    // The header and what HTTP puts between pieces.
    assert!((1 << 30..(1 << 30) + (1 << 20)).contains(&bytes), "{bytes}");
    assert!(node.peak_mib() < PEAK_MIB, "{} MiB", node.peak_mib());
}

#[test]
fn a_deflated_object_that_expands_past_the_limit_is_refused_without_holding_it() {
    let node = Node::start("[limits]\nfile_max_mib = 512\n");
    let mut peer = Peer::associate(node.dimse, &[(CT, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)]);
    let (status, comment) = peer.store(1, CT, SLICE, &deflated());
    assert_eq!(status, 0xC000, "{comment}");
    kept_nothing(&node);
    assert!(node.peak_mib() < PEAK_MIB, "{} MiB", node.peak_mib());
    still_serves(&node);
}

#[test]
fn pixel_fragments_without_end_stop_at_the_limit() {
    let node = Node::start("[limits]\nfile_max_mib = 4\n");
    let jpeg = uids::JPEG2000_LOSSLESS;
    let mut peer = Peer::associate(node.dimse, &[(CT, jpeg)]);
    let mut bytes = slice();
    bytes.truncate(bytes.len() - 512 - 12);
    bytes.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
    for _ in 0..6000 {
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 4, 0, 0]);
        bytes.extend([0; 1024]);
    }
    let (status, comment) = peer.store(1, CT, SLICE, &bytes);
    assert_eq!((status, comment.as_str()), (0xA702, "more than limits.file_max_mib = 4"));
    // The same without an end: what is refused is not read for ever either.
    peer.store_command(1, CT, SLICE);
    let piece = [0; 100_000];
    for _ in 0..200 {
        peer.piece(1, PDataValueType::Data, false, &piece);
    }
    assert!(!matches!(peer.read(), Some(Pdu::PData { .. })));
    kept_nothing(&node);
    still_serves(&node);
}

#[test]
fn pixel_fragments_without_end_are_never_held() {
    let node = Node::start("[limits]\nfile_max_mib = 128\n");
    let mut peer = Peer::associate(node.dimse, &[(CT, uids::JPEG2000_LOSSLESS)]);
    let mut bytes = slice();
    bytes.truncate(bytes.len() - 512 - 12);
    bytes.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
    peer.store_command(1, CT, SLICE);
    peer.piece(1, PDataValueType::Data, false, &bytes);
    let fragment = [&[0xFE, 0xFF, 0x00, 0xE0][..], &100_000_u32.to_le_bytes(), &[0; 100_000]].concat();
    // As much again is read of what is refused.
    for _ in 0..2 * 1350 {
        peer.piece(1, PDataValueType::Data, false, &fragment);
    }
    assert!(matches!(peer.read(), Some(Pdu::AbortRQ { .. }) | None));
    eventually("the log names the limit", || {
        node.log().contains("a refused data set passes limits.file_max_mib = 128")
    });
    kept_nothing(&node);
    assert!(node.peak_mib() < PEAK_MIB, "{} MiB", node.peak_mib());
    still_serves(&node);
}

/// What a receiver that delays acknowledgements costs a sender with Nagle's algorithm, once for each write of a message after the
/// first; DCMTK's senders have two of those an image.
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// The fastest of three: the machine may be busy with something else.
fn fastest(mut work: impl FnMut()) -> Duration {
    let time = |_| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    (0..3).map(time).min().expect("three")
}

#[test]
fn a_sender_with_nagles_algorithm_is_acknowledged_at_once() {
    let node = Node::start("");
    let stream = TcpStream::connect(node.dimse).expect("connected");
    let same = stream.try_clone().expect("the same socket");
    let mut peer = Peer::on(stream);
    same.set_nodelay(false).expect("set");
    assert!(matches!(peer.ask(&[(uids::VERIFICATION, EXPLICIT)]), Some(Pdu::AssociationAC(_))));
    let number = |n: u16| n.to_le_bytes().to_vec();
    let fields =
        [(0x0002, padded(uids::VERIFICATION)), (0x0100, number(0x0030)), (0x0110, number(1)), (0x0800, number(0x0101))];
    let value = PDataValue {
        presentation_context_id: 1,
        value_type: PDataValueType::Command,
        is_last: true,
        data: command(&fields),
    };
    let mut echo = Vec::new();
    write_pdu(&mut echo, &Pdu::PData { data: vec![value] }).expect("writable");
    let echoes = 50;
    let took = fastest(|| {
        for _ in 0..echoes {
            // The second write waits for the acknowledgement of the first.
            peer.send_bytes(&echo[..6]);
            peer.send_bytes(&echo[6..]);
            assert_eq!(peer.status().0, 0);
        }
    });
    assert!(took < echoes * DELAYED_ACK / 2, "{took:?}");
}

#[test]
fn dcmsend_is_not_slowed_by_delayed_acknowledgements() {
    let node = Node::start("");
    let images = tempfile::tempdir().expect("a folder");
    for copy in 0..4 {
        let folder = images.path().join(copy.to_string());
        std::fs::create_dir(&folder).expect("made");
        write_ct(&folder).expect("written");
        for (z, file) in files(&folder).iter().enumerate() {
            let mut object = dicom_object::open_file(file).expect("readable").into_inner();
            object.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("2.25.5{copy}{z}"));
            let meta = FileMetaTableBuilder::new().transfer_syntax(EXPLICIT);
            object.with_meta(meta).expect("its meta information").write_to_file(file).expect("written");
        }
    }
    let mut sent = Vec::new();
    let took = fastest(|| sent.push(dcmtk("dcmsend", &node, &["+sd", "+r"], &[images.path()])));
    if sent[0].is_none() {
        return;
    }
    assert!(sent.iter().flatten().all(|said| said.code == Some(0)), "{sent:?}");
    assert_eq!(node.files("instances").len(), 40);
    assert!(took < 40 * 2 * DELAYED_ACK / 2, "{took:?}");
}

#[test]
fn a_silent_connection_delays_nobody() {
    let node = Node::start("");
    let _silent = Peer::connect(node.dimse);
    let _half = {
        let mut peer = associate(&node);
        peer.store_command(1, CT, SLICE);
        peer
    };
    let begun = Instant::now();
    still_serves(&node);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn two_patients_under_one_study_are_told_apart() {
    let node = Node::start("");
    let mut peer = associate(&node);
    assert_eq!(peer.store(1, CT, SLICE, &slice()).0, 0);
    for (tag, vr, value) in [(tags::PATIENT_ID, VR::LO, "OTHER"), (tags::PATIENT_SEX, VR::CS, "F")] {
        let first = changed(|object| {
            object.put_str(tags::SOP_INSTANCE_UID, VR::UI, "2.25.600");
            object.put_str(tags::PATIENT_SEX, VR::CS, "M");
        });
        peer.store(1, CT, "2.25.600", &first);
        let other = changed(|object| {
            object.put_str(tags::SOP_INSTANCE_UID, VR::UI, "2.25.601");
            object.put_str(tag, vr, value);
        });
        let (status, comment) = peer.store(1, CT, "2.25.601", &other);
        assert_eq!(status, 0xC001, "{comment}");
        assert!(!comment.contains("OTHER") && !comment.contains("SECRET"), "{comment}");
    }
    assert!(node.instance("2.25.601").is_none());
    assert_eq!(node.files("quarantine").len(), 2);
}

#[test]
fn same_bytes_change_nothing_and_other_bytes_follow_the_policy() {
    let other = changed(|object| drop(object.put_str(tags::SLICE_THICKNESS, VR::DS, "3")));
    for (policy, status) in [("refuse", 0x0111), ("replace", 0)] {
        let node = Node::start(&format!("[node]\nduplicates = \"{policy}\"\n"));
        let mut peer = associate(&node);
        for _ in 0..2 {
            assert_eq!(peer.store(1, CT, SLICE, &slice()).0, 0);
        }
        let first = node.instance(SLICE).expect("kept");
        assert_eq!(node.files("instances").len(), 1);
        assert_eq!(peer.store(1, CT, SLICE, &other).0, status, "{policy}");
        let kept = node.data().join(node.instance(SLICE).expect("kept").path);
        let expected = if status == 0 { &other } else { &slice() };
        assert_eq!(&data_set(&kept), expected, "{policy}");
        assert_eq!(node.instance(SLICE).expect("kept").sha256 == first.sha256, status != 0);
    }
}

/// An N-ACTION that asks for the commitment of instances, in explicit VR little endian.
fn ask_for_commitment(peer: &mut Peer, context: u8, instances: &[(&str, &str)]) {
    let number = |n: u16| n.to_le_bytes().to_vec();
    let request = command(&[
        (0x0003, padded(uids::STORAGE_COMMITMENT_PUSH_MODEL)),
        (0x0100, number(0x0130)),
        (0x0110, number(9)),
        (0x0800, number(0)),
        (0x1001, padded(uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE)),
        (0x1008, number(1)),
    ]);
    let uid = |group: u16, element: u16, uid: &str| {
        let value = padded(uid);
        let mut bytes = [group.to_le_bytes(), element.to_le_bytes(), *b"UI"].concat();
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value);
        bytes
    };
    let mut data = uid(0x0008, 0x1195, "2.25.777");
    data.extend([0x08, 0x00, 0x99, 0x11, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    for (class, instance) in instances {
        let item = [uid(0x0008, 0x1150, class), uid(0x0008, 0x1155, instance)].concat();
        data.extend([0xFE, 0xFF, 0x00, 0xE0]);
        data.extend((item.len() as u32).to_le_bytes());
        data.extend(item);
    }
    data.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    peer.piece(context, PDataValueType::Command, true, &request);
    peer.data(context, &data);
}

#[test]
fn storage_commitment_is_answered_from_the_journal() {
    let node = Node::start("");
    let commitment = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let mut peer = Peer::associate(node.dimse, &[(CT, EXPLICIT), (commitment, EXPLICIT)]);
    assert_eq!(peer.store(1, CT, SLICE, &slice()).0, 0);
    ask_for_commitment(&mut peer, 3, &[(CT, SLICE), (CT, "2.25.404"), (uids::MR_IMAGE_STORAGE, SLICE)]);
    assert_eq!(peer.status().0, 0);
    let Some(Pdu::PData { data }) = peer.read() else { panic!("no N-EVENT-REPORT") };
    let event = element(&data[0].data, 0x1002).expect("an event type");
    assert_eq!(event, [2, 0], "failures exist");
    let Some(Pdu::PData { data }) = peer.read() else { panic!("no data set") };
    let has = |bytes: &[u8]| data[0].data.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"2.25.777") && has(b"2.25.404"));
    for reason in [[0x12, 0x01], [0x19, 0x01]] {
        assert!(has(&[&[0x08, 0x00, 0x97, 0x11, b'U', b'S', 2, 0][..], &reason].concat()), "{reason:?}");
    }
    event_taken(&mut peer, 3);
    assert!(peer.release());
    let rows = node.audited("instances-committed");
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&row["who"], &row["study_instance_uid"]), (&"RAW".into(), &"2.25.2".into()), "{row}");
    assert_eq!((&row["object"], &row["detail"]), (&"2.25.777".into(), &"1 instances promised of 3 asked for".into()));
}

#[test]
fn nothing_is_promised_whose_file_is_gone_or_cut() {
    let node = Node::start("");
    let mut peer = Peer::associate(node.dimse, &[(CT, EXPLICIT), (uids::STORAGE_COMMITMENT_PUSH_MODEL, EXPLICIT)]);
    let (ct, [whole, gone, cut]) = (ct(), [SLICE, "2.25.11", "2.25.12"]);
    for (slice, file) in [whole, gone, cut].into_iter().zip(files(ct.path())) {
        assert_eq!(peer.store(1, CT, slice, &data_set(&file)).0, 0, "{slice}");
    }
    let kept = |slice: &str| node.data().join(node.instance(slice).expect("journalled").path);
    std::fs::remove_file(kept(gone)).expect("removed");
    std::fs::write(kept(cut), "cut").expect("written");
    ask_for_commitment(&mut peer, 3, &[(CT, whole), (CT, gone), (CT, cut)]);
    assert_eq!(peer.status().0, 0);
    let Some(Pdu::PData { data }) = peer.read() else { panic!("no N-EVENT-REPORT") };
    assert_eq!(element(&data[0].data, 0x1002).expect("an event type"), [2, 0], "failures exist");
    let Some(Pdu::PData { data }) = peer.read() else { panic!("no data set") };
    // Failed SOP Sequence (0008,1198) comes before Referenced SOP Sequence (0008,1199).
    let promised = data[0].data.windows(6).position(|window| window == b"\x08\x00\x99\x11SQ").expect("promised");
    let (failed, promised) = data[0].data.split_at(promised);
    for (slice, is_promised) in [(whole, true), (gone, false), (cut, false)] {
        let within = |bytes: &[u8]| bytes.windows(slice.len()).any(|window| window == slice.as_bytes());
        assert_eq!((within(failed), within(promised)), (!is_promised, is_promised), "{slice}");
    }
    let no_such_instance = [0x08, 0x00, 0x97, 0x11, b'U', b'S', 2, 0, 0x12, 0x01];
    assert_eq!(failed.windows(10).filter(|window| *window == no_such_instance).count(), 2);
    event_taken(&mut peer, 3);
    assert!(peer.release());
    assert_eq!(node.audited("instances-committed")[0]["detail"], "1 instances promised of 3 asked for");
}

/// Takes one N-EVENT-REPORT on an association that the node asks for; whether it came whole.
fn take_report(listener: &TcpListener) -> bool {
    let mut peer = Peer::on(listener.accept().expect("a connection").0);
    let Some(request) = peer.accept(uids::IMPLICIT_VR_LITTLE_ENDIAN) else { return false };
    assert_eq!((request.calling_ae_title.as_str(), request.called_ae_title.as_str()), (NODE_TITLE, "RAW"));
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL.to_owned();
    let role = UserVariableItem::ScuScpRoleSelectionSubItem(class, RequestorRoles { scu: false, scp: true });
    assert!(request.user_variables.contains(&role), "{:?}", request.user_variables);
    let Some(Pdu::PData { data }) = peer.read() else { return false };
    assert_eq!(element(&data[0].data, 0x1002).expect("an event type"), [1, 0], "all are committed");
    let Some(Pdu::PData { data }) = peer.read() else { return false };
    assert!(data[0].data.windows(8).any(|window| window == b"2.25.777"));
    event_taken(&mut peer, 1);
    assert_eq!(peer.read(), Some(Pdu::ReleaseRQ));
    peer.send(&Pdu::ReleaseRP);
    true
}

fn event_taken(peer: &mut Peer, context: u8) {
    let number = |n: u16| n.to_le_bytes().to_vec();
    let answer =
        command(&[(0x0100, number(0x8100)), (0x0120, number(1)), (0x0800, number(0x0101)), (0x0900, number(0))]);
    peer.piece(context, PDataValueType::Command, true, &answer);
}

#[test]
fn a_result_that_was_not_taken_comes_on_an_association_of_its_own_also_after_a_restart() {
    let place = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let config =
        format!("[dimse]\ncommitment_retry_ms = 50\ncallers = [{{ ae_title = \"RAW\", port = {} }}]\n", place.port());
    let mut node = Node::start(&config);
    let mut peer = Peer::associate(node.dimse, &[(CT, EXPLICIT), (uids::STORAGE_COMMITMENT_PUSH_MODEL, EXPLICIT)]);
    assert_eq!(peer.store(1, CT, SLICE, &slice()).0, 0);
    ask_for_commitment(&mut peer, 3, &[(CT, SLICE)]);
    assert_eq!(peer.status().0, 0);
    peer.cut();
    eventually("it was tried", || node.log().contains("sent again later"));
    node.kill();
    let listener = TcpListener::bind(place).expect("the port is free still");
    let node = node.again(&config);
    while !take_report(&listener) {}
    drop(node);
}

#[test]
fn a_peer_that_means_no_good_gets_the_result_later_or_never_and_harms_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let node = Node::start(&format!(
        "[dimse]\ncommitment_retry_ms = 10\ndimse_timeout_ms = 2000\ncallers = [{{ ae_title = \"RAW\", port = {port} }}]\n"
    ));
    let mut peer = Peer::associate(node.dimse, &[(CT, EXPLICIT), (uids::STORAGE_COMMITMENT_PUSH_MODEL, EXPLICIT)]);
    assert_eq!(peer.store(1, CT, SLICE, &slice()).0, 0);
    ask_for_commitment(&mut peer, 3, &[(CT, SLICE)]);
    assert_eq!(peer.status().0, 0);
    peer.cut();
    let accept = || Peer::on(listener.accept().expect("a connection").0);
    let told = |why: &str| eventually(why, || node.log().contains(why));

    let mut nonsense = accept();
    nonsense.send_bytes(b"220 smtp.example ready\r\n");
    told("sent again later: what came first is no A-ASSOCIATE: PDU type 0x32");
    let mut large = accept();
    large.accept(uids::IMPLICIT_VR_LITTLE_ENDIAN).expect("a request");
    large.send_bytes(&[4, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    told("sent again later: a PDU of type 0x04 says it has 4294967295 bytes, more than dimse.pdu_max_bytes = 131072");
    let mut other = accept();
    other.accept("1.2.840.10008.1.2.2").expect("a request");
    told("sent again later: the peer chose a transfer syntax that was not offered");
    let mut silent = accept();
    silent.accept(uids::IMPLICIT_VR_LITTLE_ENDIAN).expect("a request");
    told("sent again later: the peer was silent longer than dimse.dimse_timeout_ms = 2000");
    still_serves(&node);
    while !take_report(&listener) {}
}

#[test]
fn orthanc_takes_the_result_of_storage_commitment_over_tls() {
    let (folder, ct) = (tempfile::tempdir().expect("a folder"), ct());
    let paths = certificates(folder.path());
    let Some(orthanc) = Orthanc::start_with(&orthanc_tls(&paths)) else { return };
    let [root, server, server_key, client, client_key] = &paths;
    let port = orthanc.dicom().rsplit_once(':').expect("a port").1.to_owned();
    let node = Node::start(&format!(
        "[dimse]\ncommitment_retry_ms = 50\ncallers = [{{ ae_title = \"ORTHANC\", port = {port}, tls = {{ roots = {root:?}, \
         certificate = {client:?}, key = {client_key:?}, server_name = \"localhost\" }} }}]\n\
         [dimse.tls]\ncertificate = {server:?}\nkey = {server_key:?}\nclient_roots = {root:?}\n"
    ));
    let modality = serde_json::json!({
        "AET": NODE_TITLE, "Host": "127.0.0.1", "Port": node.dimse.port(), "UseDicomTls": true,
    });
    orthanc.rest("PUT", "/modalities/gantry", modality.to_string().as_bytes()).expect("a modality");
    files(ct.path()).iter().for_each(|file| orthanc.keep(file).expect("kept"));
    let series: Vec<String> =
        serde_json::from_str(&orthanc.rest("GET", "/series", b"").expect("series")).expect("a list");
    orthanc.rest("POST", "/modalities/gantry/store", series[0].as_bytes()).expect("sent");
    let resources = serde_json::json!({ "Resources": series });
    let asked = orthanc.rest("POST", "/modalities/gantry/storage-commitment", resources.to_string().as_bytes());
    let asked: serde_json::Value = serde_json::from_str(&asked.expect("asked")).expect("JSON");
    let path = asked["Path"].as_str().expect("a path");
    let state = || -> serde_json::Value {
        serde_json::from_str(&orthanc.rest("GET", path, b"").expect("a state")).expect("JSON")
    };
    eventually("Orthanc has the result", || state()["Status"] != "Pending");
    let state = state();
    assert_eq!((&state["Status"], state["Success"].as_array().map(Vec::len)), (&"Success".into(), Some(10)), "{state}");
}

/// What makes an Orthanc speak TLS, and ask for certificates.
pub(crate) fn orthanc_tls([root, server, server_key, ..]: &[PathBuf; 5]) -> serde_json::Value {
    serde_json::json!({
        "DicomTlsEnabled": true,
        "DicomTlsCertificate": server,
        "DicomTlsPrivateKey": server_key,
        "DicomTlsTrustedCertificates": root,
        "DicomTlsRemoteCertificateRequired": true,
    })
}

#[test]
fn what_is_no_operation_of_ours_is_said_so() {
    let node = Node::start("");
    let mut peer = associate(&node);
    let number = |n: u16| n.to_le_bytes().to_vec();
    let find =
        command(&[(0x0002, padded(CT)), (0x0100, number(0x0020)), (0x0110, number(1)), (0x0800, number(0x0101))]);
    peer.piece(1, PDataValueType::Command, true, &find);
    assert_eq!(peer.status().0, 0x0211);
    assert!(peer.release());
}

#[test]
fn a_node_that_stops_lets_go() {
    let mut node = Node::start("");
    let mut peer = associate(&node);
    assert_eq!(peer.store(1, CT, SLICE, &slice()).0, 0);
    assert!(node.stop(), "{}", node.log());
    assert!(matches!(peer.read(), Some(Pdu::AbortRQ { .. })));
}
