// Tries to reach what no module may reach, and says what came of it: `NAME: refused` or `NAME = VALUE`.

import { write } from "gantry:imaging/log@0.1.0";

function attempt(what, act) {
  try {
    write("info", `${what} = ${JSON.stringify(act())}`);
  } catch (error) {
    write("info", `${what}: refused (${error.name})`);
  }
}

export function analyze() {
  attempt("files", () => require("fs").readFileSync("/etc/passwd"));
  attempt("variables", () => process.env);
  // A call of `fetch` would be the end: it traps where there is no `wasi:http`.
  write("info", `fetch = ${typeof fetch}`);
  attempt("clock", () => Date.now());
  attempt("passed", () => {
    const start = performance.now();
    let sum = 0;
    for (let i = 0; i < 1000000; i++) sum += i;
    return sum && performance.now() - start;
  });
  attempt("random", () => Array.from(crypto.getRandomValues(new Uint8Array(8))));
  attempt("random uuid", () => crypto.randomUUID());
  console.log("printed");
  console.error("complained");
}
