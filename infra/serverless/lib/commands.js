"use strict";

// `sls dynamodt ...`: the commands with their options, and the arguments of dynamodt for each. The lifecycle events are
// those of dynamo-data-transform, so that hooks on them keep working.

const table = { usage: "The table", shortcut: "t", type: "string" };
const dry = { usage: "Write nothing; show what would be done", shortcut: "d", type: "boolean" };
const to = { usage: "The version to end at", type: "string" };
const runner = { usage: "Where it runs, such as direct or glue", type: "string" };
const yes = { usage: "Do not ask for confirmation", type: "boolean" };
const waitLock = { usage: "How long to wait (90s, 10m, 1h) for another run on the table", type: "string" };
const tNumber = { usage: "The version to prepare for", type: "string", required: true };

const needed = (option) => ({ ...option, required: true });

const commands = {
  dynamodt: {
    usage: "Data transformations of the service's DynamoDB tables",
    commands: {
      init: {
        usage: "Create a folder with a template v1 for each table of the service",
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
        usage: "Roll back the latest version of a table",
        lifecycleEvents: ["rollback"],
        options: { table: needed(table), to, dry, yes, runner, "wait-lock": waitLock },
      },
      history: {
        usage: "Show the runs: when, by whom, with what counts",
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

// The arguments of one dynamodt command; `options` are those of `sls dynamodt`.
function wordsOf(verb, tables, options, settings) {
  const words = [verb, ...tables.flatMap((name) => option("--table", name)), ...option("--stage", settings.stage)];
  const pairs = [["--tNumber", options.tNumber], ["--to", options.to]];
  if (verb === "up" || verb === "down") {
    pairs.push(["--runner", options.runner ?? settings.runner]);
    pairs.push(["--wait-lock", options["wait-lock"] ?? settings.waitLock]);
  }
  for (const [flag, value] of pairs) if (value != null) words.push(...option(flag, String(value)));
  if (options.yes && verb === "down") words.push("--yes");
  if (options.dry) words.push("--dry-run");
  return verb === "up" ? [...words, ...settings.arguments.map(String)] : words;
}

// A value that begins with a hyphen, as a table's name may, would be parsed as an option.
function option(flag, value) {
  return value.startsWith("-") ? [`${flag}=${value}`] : [flag, value];
}

module.exports = { commands, wordsOf };
