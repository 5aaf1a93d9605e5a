//! Components are compiled, and compressed frames decoded, in workers: what goes wrong there ends a process and nothing else. With
//! a worker that does it on command, and with `gantry worker`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use gantry::app::App;
use gantry::config::Config;
use gantry::geometry::Region;
use gantry::inference::Isolation;
use gantry::memory::Budget;
use gantry::pipeline::RunError;
use gantry::sandbox::grants::Policy;
use gantry::sandbox::{Origin, PrepareError};
use gantry::study::{self, ReadError, ReadOptions};
use gantry::worker::{Decoders, Program};
use gantry_tests::{MANIFEST, Scenario, asset};
use tempfile::TempDir;

use crate::dicomweb::{INSTANCE, MULTIPART, WEB, ask, get, post};

const OTHER: &str = "/dicom-web/studies/2.25.2/series/2.25.3/instances/2.25.11";

fn faulty() -> Isolation {
    Isolation::Program(Program { file: env!("CARGO_BIN_EXE_faulty-worker").into(), arguments: Vec::new() })
}

fn nothing() -> Isolation {
    Isolation::Program(Program { file: "/nonexistent/worker".into(), arguments: Vec::new() })
}

/// A scenario with a cache of its own.
fn uncached(mut scenario: Scenario, isolation: Isolation) -> (Scenario, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    scenario.config.cache.folder = Some(folder.path().to_owned());
    scenario.config.engines.isolation = isolation;
    (scenario, folder)
}

fn prepare(scenario: &Scenario) -> Result<Origin, PrepareError> {
    let app = App::start(scenario.config.clone()).expect("a sandbox starts");
    let package = std::sync::Arc::new(scenario.package().expect("a package"));
    let policy = Policy::new(&scenario.config.grants, &scenario.grants).expect("grants that exist");
    let (grants, _) = policy.grant(&package.manifest().needs);
    app.sandbox.prepare(package, grants).map(|prepared| prepared.origin())
}

#[test]
fn a_component_is_compiled_in_a_worker_and_only_there() {
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    let (mut scenario, _folder) = uncached(scenario, nothing());
    let error = prepare(&scenario).expect_err("nothing compiles it").to_string();
    assert!(error.contains("components cannot be compiled here: /nonexistent/worker"), "{error}");
    scenario.config.engines.isolation = gantry_tests::command::workers();
    assert_eq!(prepare(&scenario).expect("compiled"), Origin::Compiled);
    scenario.config.engines.isolation = nothing();
    assert_eq!(prepare(&scenario).expect("as compiled before"), Origin::Cached);
}

/// The component of a guest, with a section that nobody looks at but the faulty worker.
fn told(what: &str) -> Option<Scenario> {
    let scenario = Scenario::rogue("well-behaved")?;
    let component = std::fs::read(scenario.package_folder().join("component.wasm")).expect("readable");
    let text = format!("faulty:{what}.");
    let length = |n: usize| u8::try_from(n).expect("short");
    let section = [&[0, length(text.len() + 2), 1, b'x'], text.as_bytes()].concat();
    Some(Scenario::new(&[component, section].concat(), MANIFEST).expect("a scenario"))
}

#[test]
fn what_ends_the_compiler_is_an_error_of_its_component() {
    for (what, expected) in [
        ("abort", "the process was ended by SIGABRT"),
        (
            "allocate",
            "the process was ended by SIGABRT (memory allocation of 16777216 bytes failed); it crashed the compiler, or takes more memory than compile_memory_mib = 512",
        ),
        ("panic", "the process ended with exit status 101"),
        ("garbage", "the process broke the protocol"),
        ("read", "the process ended with exit status 1;"),
        ("hang", "was not compiled within compile_deadline_ms = 400"),
        ("spin", "was not compiled within compile_deadline_ms = 400"),
        ("nonsense", "is not a WebAssembly component that this runtime can load"),
    ] {
        let Some(scenario) = told(what) else { return };
        let (mut scenario, _folder) = uncached(scenario, faulty());
        scenario.config.limits.compile_memory_mib = 512;
        if expected.contains("400") {
            scenario.config.limits.compile_deadline_ms = 400;
        }
        let since = Instant::now();
        let error = scenario.refused();
        assert!(matches!(error, RunError::Prepare(_)) && error.to_string().contains(expected), "{what}: {error}");
        assert!(since.elapsed() < Duration::from_secs(10), "{what} took {:?}", since.elapsed());
    }
    let Some(scenario) = told("nothing") else { return };
    let (scenario, _folder) = uncached(scenario, faulty());
    scenario.run().expect("the next one is compiled, and runs");
}

/// How files are read where frames are decoded in workers.
fn options(isolation: Isolation, change: impl FnOnce(&mut Config)) -> ReadOptions {
    let mut config = Config::default();
    config.engines.isolation = isolation;
    config.engines.decode_in_worker = true;
    change(&mut config);
    ReadOptions { decoders: Decoders::new(&config).expect("a program"), ..ReadOptions::default() }
}

/// All frames of a file, uncompressed.
fn frames(path: &Path, options: &ReadOptions) -> Result<Vec<Vec<u8>>, ReadError> {
    let kept = study::keep(path, options)?;
    (1..=kept.frames()?).map(|number| kept.frame(number, options)?.expect("a frame").native()).collect()
}

/// The voxels of a file that is a volume.
fn voxels(path: &Path, options: &ReadOptions) -> Result<Vec<f32>, ReadError> {
    let study = study::read(&[path.to_owned()], options)?;
    let volume = study.series[0].decode(0, &Budget::unlimited(), options)?.volume;
    let size = volume.geometry().size();
    Ok(volume.read(Region { start: [0; 3], size }).expect("all of it"))
}

#[test]
fn frames_that_workers_decode_are_those_that_this_process_does() {
    let (there, here) = (options(gantry_tests::command::workers(), |_| {}), ReadOptions::default());
    for (name, is_volume) in [
        ("pydicom/test_files/MR_small_RLE.dcm", true),
        ("pydicom/test_files/SC_rgb_rle_2frame.dcm", false),
        ("pydicom/test_files/SC_rgb_rle_16bit.dcm", false),
        ("pydicom/test_files/SC_rgb_jpeg_gdcm.dcm", false),
        ("pydicom/test_files/SC_rgb_dcmtk_+eb+cy+s2.dcm", false),
        ("pydicom-data/JPGLosslessP14SV1_1s_1f_8b.dcm", false),
        ("pydicom/test_files/MR_small_jp2klossless.dcm", true),
        ("pydicom-data/693_J2KR.dcm", true),
        ("pydicom-data/MR2_J2KI.dcm", true),
        ("pydicom-data/US1_J2KR.dcm", false),
        ("pydicom-data/emri_small_jpeg_2k_lossless.dcm", false),
    ] {
        let Some(path) = asset(name) else { return };
        let decoded = frames(&path, &there).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(decoded == frames(&path, &here).expect("decoded"), "{name}");
        if is_volume {
            let decoded = voxels(&path, &there).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(decoded == voxels(&path, &here).expect("decoded"), "{name}");
        }
        let nowhere = options(nothing(), |_| {});
        let error = frames(&path, &nowhere).expect_err("nothing decodes it");
        assert!(matches!(error, ReadError::Decoder { .. }), "{error}");
    }
    // What is not compressed needs no worker.
    let Some(path) = asset("pydicom/test_files/MR_small.dcm") else { return };
    frames(&path, &options(nothing(), |_| {})).expect("read");
}

/// RLE (PS3.5 annex G) of 16-bit pixels, and more that no decoder needs.
fn rle(voxels: &[u16], more: &[u8]) -> Vec<u8> {
    let plane = |byte: fn(&u16) -> u8| -> Vec<u8> {
        let bytes: Vec<u8> = voxels.iter().map(byte).collect();
        bytes.chunks(128).flat_map(|run| [&[u8::try_from(run.len() - 1).expect("128 at most")], run].concat()).collect()
    };
    let (high, low) = (plane(|v| v.to_be_bytes()[0]), plane(|v| v.to_be_bytes()[1]));
    let second = u32::try_from(64 + high.len()).expect("short");
    let header = [[2, 64, second].map(u32::to_le_bytes).concat(), vec![0; 52]].concat();
    let mut fragment = [&header, &high, &low, more].concat();
    fragment.resize(fragment.len().next_multiple_of(2), 0);
    fragment
}

fn encapsulated(object: &mut InMemDicomObject, fragment: Vec<u8>) {
    let sequence = PixelFragmentSequence::new_fragments(vec![fragment]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(sequence)));
}

/// Writes a file anew as RLE, changed first.
fn recode(path: &Path, change: impl FnOnce(&mut InMemDicomObject)) {
    let mut object = dicom_object::open_file(path).expect("a file").into_inner();
    change(&mut object);
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::RLE_LOSSLESS);
    object.with_meta(meta).expect("its meta information").write_to_file(path).expect("written");
}

/// Makes RLE of a file's pixels, and tells the faulty worker something.
fn compress(path: &Path, what: &str) {
    recode(path, |object| {
        let voxels = object.element(tags::PIXEL_DATA).expect("pixels").to_multi_int::<u16>().expect("of 16 bits");
        encapsulated(object, rle(&voxels, format!("faulty:{what}.").as_bytes()));
    });
}

/// Makes of a file an image of 128 MiB, in some kB of RLE.
fn enlarge(path: &Path) {
    recode(path, |object| {
        for (tag, size) in [(tags::ROWS, 16384u16), (tags::COLUMNS, 4096)] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(size)));
        }
        let plane = [129, 7].repeat((16384 * 4096) / 128);
        let second = u32::try_from(64 + plane.len()).expect("short");
        let header = [[2, 64, second].map(u32::to_le_bytes).concat(), vec![0; 52]].concat();
        encapsulated(object, [&header[..], &plane, &plane].concat());
    });
}

/// The slices of the small CT.
fn slices() -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    gantry_tests::write_ct(folder.path()).expect("written");
    let files = (0..10).map(|z| folder.path().join(format!("{z}.dcm"))).collect();
    (folder, files)
}

#[test]
fn what_ends_a_decoder_is_an_error_of_its_file_and_the_next_is_decoded() {
    let (_folder, files) = slices();
    let original = frames(&files[0], &ReadOptions::default()).expect("read");
    for (what, expected) in [
        (
            "abort",
            "damaged: decoding its image ended the worker: the process was ended by SIGABRT; it crashed, or takes more memory than decode_memory_mib = 256",
        ),
        ("allocate", "the process was ended by SIGABRT"),
        ("recurse", "the process was ended by SIG"),
        ("exit", "the process ended with exit status 7"),
        ("garbage", "the process broke the protocol"),
        ("twice", "the process answered what was not asked"),
        ("connect", "the process ended with exit status 1;"),
        ("short", "the process gave pixels of another size"),
        ("hang", "the time to decode its image would pass decode_deadline_ms = 400"),
    ] {
        compress_again(&files[0], what);
        compress_again(&files[1], "nothing");
        let options = options(faulty(), |config| {
            config.limits.decode_memory_mib = 256;
            config.limits.decode_deadline_ms = if what == "hang" { 400 } else { 20_000 };
        });
        // In a new worker, in one that is there, and in those that come after.
        for _ in 0..2 {
            let since = Instant::now();
            let error = frames(&files[0], &options).expect_err(what);
            assert!(error.to_string().contains(expected) && error.to_string().contains("0.dcm"), "{what}: {error}");
            assert_eq!(error.is_limit(), what == "hang");
            assert!(since.elapsed() < Duration::from_secs(10), "{what} took {:?}", since.elapsed());
            assert_eq!(frames(&files[1], &options).expect("the next one"), original, "{what}");
        }
    }
}

/// As [`compress`], of a file that may be RLE already: all slices at the end of the small CT are air.
fn compress_again(path: &Path, what: &str) {
    recode(path, |object| encapsulated(object, rle(&[24; 256], format!("faulty:{what}.").as_bytes())));
}

#[test]
fn a_run_decodes_in_workers_where_the_site_chose_that() {
    let Some(mut scenario) = Scenario::rogue("well-behaved") else { return };
    let plain = scenario.command_says(&["--json"]);
    let outputs = |said: &gantry_tests::command::Said| {
        let result: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        result["findings"].clone()
    };
    for z in 0..10 {
        compress(&scenario.study().join(format!("{z}.dcm")), "nothing");
    }
    scenario.config.engines.decode_in_worker = true;
    scenario.config.limits.decode_memory_mib = 64;
    let said = scenario.command_says(&["--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(outputs(&said) == outputs(&plain) && !outputs(&said).is_null(), "{said:?}");

    // Room for this is in this process, and not in the worker.
    for z in 0..10 {
        enlarge(&scenario.study().join(format!("{z}.dcm")));
    }
    std::fs::remove_dir_all(scenario.out()).expect("removed");
    let said = scenario.command_says(&[]);
    let expected = [
        "the process was ended by SIGABRT (memory allocation of ",
        " bytes failed); it crashed, or takes more memory than decode_memory_mib = 64",
    ];
    assert!(said.code == Some(3) && expected.iter().all(|text| said.err.contains(text)), "{said:?}");
}

#[test]
fn frames_and_pictures_for_clients_are_decoded_in_workers_where_the_site_chose_that() {
    let (_folder, files) = slices();
    compress(&files[0], "nothing");
    enlarge(&files[1]);
    let node = gantry_tests::node::Node::start(&format!(
        "{WEB}\nrendered_pixels_max = 100000000\n[engines]\ndecode_in_worker = true\n[limits]\ndecode_memory_mib = 64\n"
    ));
    let part = |file: &PathBuf| {
        let bytes = std::fs::read(file).expect("readable");
        [b"--b\r\nContent-Type: application/dicom\r\n\r\n", &bytes[..], b"\r\n"].concat()
    };
    let body = [part(&files[0]), part(&files[1]), b"--b--\r\n".to_vec()].concat();
    let reply = post(&node, "/dicom-web/studies", MULTIPART, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let accept = "Accept: multipart/related; type=\"application/octet-stream\"\r\n";
    for what in ["rendered", "frames/1"] {
        let reply = ask(&node, "GET", &format!("{INSTANCE}/{what}"), if what == "frames/1" { accept } else { "" });
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        let reply = ask(&node, "GET", &format!("{OTHER}/{what}"), if what == "frames/1" { accept } else { "" });
        assert!(reply.status == 406 && reply.text().contains("decode_memory_mib = 64"), "{what}: {}", reply.text());
    }
    let whole = get(&node, INSTANCE);
    assert_eq!(whole.status, 200, "{}", whole.head);
    // What only decoding shows ends the connection.
    let cut = get(&node, OTHER);
    assert!(cut.body.len() < 1 << 20, "{} bytes", cut.body.len());
}
