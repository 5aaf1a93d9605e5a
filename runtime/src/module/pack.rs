//! `gantry module pack`: a package as one file, of which there is exactly one for the same files.
//!
//! ```text
//! SHA256SUMS        digest and path of each file that follows, as `sha256sum` writes and checks them
//! MODEL_CARD.md     the files, by path
//! component.wasm
//! module.toml
//! …
//! ```
//!
//! It is a tar file of the oldest form that everybody reads (ustar, POSIX.1-1988), not compressed: what another version of a compressor
//! would make of it is another file. Owner, time and rights of a file are not in it. A reader makes each header anew from path and size,
//! and takes only that one: so there is no link, no folder, no device, no path that leads out, and nothing between the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::files::Files;
use super::installed::FolderError;
use super::manifest::Sha256Hex;
use super::package::PackageError;
use super::statement::check_paths;
use crate::config::Limits;
use crate::inference::Turn;

/// The list of digests, first in a pack. No file of a package.
pub const SUMS_FILE: &str = "SHA256SUMS";
const SUMS_MAX_KIB: u64 = 1024;
const BLOCK: u64 = 512;
/// Two blocks of zeros end it.
const END_BYTES: u64 = 2 * BLOCK;

/// A file of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below the package.
    pub path: String,
    /// Its digest.
    pub sha256: Sha256Hex,
    /// Its size.
    pub bytes: u64,
    /// Where it begins.
    offset: u64,
}

/// A pack that was opened: its headers were read and are sound; files are read when asked for.
#[derive(Debug)]
pub struct Pack {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

impl Pack {
    /// Reads the list of digests and every header.
    ///
    /// # Errors
    /// It cannot be read, or is not as [`write`] makes it.
    pub fn open(path: &Path) -> Result<Self, PackageError> {
        let failed = |reason| PackageError::Read { path: path.to_owned(), reason };
        let wrong = |reason: &str| PackageError::Pack { path: path.to_owned(), reason: reason.to_owned() };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut at = 0;
        let header = |at: u64| -> Result<(String, u64), PackageError> {
            let mut block = [0; BLOCK as usize];
            file.read_exact_at(&mut block, at).map_err(|_| wrong("it ends too early"))?;
            of_header(&block).ok_or_else(|| wrong(if at == 0 { "it does not begin as one" } else { "it was changed" }))
        };
        let (name, bytes) = header(at)?;
        if name != SUMS_FILE {
            return Err(wrong("it does not begin as one"));
        }
        if bytes > SUMS_MAX_KIB << 10 {
            return Err(wrong("its list of digests has more than 1024 KiB"));
        }
        let filled = |from: u64, to: u64| -> Result<(), PackageError> {
            let mut zeros = vec![0; usize::try_from(to - from).unwrap_or_default()];
            file.read_exact_at(&mut zeros, from).map_err(|_| wrong("it ends too early"))?;
            if zeros.iter().all(|b| *b == 0) { Ok(()) } else { Err(wrong("something lies between its files")) }
        };
        let mut sums = vec![0; usize::try_from(bytes).unwrap_or_default()];
        file.read_exact_at(&mut sums, BLOCK).map_err(|_| wrong("it ends too early"))?;
        let listed = listed(&sums).ok_or_else(|| wrong("its list of digests is not as `sha256sum` writes one"))?;
        check_paths(listed.iter().map(|(_, path)| path.as_str())).map_err(|why| wrong(&why))?;
        at += BLOCK + padded(bytes);
        filled(BLOCK + bytes, at)?;
        let mut entries = Vec::with_capacity(listed.len());
        for (sha256, path) in listed {
            let (name, bytes) = header(at)?;
            if name != path {
                return Err(wrong("its files are not those of its list of digests"));
            }
            let offset = at + BLOCK;
            at = offset.saturating_add(padded(bytes));
            if at > length {
                return Err(wrong("it ends too early"));
            }
            filled(offset + bytes, at)?;
            entries.push(Entry { path, sha256, bytes, offset });
        }
        let mut end = [0; END_BYTES as usize];
        let ended = file.read_exact_at(&mut end, at).is_ok() && end.iter().all(|b| *b == 0);
        if !ended || at + END_BYTES != length {
            return Err(wrong("it does not end with its last file"));
        }
        Ok(Self { path: path.to_owned(), file, entries })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files, by path.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entry(&self, path: &str) -> Result<&Entry, PackageError> {
        let missing = || PackageError::Read {
            path: self.path.join(path),
            reason: std::io::Error::new(std::io::ErrorKind::NotFound, "the pack holds no such file"),
        };
        self.entries.iter().find(|entry| entry.path == path).ok_or_else(missing)
    }

    pub(super) fn read(&self, entry: &Entry) -> Result<Vec<u8>, PackageError> {
        let mut bytes = Vec::with_capacity(usize::try_from(entry.bytes).unwrap_or_default());
        self.copy(entry, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Hands on a file piece by piece. It is what the list says only once this returns.
    pub(super) fn copy(
        &self,
        entry: &Entry,
        keep: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), PackageError> {
        let path = || self.path.join(&entry.path);
        let failed = |reason| PackageError::Read { path: path(), reason };
        let (mut hash, mut done, mut piece) = (Sha256::new(), 0, vec![0; 1 << 18]);
        while done < entry.bytes {
            let wanted = usize::try_from(entry.bytes - done).unwrap_or(usize::MAX).min(piece.len());
            let piece = piece.get_mut(..wanted).unwrap_or_default();
            self.file.read_exact_at(piece, entry.offset + done).map_err(failed)?;
            hash.update(&*piece);
            keep(piece).map_err(failed)?;
            done += wanted as u64;
        }
        let found = Sha256Hex(hash.finalize().into());
        match found == entry.sha256 {
            true => Ok(()),
            false => Err(PackageError::Digest { path: path(), found: found.into(), expected: entry.sha256.into() }),
        }
    }

    /// Writes all files into a folder that is not there yet, which appears whole or not at all, not where `turn` is cancelled meanwhile.
    ///
    /// # Errors
    /// [`PackageError`], `limits.package_files_max` and `limits.package_max_mib` among them.
    pub fn unpack(&self, to: &Path, limits: &Limits, turn: &Turn) -> Result<(), PackageError> {
        within(self.entries.iter().map(|entry| entry.bytes), &self.path, limits)?;
        if to.symlink_metadata().is_ok() {
            return Err(FolderError::wrong(to, "is there already: choose another name or remove it").into());
        }
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fresh = tempfile::Builder::new().prefix(".unpack-").tempdir_in(parent).map_err(FolderError::io(parent))?;
        for entry in &self.entries {
            let path = fresh.path().join(&entry.path);
            let folder = path.parent().unwrap_or(parent);
            std::fs::create_dir_all(folder).map_err(FolderError::io(folder))?;
            let mut file = File::create_new(&path).map_err(FolderError::io(&path))?;
            self.copy(entry, &mut |piece| wanted(turn).and_then(|()| file.write_all(piece)))?;
        }
        // A temporary folder is private, a package is not.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(fresh.path(), open).map_err(FolderError::io(fresh.path()))?;
        std::fs::rename(fresh.path(), to).map_err(FolderError::io(to))?;
        drop(fresh.keep());
        Ok(())
    }
}

/// Writes a pack of the files, with `more` beside them or in their place, to `to`, which appears whole or not at all, not where `turn` is
/// cancelled meanwhile; its digest and size.
///
/// # Errors
/// [`PackageError`]: a name that no package can have, a limit, a file that changes meanwhile.
pub fn write(
    files: &Files,
    more: &BTreeMap<&str, Vec<u8>>,
    to: &Path,
    limits: &Limits,
    turn: &Turn,
) -> Result<(Sha256Hex, u64), PackageError> {
    let mut list: Vec<String> = files.list()?;
    list.extend(more.keys().map(|path| (*path).to_owned()));
    list.sort();
    list.dedup();
    let wrong = |reason: String| PackageError::Pack { path: files.place().to_owned(), reason };
    check_paths(list.iter().map(String::as_str)).map_err(wrong)?;
    let mut entries = Vec::new();
    for path in list {
        let (sha256, bytes) = match more.get(path.as_str()) {
            Some(bytes) => (Sha256Hex(Sha256::digest(bytes).into()), bytes.len() as u64),
            None => files.digest(&path)?,
        };
        entries.push((path, sha256, bytes));
    }
    within(entries.iter().map(|entry| entry.2), files.place(), limits)?;
    let sums: String = entries.iter().map(|(path, sha256, _)| format!("{}  {path}\n", String::from(*sha256))).collect();

    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fresh = tempfile::Builder::new().prefix(".pack-").tempfile_in(parent).map_err(FolderError::io(parent))?;
    let failed = |reason| PackageError::Read { path: to.to_owned(), reason };
    let mut out: Out = Hashed { out: std::io::BufWriter::with_capacity(1 << 18, fresh), hash: Sha256::new(), bytes: 0 };
    let begin = |out: &mut Out, path: &str, bytes: u64| -> Result<(), PackageError> {
        let header = to_header(path, bytes).ok_or_else(|| wrong(format!("{path:?}: too long a path, or too large")))?;
        out.write_all(&header).map_err(failed)
    };
    begin(&mut out, SUMS_FILE, sums.len() as u64)?;
    out.write_all(sums.as_bytes()).and_then(|()| out.pad(sums.len() as u64)).map_err(failed)?;
    for (path, sha256, bytes) in &entries {
        begin(&mut out, path, *bytes)?;
        match more.get(path.as_str()) {
            Some(bytes) => out.write_all(bytes).map_err(failed)?,
            None if files.copy(path, &mut |piece| wanted(turn).and_then(|()| out.write_all(piece)))?
                == (*sha256, *bytes) => {}
            None => return Err(wrong(format!("{path} was changed while it was packed: pack it again"))),
        }
        out.pad(*bytes).map_err(failed)?;
    }
    out.write_all(&[0; END_BYTES as usize]).map_err(failed)?;
    let Hashed { out, hash, bytes } = out;
    let fresh = out.into_inner().map_err(|e| failed(e.into_error()))?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fresh.as_file().set_permissions(open).and_then(|()| fresh.as_file().sync_all()).map_err(failed)?;
    fresh.persist(to).map_err(|e| failed(e.error))?;
    Ok((Sha256Hex(hash.finalize().into()), bytes))
}

/// Whether somebody still wants it.
fn wanted(turn: &Turn) -> std::io::Result<()> {
    match turn.is_cancelled() {
        true => Err(std::io::Error::other("interrupted")),
        false => Ok(()),
    }
}

type Out = Hashed<std::io::BufWriter<tempfile::NamedTempFile>>;

/// What was written is hashed on the way.
struct Hashed<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    /// Zeros up to the next block.
    fn pad(&mut self, bytes: u64) -> std::io::Result<()> {
        let zeros = usize::try_from(padded(bytes) - bytes).unwrap_or_default();
        self.write_all([0; BLOCK as usize].get(..zeros).unwrap_or_default())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(piece)?;
        self.hash.update(piece.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Refuses more files, or larger ones, than a site takes.
fn within(sizes: impl ExactSizeIterator<Item = u64>, path: &Path, limits: &Limits) -> Result<(), PackageError> {
    let path = || path.to_owned();
    if sizes.len() > limits.package_files_max {
        let most = limits.package_files_max;
        return Err(PackageError::TooMany { path: path(), files: sizes.len(), most });
    }
    let bytes = sizes.fold(0_u64, u64::saturating_add);
    match bytes > limits.package_max_mib << 20 {
        true => Err(PackageError::TooLarge { path: path(), limit: "package_max_mib", mib: limits.package_max_mib }),
        false => Ok(()),
    }
}

fn padded(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX - 2 * BLOCK)
}

/// Digests and paths of a list, in the order of the paths.
fn listed(sums: &[u8]) -> Option<Vec<(Sha256Hex, String)>> {
    let text = std::str::from_utf8(sums).ok()?;
    if !text.is_empty() && !text.ends_with('\n') {
        return None;
    }
    let line = |line: &str| {
        let (digest, path) = line.split_once("  ")?;
        let lower = digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        Some((Sha256Hex::try_from(digest.to_owned()).ok().filter(|_| lower)?, path.to_owned()))
    };
    // Not `lines`, which takes a carriage return for part of an end: there would be a second pack of the same files.
    let listed = text.split_terminator('\n').map(line).collect::<Option<Vec<_>>>()?;
    // The list is no file of the package, and stands in no list: a second one would lie over it, unseen.
    let is_plain = listed.iter().all(|(_, path)| path != SUMS_FILE) && listed.is_sorted_by(|a, b| a.1 < b.1);
    is_plain.then_some(listed)
}

/// A header of ustar: 100 bytes of name, the folder before it apart where the path is longer; all numbers octal.
fn to_header(path: &str, bytes: u64) -> Option<[u8; BLOCK as usize]> {
    let (prefix, name) = match path.len() {
        0..=100 => ("", path),
        _ => {
            path.match_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..])).find(|(_, name)| name.len() <= 100)?
        }
    };
    if prefix.len() > 155 || bytes >= 1 << 33 {
        return None;
    }
    let mut header = [0; BLOCK as usize];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    for (at, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000"), (136, "00000000000"), (148, "        ")] {
        put(at, text);
    }
    put(124, &format!("{bytes:011o}"));
    put(156, "0");
    put(257, "ustar\x0000");
    put(329, "0000000");
    put(337, "0000000");
    put(345, prefix);
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}

/// Path and size that a header says, if it is the one that [`to_header`] makes of them.
fn of_header(header: &[u8; BLOCK as usize]) -> Option<(String, u64)> {
    let text = |range: std::ops::Range<usize>| {
        let field = header.get(range)?;
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
        std::str::from_utf8(field.get(..end)?).ok()
    };
    let (name, prefix) = (text(0..100)?, text(345..500)?);
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    let bytes = u64::from_str_radix(text(124..136)?, 8).ok()?;
    (to_header(&path, bytes)? == *header).then_some((path, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in files {
            let path = folder.path().join("in").join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        let files = Files::Folder(folder.path().join("in"));
        (folder, files)
    }

    /// The bytes of a pack of these files, in the order given.
    fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (folder, files) = folder(files);
        let to = folder.path().join("out.gantry");
        write(&files, &BTreeMap::new(), &to, &Limits::default(), &Turn::default()).expect("packed");
        std::fs::read(to).expect("readable")
    }

    fn open(bytes: &[u8]) -> Result<Pack, PackageError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.gantry");
        std::fs::write(&path, bytes).expect("written");
        Pack::open(&path)
    }

    #[test]
    fn the_same_files_are_the_same_pack_however_they_came_to_lie_there() {
        let (first, second) = (("module.toml", &b"one"[..]), ("models/net.onnx", &[7; 1000][..]));
        let packed = pack(&[first, second]);
        assert_eq!(packed, pack(&[second, first]));
        let (folder, files) = folder(&[first, second]);
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let file = File::options().write(true).open(folder.path().join("in/module.toml")).expect("there");
        file.set_modified(long_ago).expect("set");
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        let to = folder.path().join("again.gantry");
        let (sha256, bytes) =
            write(&files, &BTreeMap::new(), &to, &Limits::default(), &Turn::default()).expect("packed");
        assert_eq!(std::fs::read(&to).expect("readable"), packed);
        assert_eq!((sha256.0, bytes), (Sha256::digest(&packed).into(), packed.len() as u64));
        assert_ne!(packed, pack(&[first]));
    }

    #[test]
    fn what_was_packed_is_unpacked_whole() {
        let long = format!("{}/{}", "folder-".repeat(14), "name-".repeat(19));
        let files = [("module.toml", &b"text"[..]), ("empty", b""), (&long, &[3; 512])];
        let (into, pack) = (tempfile::tempdir().expect("a folder"), open(&pack(&files)).expect("a pack"));
        let to = into.path().join("to");
        pack.unpack(&to, &Limits::default(), &Turn::default()).expect("unpacked");
        for (name, bytes) in files {
            assert_eq!(std::fs::read(to.join(name)).expect("there"), bytes, "{name}");
        }
        let again = pack.unpack(&to, &Limits::default(), &Turn::default()).expect_err("there").to_string();
        assert!(again.contains("is there already"), "{again}");
        let few = Limits { package_files_max: 2, ..Limits::default() };
        let error = pack.unpack(&into.path().join("few"), &few, &Turn::default()).expect_err("too many").to_string();
        assert!(error.contains("package_files_max = 2") && !into.path().join("few").exists(), "{error}");
        assert_eq!(std::fs::read_dir(into.path()).expect("readable").count(), 1, "nothing else is left");
    }

    #[test]
    fn who_is_interrupted_leaves_nothing() {
        let (folder, files) = folder(&[("module.toml", &b"text"[..])]);
        let (to, turn) = (folder.path().join("x.gantry"), Turn::default());
        turn.cancel();
        assert!(write(&files, &BTreeMap::new(), &to, &Limits::default(), &turn).is_err());
        let pack = open(&pack(&[("module.toml", b"text")])).expect("a pack");
        assert!(pack.unpack(&folder.path().join("out"), &Limits::default(), &turn).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1, "what was there");
    }

    #[test]
    fn no_byte_of_a_pack_can_be_another() {
        let sound = pack(&[("module.toml", b"text"), ("a/b", &[1; 600])]);
        let whole = |bytes: &[u8]| -> Result<(), PackageError> {
            let pack = open(bytes)?;
            pack.entries().iter().try_for_each(|entry| pack.copy(entry, &mut |_| Ok(())))
        };
        whole(&sound).expect("sound");
        for at in 0..sound.len() {
            let mut changed = sound.clone();
            changed[at] ^= 1;
            assert!(whole(&changed).is_err(), "byte {at}");
        }
        for length in (0..sound.len()).step_by(256) {
            assert!(open(&sound[..length]).is_err(), "{length} bytes");
        }
        assert!(open(&[&sound[..], &[0; 512]].concat()).is_err(), "something comes after it");
    }

    #[test]
    fn what_fuzzing_begins_with_is_a_pack() {
        let seed = include_bytes!("../../../fuzz/corpus/pack/real");
        let (folder, sound) = (tempfile::tempdir().expect("a folder"), &seed[1..]);
        let (to, again) = (folder.path().join("package"), folder.path().join("again.gantry"));
        let pack = open(sound).expect("a pack");
        pack.unpack(&to, &Limits::default(), &Turn::default()).expect("unpacked");
        let package = crate::module::package::Package::open(&to).expect("a package");
        package.component(1).and_then(|_| package.model("net", 1)).expect("whole");
        write(&Files::Folder(to), &BTreeMap::new(), &again, &Limits::default(), &Turn::default()).expect("packed");
        assert!(std::fs::read(again).expect("there") == sound);
    }

    #[test]
    fn a_list_is_written_in_one_way_and_does_not_list_itself() {
        let digest = "0".repeat(64);
        let list = |text: String| -> Option<Vec<String>> {
            Some(listed(text.as_bytes())?.into_iter().map(|(_, path)| path).collect())
        };
        assert_eq!(list(format!("{digest}  a\n{digest}  b\n")), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(list(String::new()), Some(vec![]));
        for wrong in [
            format!("{digest}  a"),
            format!("{digest} *a\n"),
            format!("{digest}  a\n\n"),
            format!("{digest}  b\n{digest}  a\n"),
            format!("{digest}  a\n{digest}  a\n"),
            format!("{digest}  {SUMS_FILE}\n"),
        ] {
            assert_eq!(list(wrong.clone()), None, "{wrong:?}");
        }
        let returned = list(format!("{digest}  a\r\n")).expect("one");
        assert!(check_paths(returned.iter().map(String::as_str)).is_err(), "{returned:?}");
    }

    #[test]
    fn no_path_leads_out_and_no_header_is_anything_but_a_file() {
        for path in ["../up", "/etc/passwd", "a//b", ".hidden", "a/../b", "a\\b", "tab\t"] {
            let sums = format!("{}  {path}\n", "0".repeat(64));
            let mut bytes = to_header(SUMS_FILE, sums.len() as u64).expect("a header").to_vec();
            bytes.extend_from_slice(sums.as_bytes());
            bytes.resize(1024, 0);
            bytes.extend_from_slice(&to_header(path, 0).expect("a header"));
            bytes.resize(bytes.len() + 1024, 0);
            let error = open(&bytes).expect_err(path).to_string();
            assert!(error.contains("letters, digits"), "{path}: {error}");
        }
        // A link, a folder, another owner, another time.
        for (at, byte) in [(156, b'1'), (156, b'2'), (156, b'5'), (114, b'1'), (146, b'1'), (157, b'x')] {
            let mut header = to_header("a", 0).expect("a header");
            header[at] = byte;
            let sum: u32 =
                header.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert_eq!(of_header(&header), None, "{at}");
        }
        assert!(to_header(&"x".repeat(101), 0).is_none());
    }

    #[test]
    fn others_read_it_and_check_its_list() {
        let (folder, files) = folder(&[("module.toml", b"text"), ("models/net.onnx", &[1; 600])]);
        let to = folder.path().join("x.gantry");
        write(&files, &BTreeMap::new(), &to, &Limits::default(), &Turn::default()).expect("packed");
        let out = folder.path().join("out");
        std::fs::create_dir(&out).expect("made");
        let run = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).current_dir(&out).output();
            let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
            assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
        };
        run("tar", &["xf", to.to_str().expect("text")]);
        run("sha256sum", &["--strict", "-c", SUMS_FILE]);
    }
}
