"""Stores DICOM files on a DICOMweb server by STOW-RS (PS3.18 section 10.5) and asks for them back.

    stow.py BASE_URL FILE…          BASE_URL as in http://127.0.0.1:18042/dicom-web

Passes (status 0) when the server accepts every file without failure or warning and lists each instance afterwards.
"""

import json
import sys
import urllib.request

import pydicom

BOUNDARY = "gantry-stow-boundary"


def main():
    base, *paths = sys.argv[1:]
    body = b"".join(
        f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + open(path, "rb").read() + b"\r\n"
        for path in paths
    )
    request = urllib.request.Request(
        f"{base}/studies",
        data=body + f"--{BOUNDARY}--\r\n".encode(),
        headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
            "Accept": "application/dicom+json",
        },
    )
    reply = fetch(request)
    # Failed SOP Sequence, Referenced SOP Sequence and Warning Reason.
    failed = reply.get("00081198", {}).get("Value", [])
    stored = reply.get("00081199", {}).get("Value", [])
    faults = [f"failed: {item}" for item in failed]
    faults += [f"warning: {item}" for item in stored if "00081196" in item]
    if len(stored) != len(paths):
        faults.append(f"{len(stored)} of {len(paths)} files were stored")
    for path in paths:
        d = pydicom.dcmread(path, stop_before_pixels=True)
        query = f"{base}/studies/{d.StudyInstanceUID}/instances?SOPInstanceUID={d.SOPInstanceUID}"
        if len(fetch(urllib.request.Request(query, headers={"Accept": "application/dicom+json"}))) != 1:
            faults.append(f"{path}: not among the study's instances afterwards")
    print("\n".join(faults) or f"{len(paths)} files stored")
    sys.exit(bool(faults))


def fetch(request):
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else []


if __name__ == "__main__":
    main()
