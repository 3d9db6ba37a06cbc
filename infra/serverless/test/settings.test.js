"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");

const { settingsOf } = require("../lib/settings");

test("without settings, up runs after each deploy, on the stage of the same name", () => {
  assert.deepEqual(settingsOf(undefined, "prod"), { enabled: true, folder: ".", arguments: [], stage: "prod" });
});

test("a stage's own settings go before the general ones, and a text is the stage's name in dynamodt.toml", () => {
  const custom = { runner: "direct", enabled: false, stages: { prod: { runner: "glue", enabled: true }, dev: "development" } };
  assert.deepEqual(settingsOf(custom, "prod"), {
    enabled: true, folder: ".", arguments: [], stage: "prod", runner: "glue",
  });
  assert.deepEqual(settingsOf(custom, "dev"), {
    enabled: false, folder: ".", arguments: [], stage: "development", runner: "direct",
  });
});

test("a variable that was resolved to nothing is as if it had not been written", () => {
  assert.equal(settingsOf({ enabled: null, stages: null }, "prod").enabled, true);
});

test("a key that is misspelt is an error that names it, also under a stage that is not the one at hand", () => {
  assert.throws(() => settingsOf({ enable: false }, "prod"), /custom\.dynamodt\.enable is not known.*enabled, /);
  assert.throws(() => settingsOf({ stages: { dev: { runer: "x" } } }, "prod"), /custom\.dynamodt\.stages\.dev\.runer/);
});

for (const [name, custom] of Object.entries({
  "a text for true or false": { enabled: "false" },
  "one table for a list": { tables: "users" },
  "no program": { command: [] },
  "a number of minutes": { waitLock: 10 },
  "a text for all": "prod",
  "a list of stages": { stages: ["prod"] },
})) {
  test(`${name} is an error`, () => assert.throws(() => settingsOf(custom, "prod"), /custom\.dynamodt.* must be /));
}
