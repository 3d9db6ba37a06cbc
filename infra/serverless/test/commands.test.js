"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");

const { commands, wordsOf } = require("../lib/commands");

const SETTINGS = { stage: "prod", arguments: [] };

test("the commands and lifecycle events that there were before stay", () => {
  const events = Object.entries(commands.dynamodt.commands).map(([name, { lifecycleEvents }]) => [name, ...lifecycleEvents]);
  assert.deepEqual(events, [
    ["init", "init"], ["prepare", "prepare"], ["up", "transform"], ["down", "rollback"], ["history", "history"],
    ["status", "status"],
  ]);
});

test("the stage and the tables are handed on", () => {
  assert.deepEqual(wordsOf("init", ["a", "b"], {}, SETTINGS), ["init", "--table", "a", "--table", "b", "--stage", "prod"]);
});

test("what was typed goes before the settings", () => {
  const settings = { ...SETTINGS, runner: "glue", waitLock: "10m", arguments: ["--max-wcu", 200] };
  assert.deepEqual(wordsOf("up", [], {}, settings), [
    "up", "--stage", "prod", "--runner", "glue", "--wait-lock", "10m", "--max-wcu", "200",
  ]);
  assert.deepEqual(wordsOf("up", ["a"], { runner: "direct", "wait-lock": "1h", to: "2", dry: true }, settings), [
    "up", "--table", "a", "--stage", "prod", "--to", "2", "--runner", "direct", "--wait-lock", "1h", "--dry-run",
    "--max-wcu", "200",
  ]);
});

test("each command gets the words that it knows, and no others", () => {
  const settings = { ...SETTINGS, runner: "glue", waitLock: "10m", arguments: ["--journal"] };
  assert.deepEqual(wordsOf("down", ["a"], { dry: true, yes: true }, settings), [
    "down", "--table", "a", "--stage", "prod", "--runner", "glue", "--wait-lock", "10m", "--yes", "--dry-run",
  ]);
  assert.deepEqual(wordsOf("prepare", ["a"], { tNumber: 3 }, settings), [
    "prepare", "--table", "a", "--stage", "prod", "--tNumber", "3",
  ]);
  assert.deepEqual(wordsOf("history", [], {}, settings), ["history", "--stage", "prod"]);
});
