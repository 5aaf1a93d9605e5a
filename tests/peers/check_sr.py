"""Reads an SR with highdicom and prints what it states of segments, as another program understands it.

    check_sr.py SR.dcm

Prints a JSON list of measurement groups: {"finding", "tracking_uid", "seg", "segment", "measurements": [{"quantity",
"value", "unit"}]}, codes as SCHEME:VALUE. Exit status 1 with the reason on standard error when it cannot be read.
"""

import json
import sys

import highdicom


def code(concept):
    return f"{concept.scheme_designator}:{concept.value}"


def group(found):
    segment = found.referenced_segment
    return {
        "finding": code(found.finding_type),
        "tracking_uid": str(found.tracking_uid),
        "seg": str(segment.referenced_sop_instance_uid),
        "segment": int(segment.referenced_segment_numbers[0]),
        "measurements": [
            {"quantity": code(m.name), "value": m.value, "unit": code(m.unit)} for m in found.get_measurements()
        ],
    }


def main(path):
    try:
        report = highdicom.sr.srread(path)
        groups = [group(found) for found in report.content.get_volumetric_roi_measurement_groups()]
    except Exception as error:  # Whatever a reader trips over is a fault of the file.
        print(f"check_sr: {path}: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(groups, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
