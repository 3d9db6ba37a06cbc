"use strict";

// The `dynamodt` program: finds it, runs it, and keeps the end of its output.

const { spawn } = require("node:child_process");
const { accessSync, constants, statSync } = require("node:fs");
const { constants: os } = require("node:os");
const path = require("node:path");
const { stripVTControlCharacters } = require("node:util");

const NAME = "dynamodt";
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
const KEPT = 16 * 1024; // characters of its last output
const NOT_FOUND = 127; // a shell's exit code

// The command that starts the program: the setting, or that of the folder's .venv, or that on the PATH; undefined if
// there is none. npm puts node_modules/.bin first on the PATH; the program there is the Node package dynamo-data-transform,
// which ignores these transformations and exits with 0.
function findProgram(command, folder, searchPath = process.env.PATH ?? "") {
  if (command !== undefined) return [command].flat().map(String);
  const venv = path.join(folder, ".venv", "bin");
  const places = searchPath.split(path.delimiter).filter((place) => place && !isOfNode(place));
  const found = [venv, ...places].map((place) => path.join(place, NAME)).find(isProgram);
  return found && [found];
}

function isOfNode(place) {
  return path.normalize(place).split(path.sep).slice(-2).join("/") === "node_modules/.bin";
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

// Runs it and passes its output through. Resolves to { code, said, signal }: `said` is its last error (unless stderr is a
// terminal, where it is displayed already), `signal` the first signal that this process has received. Each signal is
// forwarded once; the program ends between two requests.
function run([file, ...first], words, { folder, env }) {
  const terminal = Boolean(process.stderr.isTTY);
  const signals = forwarded(() => child); // before the start, so that no signal ends this process alone
  const child = spawn(file, [...first, ...words], {
    cwd: folder,
    env,
    detached: true, // otherwise Ctrl-C reaches it twice, and a second signal ends it at once
    stdio: ["ignore", "inherit", terminal ? "inherit" : "pipe"],
  });
  const tail = passedOn(child.stderr);
  return new Promise((resolve) => {
    const end = (code, said) => resolve({ code, said, signal: signals.stop() });
    child.once("error", (error) => end(NOT_FOUND, `${file} cannot be started: ${error.message}`));
    child.once("close", (code, signal) => end(code ?? 128 + os.signals[signal], lastError(tail.text)));
  });
}

function passedOn(stream) {
  const tail = { text: "" };
  stream?.setEncoding("utf8").on("data", (chunk) => {
    process.stderr.write(chunk);
    tail.text = (tail.text + chunk).slice(-KEPT);
  });
  return tail;
}

function forwarded(program) {
  let arrived;
  const forward = (signal) => {
    arrived ??= signal;
    program().kill(signal);
  };
  for (const signal of SIGNALS) process.on(signal, forward);
  return {
    stop() {
      for (const signal of SIGNALS) process.off(signal, forward);
      return arrived;
    },
  };
}

// From the first line that begins with "error: " to the end: each table has its own error.
function lastError(text) {
  const lines = stripVTControlCharacters(text).trimEnd().split("\n");
  const first = lines.findIndex((line) => line.startsWith("error: "));
  return first < 0 ? "" : lines.slice(first).join("\n");
}

module.exports = { findProgram, lastError, run };
