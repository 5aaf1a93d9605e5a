"""fhir.resources on a transaction Bundle that Gantry wrote.

    judge_fhir.py BUNDLE.json EXPECTED.json

Passes (status 0) when the Bundle and every resource in it are valid FHIR (R4B, which for these resources is R4), every reference
within it leads to an entry, every entry is conditional, and there are the resources that EXPECTED counts: {"Observation": 3, …}.
"""

import collections
import json
import sys

from fhir.resources.R4B.bundle import Bundle


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    expected = json.load(open(sys.argv[2]))
    # Each resource is validated as what its resourceType says; what is not of FHIR is refused.
    bundle = Bundle.model_validate_json(text)
    faults = []
    if bundle.type != "transaction":
        faults.append(f"the Bundle is a {bundle.type}")
    urls = [entry.fullUrl for entry in bundle.entry]
    if len(set(urls)) != len(urls):
        faults.append("two entries have one fullUrl")
    plain = json.loads(text)
    for entry in plain["entry"]:
        request = entry["request"]
        kind = entry["resource"]["resourceType"]
        conditional = "ifNoneExist" in request or "?identifier=" in request["url"] or request["url"].startswith("Provenance/")
        if not conditional:
            faults.append(f"{kind}: sent twice it would be there twice")
        for reference in references(entry["resource"]):
            if reference not in urls and not reference.startswith("Patient?identifier="):
                faults.append(f"{kind} refers to {reference}, which is no entry")
    counts = collections.Counter(entry["resource"]["resourceType"] for entry in plain["entry"])
    if dict(counts) != expected:
        faults.append(f"there are {dict(counts)}, not {expected}")
    print("\n".join(faults) or f"{len(urls)} entries")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
