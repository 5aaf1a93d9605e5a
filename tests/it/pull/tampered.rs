//! Whatever is changed in the bucket, and whatever a vendor's stolen key signs: nothing is installed, and it is said why.

use std::path::Path;

use gantry_tests::command::Said;
use serde_json::{Value, json};

use super::vendor::{BUCKET, NAME, Vendor, change, copy, read, seen, statement, text};

/// Changes a published package, and expects a pull of it to install nothing and say this.
fn refused(vendor: &Vendor, good: &Path, case: &str, code: i32, says: &str, tamper: impl FnOnce(&Path)) {
    let folder = vendor.path(&format!("tampered-{case}"));
    copy(good, &folder);
    tamper(&folder);
    let at = format!("{BUCKET}/{case}/{NAME}/0.1.0");
    vendor.upload(&folder, &at);
    let into = vendor.path(&format!("into-{case}"));
    let said: Said = vendor.pull(&at, &into, &[]);
    assert_eq!(said.code, Some(code), "{case}: {said:?}");
    assert!(said.err.contains(says), "{case}: {said:?}");
    assert!(said.out.is_empty() && seen(&into).is_empty(), "{case}: {said:?} {:?}", seen(&into));
}

#[test]
fn what_was_changed_after_it_was_signed_is_not_installed() {
    let Some(vendor) = Vendor::start() else { return };
    let Some(good) = vendor.package("good", "0.1.0") else { return };
    vendor.sign(&good);
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).expect("written");
    let refused =
        |case: &str, code, says: &str, tamper: &dyn Fn(&Path)| refused(&vendor, &good, case, code, says, tamper);
    for file in ["component.wasm", "net.onnx", "MODEL_CARD.md", "module.toml"] {
        let name = file.replace('.', "-").to_lowercase();
        refused(&format!("changed-{name}"), 4, &format!("{file} has another digest than was signed"), &|folder| {
            let mut bytes = read(&folder.join(file));
            bytes[2] ^= 1;
            write(&folder.join(file), &bytes);
        });
        refused(&format!("cut-{name}"), 4, &format!("{file} has fewer bytes than were signed"), &|folder| {
            let bytes = read(&folder.join(file));
            write(&folder.join(file), &bytes[..bytes.len() - 1]);
        });
        refused(&format!("longer-{name}"), 4, &format!("{file} has more bytes than were signed"), &|folder| {
            write(&folder.join(file), &[read(&folder.join(file)), vec![0]].concat());
        });
        refused(&format!("missing-{name}"), 4, &format!("{file} is missing, though it was signed"), &|folder| {
            std::fs::remove_file(folder.join(file)).expect("removed");
        });
    }
    refused("swapped", 4, "bytes than were signed", &|folder| {
        let [component, model] = ["component.wasm", "net.onnx"].map(|file| folder.join(file));
        let (one, other) = (read(&component), read(&model));
        write(&component, &other);
        write(&model, &one);
    });
    refused("no-envelope", 3, "there is no package at", &|folder| {
        std::fs::remove_file(folder.join("module.dsse.json")).expect("removed");
    });
    refused("cut-envelope", 4, "the envelope is no DSSE envelope: it was cut or changed", &|folder| {
        let bytes = read(&folder.join("module.dsse.json"));
        write(&folder.join("module.dsse.json"), &bytes[..bytes.len() / 2]);
    });
    refused("huge-envelope", 4, "is longer than an envelope", &|folder| {
        write(&folder.join("module.dsse.json"), &vec![b' '; (1 << 20) + 1]);
    });
    refused("changed-envelope", 4, "is signed by none of the keys", &|folder| {
        change(&folder.join("module.dsse.json"), |text| text.replacen("\"sig\":\"", "\"sig\":\"AAAA", 1));
    });
    refused("other-key", 4, "is signed by none of the keys", &|folder| {
        std::fs::remove_file(folder.join("module.dsse.json")).expect("removed");
        let said = vendor.says(&["sign", text(folder), "--key", text(&vendor.path("other.pem"))]);
        assert_eq!(said.code, Some(0), "{said:?}");
    });
    let Some(newer) = vendor.package("newer", "0.2.0") else { return };
    vendor.sign(&newer);
    refused("other-envelope", 4, "holds the envelope of rogue 0.2.0", &|folder| {
        write(&folder.join("module.dsse.json"), &read(&newer.join("module.dsse.json")));
    });
    refused("batch", 4, "holds something else", &|folder| {
        change(&folder.join("module.dsse.json"), |text| text.replace("gantry.module+json", "gantry.batch+json"));
    });

    // And as it was, it is installed; what is not signed is not even looked at.
    let at = format!("{BUCKET}/good/{NAME}/0.1.0");
    write(&good.join("unsigned"), b"not listed");
    vendor.upload(&good, &at);
    let into = vendor.path("into-good");
    let pulled = vendor.pulled(&at, &into, &[]);
    assert!(!Path::new(pulled["folder"].as_str().expect("a path")).join("unsigned").exists());

    // A vendor learns of it before hospitals do.
    let said = vendor.push(&good).1;
    assert!(said.code == Some(4) && said.err.contains("unsigned is not signed"), "{said:?}");
}

#[test]
fn a_stolen_key_installs_nothing_outside_of_its_package() {
    let Some(vendor) = Vendor::start() else { return };
    let Some(good) = vendor.package("good", "0.1.0") else { return };
    let files = ["module.toml", "component.wasm", "net.onnx"];
    let limits = vendor.path("limits.toml");
    std::fs::write(&limits, "[limits]\npackage_max_mib = 1\n").expect("written");
    let signed = |case: &str, code, says: &str, tamper: &dyn Fn(&Path, &mut Value)| {
        refused(&vendor, &good, case, code, says, |folder| {
            let mut payload = statement(folder, &files);
            tamper(folder, &mut payload);
            std::fs::write(folder.join("module.dsse.json"), vendor.seal(&payload)).expect("written");
        });
    };
    let add = |payload: &mut Value, path: &str, bytes: u64| {
        let file = json!({"path": path, "sha256": "0".repeat(64), "bytes": bytes});
        payload["files"].as_array_mut().expect("a list").push(file);
    };
    for (case, path) in
        [("up", "../evil"), ("absolute", "/tmp/evil"), ("inside", "models/../../evil"), ("hidden", ".pull/lock")]
    {
        signed(case, 4, "what is signed cannot be: files: ", &|_, payload| add(payload, path, 1));
    }
    signed("itself", 4, "what is signed cannot be: files: ", &|_, payload| add(payload, "module.dsse.json", 1));
    signed("huge", 5, "more than limits.package_max_mib = 4096", &|_, payload| add(payload, "weights.bin", 1 << 62));
    signed("overflow", 5, "far too many MiB", &|_, payload| {
        add(payload, "weights.bin", u64::MAX);
        add(payload, "more.bin", u64::MAX);
    });
    signed("many", 5, "more than limits.package_files_max = 256", &|_, payload| {
        (0..300).for_each(|index| add(payload, &format!("f{index}"), 0));
    });
    signed("key", 4, "what is signed cannot be: unknown field", &|_, payload| payload["more"] = 1.into());
    signed("schema", 4, "update this program", &|_, payload| payload["schema"] = 2.into());
    signed("name", 4, "what is signed cannot be: name", &|_, payload| payload["name"] = "../rogue".into());

    // The manifest is looked at before anything else is fetched.
    let manifest = |case: &str, says: &str, from: &str, to: &str| {
        signed(case, 4, says, &|folder, payload| {
            change(&folder.join("module.toml"), |text| text.replace(from, to));
            *payload = statement(folder, &files);
        });
    };
    manifest("manifest-up", "a path inside the package, without `..`", "\"net.onnx\"", "\"../net.onnx\"");
    manifest("manifest-absolute", "a path inside the package", "\"component.wasm\"", "\"/tmp/component.wasm\"");
    manifest("manifest-unsigned", "is not signed with the digest that it says", "\"net.onnx\"", "\"other.onnx\"");
    manifest("manifest-version", "it is of rogue 0.9.0", "\"0.1.0\"", "\"0.9.0\"");
    manifest("manifest-attribute", "can never be granted", "wasi:nn\"]", "wasi:nn\"]\nattributes = [\"PatientName\"]");

    // A model that is no model, signed: it is loaded where it can do no harm, and not installed.
    signed("model", 4, "it is no ONNX model", &|folder, payload| {
        let before = gantry::hex(&<sha2::Sha256 as sha2::Digest>::digest(read(&folder.join("net.onnx"))));
        std::fs::write(folder.join("net.onnx"), b"no model").expect("written");
        let after = gantry::hex(&<sha2::Sha256 as sha2::Digest>::digest(b"no model"));
        change(&folder.join("module.toml"), |text| text.replace(&before, &after));
        *payload = statement(folder, &files);
    });

    // Limits are the site's.
    vendor.sign(&good);
    std::fs::write(good.join("weights.bin"), vec![0; 2 << 20]).expect("written");
    vendor.sign(&good);
    let at = format!("{BUCKET}/limited/{NAME}/0.1.0");
    vendor.upload(&good, &at);
    let said = vendor.pull(&at, &vendor.path("limited"), &["--config", text(&limits)]);
    assert!(said.code == Some(5) && said.err.contains("more than limits.package_max_mib = 1"), "{said:?}");
}
