"""Judges an SR by other people's software: dciodvfy, highdicom, dcmqi and PixelMed's DicomSRValidator.

    judge_sr.py SR SEG|- EXPECTED_JSON [--pixelmed]

EXPECTED_JSON says what the module measured of segments (Segment Number in the SEG, concept, value, unit):

    [{"number": 1, "quantity": "118565006", "value": 1234.5, "unit": "mL"}]

`-` stands for no SEG. `--pixelmed` makes PixelMed's validator compulsory; without it, it judges where Java and the
jars are installed (Debian: libpixelmed-java, default-jre-headless). Passes with status 0; otherwise prints each fault
and ends with status 1.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import highdicom
import pydicom

BIN = pathlib.Path(sys.executable).parent
JARS = pathlib.Path("/usr/share/java")
# Without these, newer Java refuses the size of the validator's style sheets.
XPATH_LIMITS = [f"-Djdk.xml.{limit}=0" for limit in ("xpathExprOpLimit", "xpathTotalOpLimit", "xpathExprGrpLimit")]


def main():
    arguments = [a for a in sys.argv[1:] if a != "--pixelmed"]
    sr, seg, expected_path = arguments
    expected = json.loads(pathlib.Path(expected_path).read_text())
    faults = conforms(sr) + by_pixelmed(sr, "--pixelmed" in sys.argv) + by_highdicom(sr, seg, expected)
    if seg != "-":
        faults += by_dcmqi(sr, expected)
    for fault in faults:
        print(fault)
    print("not as expected" if faults else f"{len(expected)} measurements as expected")
    sys.exit(bool(faults))


def conforms(path):
    run = subprocess.run([BIN / "dciodvfy", path], capture_output=True, text=True, errors="replace")
    return [f"dciodvfy: {line}" for line in (run.stderr + run.stdout).splitlines() if line.startswith(("Error", "Abort"))]


def by_pixelmed(path, compulsory):
    if not shutil.which("java") or not (JARS / "pixelmed.jar").exists():
        print("PixelMed: skipped: apt-get install libpixelmed-java default-jre-headless")
        return ["PixelMed: not installed"] if compulsory else []
    jars = ":".join(map(str, sorted(JARS.glob("*.jar"))))
    validator = ["java", *XPATH_LIMITS, "-cp", jars, "com.pixelmed.validate.DicomSRValidator", path]
    run = subprocess.run(validator, capture_output=True, text=True)
    lines = (run.stdout + run.stderr).splitlines()
    faults = [f"PixelMed: {line}" for line in lines if line.startswith("Error")]
    # It says nothing at all of a file that it cannot read: silence is no praise.
    for said in ("Found Root Template TID_1500", "IOD validation complete"):
        if not any(line.startswith(said) for line in lines):
            faults.append(f"PixelMed: never said `{said}`: {' '.join(lines)[-400:]}")
    return faults


def by_highdicom(path, seg, expected):
    report = highdicom.sr.srread(path)
    found, faults = [], []
    groups = report.content.get_volumetric_roi_measurement_groups()
    for group in groups:
        referred = group.referenced_segment
        if referred is None:
            faults.append("highdicom: a group without a segment")
            continue
        number = int(referred.referenced_segment_numbers[0])
        uid = referred.referenced_sop_instance_uid
        if seg == "-" or uid != pydicom.dcmread(seg, stop_before_pixels=True).SOPInstanceUID:
            faults.append(f"highdicom: segment {number} is of another SEG")
        found += [(number, m.name.value, m.value, m.unit.value) for m in group.get_measurements()]
    for m in expected:
        same = [f for f in found if f[:2] == (m["number"], m["quantity"]) and f[3] == m["unit"]]
        if len(same) != 1 or abs(same[0][2] - m["value"]) > 1e-9 * max(1, abs(m["value"])):
            faults.append(f"highdicom: {m} is not among {found}")
    return faults + evidence(pydicom.dcmread(path), seg)


def evidence(report, seg):
    """Everything that the content refers to is listed as evidence (PS3.3 C.17.2.3)."""
    listed, used = set(), set()
    for study in report.get("CurrentRequestedProcedureEvidenceSequence", []):
        for series in study.ReferencedSeriesSequence:
            listed |= {s.ReferencedSOPInstanceUID for s in series.ReferencedSOPSequence}

    def visit(item):
        if item.get("ValueType") in ("IMAGE", "COMPOSITE"):
            used.update(s.ReferencedSOPInstanceUID for s in item.ReferencedSOPSequence)
        for child in item.get("ContentSequence", []):
            visit(child)

    visit(report)
    faults = [] if used <= listed else [f"{len(used - listed)} referred instances are not listed as evidence"]
    images = listed - ({pydicom.dcmread(seg, stop_before_pixels=True).SOPInstanceUID} if seg != "-" else set())
    return faults if images else [*faults, "no source image is listed as evidence"]


def by_dcmqi(path, expected):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "sr.json"
        tool = [BIN / "tid1500reader", "--inputDICOM", path, "--outputMetadata", out]
        run = subprocess.run(tool, capture_output=True, text=True)
        if run.returncode or not out.exists():
            return [f"dcmqi: tid1500reader ended with {run.returncode}: {(run.stderr or run.stdout)[-400:]}"]
        read = json.loads(out.read_text())
    found = [
        (int(group["ReferencedSegment"]), item["quantity"]["CodeValue"], float(item["value"]), item["units"]["CodeValue"])
        for group in read["Measurements"]
        if "ReferencedSegment" in group
        for item in group.get("measurementItems", [])
    ]
    faults = []
    for m in expected:
        same = [f for f in found if f[:2] == (m["number"], m["quantity"]) and f[3] == m["unit"]]
        if len(same) != 1 or abs(same[0][2] - m["value"]) > 1e-6 * max(1, abs(m["value"])):
            faults.append(f"dcmqi: {m} is not among {found}")
    return faults


if __name__ == "__main__":
    main()
