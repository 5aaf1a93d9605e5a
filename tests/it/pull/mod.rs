//! Modules go from their vendor to a hospital through a bucket: whole, signed, beside the version that runs, or not at all.

mod tampered;
mod vendor;

use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use gantry_tests::asset;
use gantry_tests::command::{Said, gantry};
use gantry_tests::node::{Node, eventually};
use serde_json::Value;

use self::vendor::{BUCKET, NAME, Vendor, change, read, seen, text, tree};
use crate::node::{json, send_ct, site};

#[test]
fn a_module_of_ours_goes_by_way_of_a_bucket_and_both_versions_run_on_a_real_study() {
    let Some(study) = asset("totalsegmentator/example_ct_dicom") else { return };
    let Some(vendor) = Vendor::start() else { return };
    let into = vendor.path("modules");
    let mut results = Vec::new();
    for version in ["7.0.0", "7.1.0-rc.1"] {
        let Some(package) = vendor.organs(version) else { return };
        let first = vendor.sign(&package);
        let again = vendor.sign(&package);
        assert!(
            first.contains(": 7 files, signed by key ") && again.contains(", was signed by key "),
            "{first}{again}"
        );
        let (at, said) = vendor.push(&package);
        assert_eq!(at, format!("{BUCKET}/ct-organs/{version}"), "{said:?}");
        assert!(said.out.contains("8 files sent, 0 were there"), "{said:?}");
        assert!(vendor.push(&package).1.out.contains("0 files sent, 8 were there"), "the same again is the same");
        // Plain files: anybody's tool reads them.
        assert_eq!(
            vendor.s5cmd(&["cat", &format!("{at}/module.toml")]).into_bytes(),
            read(&package.join("module.toml"))
        );

        let pulled = vendor.pulled(&at, &into, &[]);
        let folder = PathBuf::from(pulled["folder"].as_str().expect("a path"));
        assert_eq!(tree(&folder), tree(&package), "as it was signed");
        assert_eq!((&pulled["installed"], &pulled["name"]), (&true.into(), &"ct-organs".into()));
        assert!(pulled["models"][0]["engine"].is_string(), "its model was loaded before anybody can run it: {pulled}");
        assert_eq!(vendor.pulled(&at, &into, &[])["installed"], false, "it is there");
        let lines = pulled["configuration"].as_str().expect("text");
        let config: gantry::config::Config = toml::from_str(lines).expect("lines of a configuration");
        assert_eq!(config.modules[0].package, folder);
        assert_eq!(config.modules[0].release, gantry::config::Release::Shadow);

        let out = vendor.path(&format!("out-{version}"));
        let ran: Said = gantry()
            .arg("run")
            .arg("--module")
            .arg(&folder)
            .arg(&study)
            .arg("--out")
            .arg(&out)
            .output()
            .expect("gantry runs")
            .into();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let result: Value = serde_json::from_slice(&read(&out.join("result.json"))).expect("JSON");
        assert_eq!(result["module"]["identity_sha256"], pulled["sha256"]);
        results.push(result["findings"]["segments"].clone());
    }
    assert_eq!(seen(&into).len(), 2, "one beside the other: {:?}", seen(&into));
    assert_eq!(results[0], results[1], "the same model");

    // A page tells vendors to make keys so.
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(vendor.path("vendor.pem"))
        .output();
    if made.is_ok_and(|output| output.status.success()) {
        let other = vendor.sign(&vendor.path("organs-7.0.0"));
        assert!(other.contains(", signed by key "), "{other}");
    }
}

#[test]
fn a_node_that_runs_runs_what_it_ran() {
    let Some(vendor) = Vendor::start() else { return };
    let into = vendor.path("modules");
    let Some(old) = vendor.package("old", "0.1.0") else { return };
    let Some(new) = vendor.package("new", "0.2.0") else { return };
    let first = vendor.pulled(&vendor.publish(&old), &into, &[]);
    let source = format!(
        "[[module_sources]]\nurl = \"{BUCKET}\"\ntrust = [{:?}]\ns3 = {{ endpoint_url = {:?}, path_style = true }}\n",
        vendor.path("vendor.pub.pem"),
        vendor.url
    );
    let configuration = site(Path::new(first["folder"].as_str().expect("a path")), &source);
    let mut node = Node::start(&configuration);
    let at = vendor.publish(&new);
    let said = vendor.says(&["pull", &at, "--into", text(&into), "--config", text(&node.config()), "--json"]);
    let second = json(&said);
    assert_eq!(second["installed"], true);
    let audited = node.audited("module-installed");
    assert_eq!(audited.len(), 1, "{audited:?}");
    assert_eq!(audited[0]["object"], "rogue 0.2.0");
    let digest = second["sha256"].as_str().expect("a digest");
    assert!(
        audited[0]["digests"].to_string().contains(digest) && audited[0]["detail"].to_string().contains(&at),
        "{audited:?}"
    );

    send_ct(&node);
    eventually("the job is done", || {
        let list = json(&node.says(&["job", "list", "--state", "done", "--json"]));
        list["jobs"].as_array().is_some_and(|jobs| jobs.len() == 1)
    });
    let result = node.files("results").into_iter().find(|file| file.ends_with("result.json")).expect("a result");
    let result: Value = serde_json::from_slice(&read(&result)).expect("JSON");
    assert_eq!(result["module"]["identity_sha256"], first["sha256"], "it does not notice");
    assert!(node.stop());
    let node = node.again(&(configuration + second["configuration"].as_str().expect("lines")));
    // A study that came before is not run on again by itself.
    let list = json(&node.says(&["route", "explain", "2.25.2", "--json"])).to_string();
    assert!(list.contains("rogue-0-2-0"), "{list}");

    // What is refused is in the log, too.
    let said = vendor.says(&[
        "pull",
        &format!("{BUCKET}/{NAME}/0.1.0"),
        "--into",
        text(&vendor.path("elsewhere")),
        "--config",
        text(&node.config()),
        "--digest",
        digest,
    ]);
    assert_eq!(said.code, Some(4), "{said:?}");
    let refused = node.audited("module-refused");
    assert!(refused.len() == 1 && refused[0]["detail"].to_string().contains("--digest"), "{refused:?}");
}

#[test]
fn versions_lie_beside_one_another_and_none_takes_the_place_of_another() {
    let Some(vendor) = Vendor::start() else { return };
    let into = vendor.path("modules");
    let Some(old) = vendor.package("old", "0.1.0") else { return };
    let Some(new) = vendor.package("new", "0.2.0") else { return };
    let [old_at, new_at] = [vendor.publish(&old), vendor.publish(&new)];
    let folder = PathBuf::from(vendor.pulled(&new_at, &into, &[])["folder"].as_str().expect("a path"));
    let refused = |at: &str, into: &Path, more: &[&str], code: i32, says: &str| {
        let before = seen(into);
        let said = vendor.pull(at, into, more);
        assert_eq!(said.code, Some(code), "{says}: {said:?}");
        assert!(said.err.contains(says), "{says}: {said:?}");
        assert_eq!(seen(into), before, "{says}");
    };
    refused(
        &old_at,
        &into,
        &[],
        4,
        "rogue 0.2.0 is installed, and 0.1.0 is older: if you want it back, say --allow-older",
    );
    vendor.pulled(&old_at, &into, &["--allow-older"]);
    assert_eq!(seen(&into).len(), 2);

    // The vendor publishes something else as the same version: neither in the bucket nor here.
    change(&new.join("module.toml"), |text| text.replace("title = \"A test\"", "title = \"Another\""));
    vendor.sign(&new);
    let said = vendor.push(&new).1;
    assert!(said.code == Some(4) && said.err.contains("raise the version of the module"), "{said:?}");
    // A push that ends before its end leaves no package.
    let Some(half) = vendor.package("half", "0.4.0") else { return };
    vendor.sign(&half);
    let at = format!("{BUCKET}/{NAME}/0.4.0");
    vendor.s5cmd(&["cp", text(&half.join("MODEL_CARD.md")), &format!("{at}/net.onnx")]);
    let said = vendor.push(&half).1;
    assert!(said.code == Some(4) && said.err.contains("something else lies at"), "{said:?}");
    refused(&at, &into, &[], 3, "there is no package at");
    vendor.s5cmd(&["rm", &format!("{at}/net.onnx")]);
    let said = vendor.push(&half).1;
    assert!(said.out.contains("3 files sent, 2 were there"), "{said:?}");

    let elsewhere = format!("{BUCKET}/again/{NAME}/0.2.0");
    vendor.upload(&new, &elsewhere);
    refused(&elsewhere, &into, &[], 4, "a version stands for one package");
    refused(&elsewhere, &into, &["--allow-older"], 4, "a version stands for one package");

    // What was changed here is not what was signed, and is not mended under the feet of who runs it.
    std::fs::write(folder.join("MODEL_CARD.md"), "# Other\n").expect("written");
    refused(&new_at, &into, &[], 4, "MODEL_CARD.md is not the file that was signed: it was changed here");
    std::fs::write(folder.join("MODEL_CARD.md"), "# Card\n").expect("written");
    std::fs::write(folder.join("extra"), "").expect("written");
    refused(&new_at, &into, &[], 4, "extra is not signed");

    // Links lead nowhere.
    let trap = vendor.path("trap");
    std::fs::create_dir(&trap).expect("made");
    for name in [NAME, ".pull"] {
        let linked = vendor.path(&format!("linked{name}"));
        std::fs::create_dir(&linked).expect("made");
        symlink(&trap, linked.join(name)).expect("linked");
        let said = vendor.pull(&new_at, &linked, &[]);
        assert!(said.code == Some(1) && said.err.contains("is a link or a file"), "{said:?}");
    }
    let staged = vendor.path("staged");
    let digest = gantry::hex(&<sha2::Sha256 as sha2::Digest>::digest(read(&old.join("module.toml"))));
    let left = staged.join(".pull").join(digest);
    std::fs::create_dir_all(&left).expect("made");
    symlink(trap.join("component.wasm"), left.join("component.wasm")).expect("linked");
    std::fs::write(left.join("module.toml"), "not what was signed").expect("written");
    assert_eq!(vendor.pulled(&old_at, &staged, &[])["installed"], true);
    assert_eq!(std::fs::read_dir(&trap).expect("a folder").count(), 0, "nothing was written through a link");

    let said = vendor.says(&["pull", &old_at, "--into", text(&vendor.path("nobody")), "--endpoint-url", &vendor.url]);
    assert!(said.code == Some(2) && said.err.contains("no key is trusted"), "{said:?}");
    assert!(!vendor.path("nobody").exists());
    refused(BUCKET, &into, &[], 2, "names no version");
    refused(&format!("{BUCKET}/{NAME}/0.3.0"), &into, &[], 3, "there is no package at");
    refused(
        &old_at,
        &vendor.path("pinned"),
        &["--digest", &format!("sha256:{}", "0".repeat(64))],
        4,
        "and not the one of --digest",
    );
}

/// A package with a large file, at a place that gives it slowly; and the file.
fn large(vendor: &Vendor) -> Option<(String, PathBuf, PathBuf)> {
    let package = vendor.package("large", "0.1.0")?;
    let bytes: Vec<u8> = (0..6_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = package.join("weights.bin");
    std::fs::write(&file, bytes).expect("written");
    let at = vendor.publish(&package);
    let slow = vendor.path("slow.toml");
    let reach = format!("endpoint_url = {:?}, path_style = true, bandwidth_max_kib_s = 2048", vendor.url);
    let source = format!("[[module_sources]]\nurl = \"{BUCKET}\"\ntrust = [\"k\"]\ns3 = {{ {reach} }}\n");
    std::fs::write(&slow, source).expect("written");
    Some((at, file, slow))
}

/// A pull that takes seconds, once it has one MiB more of the large file.
fn begun(vendor: &Vendor, at: &str, into: &Path, slow: &Path) -> Child {
    let least = staged(into) + (1 << 20);
    let mut command = vendor.pulling(at, into, &["--config", text(slow), "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gantry runs");
    eventually("some of it is there", || staged(into) > least);
    child
}

/// How much of the large file is there.
fn staged(into: &Path) -> u64 {
    let folders = std::fs::read_dir(into.join(".pull")).into_iter().flatten().flatten();
    folders.filter_map(|folder| folder.path().join("weights.bin").metadata().ok()).map(|file| file.len()).sum()
}

#[test]
fn a_pull_that_is_ended_anywhere_leaves_nothing_to_see_and_goes_on_from_there() {
    let Some(vendor) = Vendor::start() else { return };
    let Some((at, file, slow)) = large(&vendor) else { return };
    let into = vendor.path("modules");

    let mut killed = begun(&vendor, &at, &into, &slow);
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");
    let before = staged(&into);
    assert!((1 << 20..6 << 20).contains(&before), "{before}");
    assert!(seen(&into).is_empty(), "{:?}", seen(&into));

    let interrupted = begun(&vendor, &at, &into, &slow);
    let pid = i32::try_from(interrupted.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let output = interrupted.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.status.signal()), (Some(130), None));
    let said = Said::from(output);
    assert!(said.err.contains("interrupted: nothing was installed"), "{said:?}");
    assert!(seen(&into).is_empty(), "{:?}", seen(&into));
    assert!(staged(&into) >= before, "it went on from what was there");

    // What was fetched is not asked for again: it is something else now.
    let mut changed = read(&file);
    changed[..1 << 20].fill(0);
    let other = vendor.path("other.bin");
    std::fs::write(&other, changed).expect("written");
    vendor.s5cmd(&["cp", text(&other), &format!("{at}/weights.bin")]);
    let pulled = vendor.pulled(&at, &into, &[]);
    assert_eq!(read(&Path::new(pulled["folder"].as_str().expect("a path")).join("weights.bin")), read(&file));
    assert_eq!(staged(&into), 0);

    // And what was fetched and is wrong is fetched anew.
    let anew = vendor.path("anew");
    let mut killed = begun(&vendor, &at, &anew, &slow);
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");
    vendor.s5cmd(&["cp", text(&file), &format!("{at}/weights.bin")]);
    assert_eq!(vendor.pulled(&at, &anew, &[])["installed"], true);
}

#[test]
fn of_two_pulls_at_once_one_installs_and_both_are_content() {
    let Some(vendor) = Vendor::start() else { return };
    let Some((at, _, slow)) = large(&vendor) else { return };
    let into = vendor.path("modules");
    let first = begun(&vendor, &at, &into, &slow);
    let said = vendor.pull(&at, &into, &["--json"]);
    let second = json(&said);
    assert!(said.err.contains("is under way: waiting for it"), "{said:?}");
    let first = json(&first.wait_with_output().expect("it ends").into());
    assert_eq!((&first["installed"], &second["installed"]), (&true.into(), &false.into()));
    assert_eq!(first["folder"], second["folder"]);
    assert_eq!(seen(&into).len(), 1);
}
