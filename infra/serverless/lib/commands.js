"use strict";

// `sls dynamodt ...`: the commands with their options, lifecycle events as in dynamo-data-transform, so that what hooks
// on them goes on working, and the words that each of them asks dynamodt for.

const table = { usage: "The table", shortcut: "t", type: "string" };
const dry = { usage: "Write nothing; show what would be done", shortcut: "d", type: "boolean" };
const to = { usage: "The version to end at", type: "string" };
const runner = { usage: "Where it runs, such as direct or glue", type: "string" };
const waitLock = { usage: "Wait so long (90s, 10m, 1h) for another run on the table", type: "string" };
const tNumber = { usage: "The version to prepare for", type: "string", required: true };

const needed = (option) => ({ ...option, required: true });

const commands = {
  dynamodt: {
    usage: "Data transformations of the service's DynamoDB tables",
    commands: {
      init: {
        usage: "Make a folder with a template v1 for each table of the service",
        lifecycleEvents: ["init"],
        options: { table, dry },
      },
      prepare: {
        usage: "Gather the data that a version joins, and store it encrypted",
        lifecycleEvents: ["prepare"],
        options: { table: needed(table), tNumber, dry },
      },
      up: {
        usage: "Apply every pending version of the service's tables",
        lifecycleEvents: ["transform"],
        options: { table, to, dry, runner, "wait-lock": waitLock },
      },
      down: {
        usage: "Take the latest version of a table back",
        lifecycleEvents: ["rollback"],
        options: { table: needed(table), to, dry, runner, "wait-lock": waitLock },
      },
      history: {
        usage: "Show what ran: when, by whom, with what counts",
        lifecycleEvents: ["history"],
        options: { table },
      },
      status: {
        usage: "Show what is applied, pending, unfinished, edited or missing",
        lifecycleEvents: ["status"],
        options: { table },
      },
    },
  },
};

// The words of one dynamodt command: `tables` are those it is about, `options` what was typed after `sls dynamodt`.
function wordsOf(verb, tables, options, settings) {
  const words = [verb, ...tables.flatMap((name) => option("--table", name)), ...option("--stage", settings.stage)];
  const pairs = [["--tNumber", options.tNumber], ["--to", options.to]];
  if (verb === "up" || verb === "down") {
    pairs.push(["--runner", options.runner ?? settings.runner]);
    pairs.push(["--wait-lock", options["wait-lock"] ?? settings.waitLock]);
  }
  for (const [flag, value] of pairs) if (value != null) words.push(...option(flag, String(value)));
  if (options.dry) words.push("--dry-run");
  return verb === "up" ? [...words, ...settings.arguments.map(String)] : words;
}

// A value that begins with a hyphen, as a table's name may, would be taken for an option of its own.
function option(flag, value) {
  return value.startsWith("-") ? [`${flag}=${value}`] : [flag, value];
}

module.exports = { commands, wordsOf };
