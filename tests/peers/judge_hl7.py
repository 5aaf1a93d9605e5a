"""hl7apy on a message of HL7 v2 that Gantry wrote.

    judge_hl7.py FILE EXPECTED.json

Passes (status 0) when hl7apy parses it into the groups of its structure, finds no error in it, and reads in it what EXPECTED
names: "TYPE" of the message, and for each "SEGMENT-FIELD" a list of the values of that field in all such segments, in order.
"""

import json
import sys

from hl7apy.parser import parse_message
from hl7apy.validation import Validator

# MSH-18 → Python.
CODECS = {"": "ascii", "8859/1": "latin-1", "UNICODE UTF-8": "utf-8", "ISO IR87": "iso2022_jp"}


def main():
    data = open(sys.argv[1], "rb").read()
    expected = json.load(open(sys.argv[2]))
    charset = data.split(b"\r")[0].split(b"|")[17:18]
    text = data.decode(CODECS[charset[0].decode() if charset else ""])
    faults = []

    # hl7apy wants all of what ORM offers a choice of, so of that each segment is judged by itself.
    chooses = expected["TYPE"].startswith("ORM")
    message = parse_message(text, find_groups=not chooses)
    for part in message.children if chooses else [message]:
        report = sys.argv[1] + ".report"
        if not Validator.validate(part, report_file=report):
            faults.append(f"hl7apy: {part.name} is not valid")
        # Warnings are about values that came into tables after 2.5.1 was printed: SCT and UCUM for one.
        faults += [line for line in open(report).read().splitlines() if not line.startswith("Warning") and line]

    kind = message.msh.msh_9.to_er7()
    if kind != expected.pop("TYPE"):
        faults.append(f"it is {kind}")
    segments = text.rstrip("\r").split("\r")
    for name, values in expected.items():
        segment, field = name.split("-")
        found = []
        for line in segments:
            if line.startswith(segment + "|"):
                parts = parse_message(f"MSH|^~\\&|||||||ACK|1|P|2.5.1\r{line}\r", find_groups=False)
                # Of hl7apy's own reading, not of the text's.
                child = parts.children[1]
                repetitions = getattr(child, f"{segment.lower()}_{field}") if child.children else []
                found.append("~".join(repetition.to_er7() for repetition in repetitions))
        if found != values:
            faults.append(f"{name} is {found}, not {values}")

    print("\n".join(faults) or f"{kind}: {len(segments)} segments")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
