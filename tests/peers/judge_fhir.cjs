// npm's `fhir` on a transaction Bundle that Gantry wrote: `node judge_fhir.cjs BUNDLE.json`, with NODE_PATH where `fhir` is.
//
// Passes (status 0) when neither the Bundle nor a resource in it has an error, or a warning but for codes that are in no value set
// of its own: it has none of SNOMED, LOINC and DICOM.
const { readFileSync } = require("node:fs");
const { Fhir } = require("fhir");

const bundle = JSON.parse(readFileSync(process.argv[2], "utf8"));
const fhir = new Fhir();
const faults = [];
for (const resource of [bundle, ...bundle.entry.map((entry) => entry.resource)]) {
    const { valid, messages } = fhir.validate(resource, { errorOnUnexpected: true });
    const serious = messages.filter(({ severity, message }) =>
        severity === "error" || severity === "fatal" || (severity === "warning" && !message.endsWith("not found in value set")));
    if (!valid || serious.length > 0) {
        faults.push(...serious.map(({ location, message }) => `${resource.resourceType}: ${location}: ${message}`));
    }
}
console.log(faults.join("\n") || `${bundle.entry.length} resources`);
process.exit(faults.length > 0 ? 1 : 0);
