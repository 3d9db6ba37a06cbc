"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { mkdirSync, mkdtempSync, rmSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const path = require("node:path");
const { after, test } = require("node:test");

const { findProgram, lastError, run } = require("../lib/program");

const FOLDER = mkdtempSync(path.join(tmpdir(), "serverless-dynamodt-"));
const IN_IT = { folder: FOLDER, env: process.env };

after(() => rmSync(FOLDER, { recursive: true }));

function program(place, text = "", mode = 0o755) {
  const folder = path.join(FOLDER, place);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "dynamodt"), `#!/bin/sh\n${text}\n`, { mode });
  return folder;
}

test("a setting goes before all", () => {
  assert.deepEqual(findProgram("/opt/dynamodt", FOLDER), ["/opt/dynamodt"]);
  assert.deepEqual(findProgram(["poetry", "run", "dynamodt"], FOLDER), ["poetry", "run", "dynamodt"]);
});

test("the folder's own .venv goes before the PATH", () => {
  const bin = program("bin");
  assert.deepEqual(findProgram(undefined, path.join(FOLDER, "other"), bin), [path.join(bin, "dynamodt")]);
  const venv = program("project/.venv/bin");
  assert.deepEqual(findProgram(undefined, path.join(FOLDER, "project"), bin), [path.join(venv, "dynamodt")]);
});

test("the Node predecessor, which npm puts on the PATH, is not taken for it, nor what cannot be started", () => {
  const places = [program("app/node_modules/.bin"), program("plain", "", 0o644), "", path.join(FOLDER, "no-such-folder")];
  mkdirSync(path.join(FOLDER, "a-folder", "dynamodt"), { recursive: true });
  const searchPath = [...places, path.join(FOLDER, "a-folder")].join(path.delimiter);
  assert.equal(findProgram(undefined, path.join(FOLDER, "other"), searchPath), undefined);
});

test("it runs in its folder, and its exit code and last error are known", async () => {
  const text = "pwd; echo started >&2; echo 'error: 2 items could not be transformed' >&2; echo '  s3://b/dead' >&2; exit 3";
  const ended = await run(["/bin/sh"], ["-c", text], IN_IT);
  const said = "error: 2 items could not be transformed\n  s3://b/dead";
  assert.deepEqual(ended, { code: 3, said, signal: undefined });
});

test("the words before and after are one command", async () => {
  assert.equal((await run(["/bin/sh", "-c", 'test "$1" = "two words"', "sh"], ["two words"], IN_IT)).code, 0);
});

test("a program that cannot be started is an error that names it", async () => {
  const { code, said } = await run(["/no/such/dynamodt"], [], IN_IT);
  assert.equal(code, 127);
  assert.match(said, /^\/no\/such\/dynamodt cannot be started: .*ENOENT/);
});

test("one that was killed has the exit code of a shell", async () => {
  assert.equal((await run(["/bin/sh"], ["-c", "kill -9 $$"], IN_IT)).code, 137);
});

test("of several tables each error is kept, without colours and without what came before", () => {
  const text = "users v2: 10%\n\u001b[1;31merror: \u001b[0mone\n  here\nerror: other\nhint: do this\n\n";
  assert.equal(lastError(text), "error: one\n  here\nerror: other\nhint: do this");
  assert.equal(lastError("all is well\n"), "");
});

test("a signal reaches the program once, and its own way of ending is the outcome", async () => {
  const source = `
    const { run } = require(${JSON.stringify(path.join(__dirname, "..", "lib", "program"))});
    const text = "trap 'echo heard; exit 130' INT; echo ready; while true; do sleep 0.05; done";
    run(["/bin/sh"], ["-c", text], { folder: ".", env: process.env }).then((ended) => console.log(JSON.stringify(ended)));
  `;
  const outer = spawn(process.execPath, ["-e", source], { stdio: ["ignore", "pipe", "inherit"], detached: true });
  let said = "";
  outer.stdout.setEncoding("utf8").on("data", (chunk) => {
    if (!said.includes("ready") && (said + chunk).includes("ready")) process.kill(-outer.pid, "SIGINT"); // as Ctrl-C does
    said += chunk;
  });
  await new Promise((resolve) => outer.once("close", resolve));
  assert.deepEqual(said.trim().split("\n"), ["ready", "heard", '{"code":130,"said":"","signal":"SIGINT"}']);
});
