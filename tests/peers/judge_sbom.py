"""Is this CycloneDX 1.6, and are its references whole? Usage: judge_sbom.py FILE..."""

import json
import re
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing
from packageurl import PackageURL


def judge(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        yield f"not by the schema: {wrong}"
        return
    bom = json.loads(text)
    components = bom["components"] + [bom["metadata"]["component"]]
    refs = [component["bom-ref"] for component in components]
    if len(refs) != len(set(refs)):
        yield "two components have one bom-ref"
    for dependency in bom["dependencies"]:
        for ref in [dependency["ref"], *dependency.get("dependsOn", [])]:
            if ref not in refs:
                yield f"{ref} is referred to and is not there"
    spdx = get_spdx_licensing()
    for component in components:
        if "purl" in component:
            purl = PackageURL.from_string(component["purl"])
            if (purl.name, purl.version) != (component["name"], component["version"]):
                yield f"{component['purl']} is not {component['name']} {component['version']}"
        for license in component.get("licenses", []):
            errors = spdx.validate(license["expression"]).errors
            known = re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", license["expression"])
            if errors and not known:
                yield f"{component['name']}: {errors}"
    reached, ahead = set(), ["module"]
    edges = {dependency["ref"]: dependency.get("dependsOn", []) for dependency in bom["dependencies"]}
    while ahead:
        ref = ahead.pop()
        if ref not in reached:
            reached.add(ref)
            ahead.extend(edges.get(ref, []))
    for ref in sorted(set(refs) - reached):
        yield f"{ref} is part of nothing"


def main():
    failed = False
    for path in sys.argv[1:]:
        for why in judge(path):
            failed = True
            print(f"{path}: {why}")
    sys.exit(1 if failed else 0)


main()
