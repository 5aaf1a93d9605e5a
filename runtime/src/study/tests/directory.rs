//! DICOMDIR: what it names is read, what it does not hold is told, and nothing outside of its folder is opened.

use super::*;

/// A DICOMDIR of these files.
fn directory(folder: &Folder, names: &[&str]) -> PathBuf {
    let mut object = InMemDicomObject::new_empty();
    let records = names.iter().map(|name| {
        let mut record = InMemDicomObject::new_empty();
        set(&mut record, tags::REFERENCED_FILE_ID, VR::CS, name);
        record
    });
    let records = dicom_core::value::DataSetSequence::new(records.collect::<Vec<_>>(), dicom_core::Length::UNDEFINED);
    object.put(DataElement::new(tags::DIRECTORY_RECORD_SEQUENCE, VR::SQ, Value::from(records)));
    let path = folder.path().join("DICOMDIR");
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(EXPLICIT)
        .media_storage_sop_class_uid(uids::MEDIA_STORAGE_DIRECTORY_STORAGE)
        .media_storage_sop_instance_uid("2.25.7");
    object.with_meta(meta).expect("meta").write_to_file(&path).expect("written");
    path
}

fn of(path: &Path, strict: bool) -> Result<Study, ReadError> {
    read(&[path.to_owned()], &ReadOptions { strict, ..options() })
}

#[test]
fn a_directory_stands_for_the_files_that_it_names() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("IMAGES")).expect("made");
    std::fs::create_dir(folder.path().join("images")).expect("made");
    folder.add("IMAGES/A", &slice(0));
    folder.add("images/b", &slice(1));
    folder.add("beside.dcm", &changed(|o| set(o, tags::PATIENT_ID, VR::LO, "another")));
    let path = directory(&folder, &["", "IMAGES\\A", "IMAGES\\B"]);
    for strict in [false, true] {
        let study = of(&path, strict).expect("a study");
        assert_eq!((study.series.len(), study.series[0].instances.len()), (1, 2));
        assert!(study.warnings.is_empty(), "{:?}", study.warnings);
    }
}

#[test]
fn files_that_are_not_there_are_told_or_when_strict_refused() {
    let folder = Folder::new();
    folder.add("A", &slice(0));
    let path = directory(&folder, &["A", "B", "C\\D"]);
    for path in [path.as_path(), folder.path()] {
        let study = of(path, false).expect("a study");
        assert!(study.warnings.iter().any(|w| w.contains("2 files that a DICOMDIR names")), "{:?}", study.warnings);
        says(&of(path, true).expect_err("refused").to_string(), &["2 files that are not there", "whole medium"]);
    }
}

#[test]
fn nothing_outside_of_its_folder_is_opened() {
    let outer = Folder::new();
    let secret = outer.add("secret", &slice(0));
    let inner = Folder::new();
    std::os::unix::fs::symlink(&secret, inner.path().join("LINK")).expect("linked");
    for name in ["..\\secret", "LINK", "A\\..\\..\\secret", "/etc/passwd", ".\\A", "A\\\\B"] {
        let path = directory(&inner, &[name]);
        says(&of(&path, false).expect_err("refused").to_string(), &["DICOMDIR", "outside of its folder"]);
    }
}

#[test]
fn pydicom_directories_name_what_lies_beside_them() {
    let Some(folder) = assets("pydicom/test_files/dicomdirtests") else { return };
    let options = ReadOptions { files_max: 1000, ..options() };
    for (name, files) in [("DICOMDIR", 31), ("DICOMDIR-implicit", 31), ("TINY_ALPHA/DICOMDIR", 50)] {
        let found = super::super::directory::read(&folder.join(name), &options).unwrap_or_else(|e| panic!("{e}"));
        let found = found.expect("a directory");
        assert_eq!((found.files.len(), found.missing), (files, 0), "{name}");
    }
    says(&read(&[folder.join("DICOMDIR")], &options).expect_err("refused").to_string(), &["patients"]);
}
