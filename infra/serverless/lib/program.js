"use strict";

// The `dynamodt` program: finding it, running it, and what it said when it failed.

const { spawn } = require("node:child_process");
const { accessSync, constants, statSync } = require("node:fs");
const { constants: os } = require("node:os");
const path = require("node:path");
const { stripVTControlCharacters } = require("node:util");

const NAME = "dynamodt";
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
const KEPT = 16 * 1024; // characters of what it says last
const NOT_FOUND = 127; // as a shell has it

// The words that start the program: the setting, or the one of the folder's own .venv, or the one on the PATH; undefined
// where there is none. npm puts node_modules/.bin first on the PATH, and what lies there under this name is the Node
// predecessor, which knows nothing of these transformations and ends with 0.
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

// Runs it to its end; its output is streamed through. Resolves to { code, said, signal }: `said` is the error that it
// told last (known where stderr is no terminal; on a terminal it stands there, below its progress bars), `signal` the
// one that has reached this process meanwhile. The program is given each signal once: it ends after the page in flight.
function run([file, ...first], words, { folder, env }) {
  const terminal = Boolean(process.stderr.isTTY);
  const signals = forwarded(() => child); // before it starts: none may end us and leave it alone
  const child = spawn(file, [...first, ...words], {
    cwd: folder,
    env,
    detached: true, // the terminal's Ctrl-C would reach it beside ours, and a second one means: leave at once
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

// From the first line that begins with "error: " on: of several tables each has its own.
function lastError(text) {
  const lines = stripVTControlCharacters(text).trimEnd().split("\n");
  const first = lines.findIndex((line) => line.startsWith("error: "));
  return first < 0 ? "" : lines.slice(first).join("\n");
}

module.exports = { findProgram, lastError, run };
