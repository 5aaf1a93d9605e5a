"""Takes the wanted files out of a downloaded archive, if it has the digest, and prints their sizes and names.

unpack.py ARCHIVE SHA256 FOLDER [PATTERN TO]...
  PATTERN ends with "/"   everything below that folder of the archive, keeping its relative path, goes below TO
  other PATTERN           files of that folder whose name matches: to the folder TO where that ends with "/" or is
                          empty, else to the file TO
A pattern that matches nothing is an error: a pin or a pattern is wrong then.
"""

import fnmatch
import hashlib
import pathlib
import posixpath
import sys
import tarfile
import zipfile


def members(archive):
    """Yields (name, bytes) of each regular file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as files:
            for info in files.infolist():
                if not info.is_dir():
                    yield info.filename, lambda info=info: files.read(info)
    else:
        with tarfile.open(archive) as files:
            for info in files:
                if info.isfile():
                    yield info.name, lambda info=info: files.extractfile(info).read()


def destination(name, pattern, to):
    """Where a file of the archive goes under this rule, or None."""
    if pattern.endswith("/"):
        return to + name[len(pattern):] if name.startswith(pattern) else None
    folder, wanted = posixpath.split(pattern)
    here, file = posixpath.split(name)
    if here != folder or not fnmatch.fnmatchcase(file, wanted):
        return None
    return to + file if to == "" or to.endswith("/") else to


def main(archive, sha256, folder, *rules):
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        sys.exit(f"the archive's SHA-256 is {found}, not {sha256}: it is not what was pinned")
    rules = list(zip(rules[::2], rules[1::2]))
    unused = set(rules)
    for name, read in members(archive):
        for rule in rules:
            to = destination(name, *rule)
            if to is None:
                continue
            if posixpath.isabs(to) or ".." in to.split("/"):
                sys.exit(f"the archive names a path outside of the folder: {to}")
            unused.discard(rule)
            target = pathlib.Path(folder, to)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = read()
            target.write_bytes(content)
            print(len(content), to)
            break
    if unused:
        sys.exit(f"nothing in the archive matches {sorted(pattern for pattern, _ in unused)}")


main(*sys.argv[1:])
