"use strict";

// `custom.dynamodt` of serverless.yml, with every key checked: a misspelt `enabled` must not migrate a table.

const isText = (value) => typeof value === "string" && value.trim() !== "";
const isWord = (value) => isText(value) || typeof value === "number";
const isList = (value) => Array.isArray(value) && value.every(isWord);
const isMapping = (value) => value !== null && typeof value === "object" && Object.values(value).every(isWord);

const KEYS = {
  enabled: [(value) => typeof value === "boolean", "true or false"],
  command: [(value) => isText(value) || (isList(value) && value.length > 0), "a program, or a list of arguments"],
  folder: [isText, "the folder that holds transforms/"],
  stage: [isText, "a stage of dynamodt.toml"],
  runner: [isText, "a runner, such as direct or glue"],
  tables: [isMapping, "a list of folders, or a mapping of each to a resource's logical id or a table's name"],
  waitLock: [isText, "a duration, such as 10m"],
  arguments: [isList, "a list of further arguments for `dynamodt up`"],
};

const DEFAULTS = { enabled: true, folder: ".", arguments: [] };

// The settings for one stage of the framework: those of `stages.NAME` override those beside `stages`.
// Throws an Error that names the key.
function settingsOf(custom, stage) {
  const { stages, ...general } = asMapping(custom, "custom.dynamodt");
  const each = Object.entries(asMapping(stages, "custom.dynamodt.stages")).map(([name, said]) => [name, ofStage(name, said)]);
  const own = Object.fromEntries(each)[stage];
  return { ...DEFAULTS, stage, ...checked(general, "custom.dynamodt"), ...own };
}

function ofStage(name, said) {
  const where = `custom.dynamodt.stages.${name}`;
  return typeof said === "string" ? { stage: said } : checked(asMapping(said, where), where);
}

function asMapping(value, where) {
  if (value == null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new Error(`${where} must be a mapping`);
  return value;
}

function checked(mapping, where) {
  const said = Object.entries(mapping).filter(([, value]) => value != null);
  for (const [key, value] of said) {
    const [fits, expected] = KEYS[key] ?? [];
    if (!fits) throw new Error(`${where}.${key} is not known; the keys are: ${Object.keys(KEYS).join(", ")}, stages`);
    if (!fits(value)) throw new Error(`${where}.${key} must be ${expected}, not ${JSON.stringify(value)}`);
  }
  return Object.fromEntries(said);
}

module.exports = { settingsOf };
