"use strict";

// The DynamoDB tables among a service's CloudFormation resources, with their names after the deploy.

const TYPES = ["AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable"];
const MADE_UP = "AWS::SSM::"; // the value of such a parameter is the name of a value

const CLOSED = ["AWS::CloudFormation::Stack", "AWS::Serverless::Application", "AWS::Serverless::SimpleTable"];
const MODULE = "::MODULE"; // the end of a module's type

const isTable = (resource) => TYPES.includes(resource?.Type);

// Whether there is any table, under any condition.
function declaresTables(resources) {
  return Object.values(resources?.Resources ?? {}).some(isTable);
}

// The logical ids of what may hold tables that cannot be seen here: nested stacks, modules, and what a macro or a loop
// of CloudFormation (Fn::Transform, Fn::ForEach::NAME) generates.
function closedOf(resources) {
  const closed = ([id, { Type = "" } = {}]) => id.startsWith("Fn::") || CLOSED.includes(Type) || String(Type).endsWith(MODULE);
  return Object.entries(resources?.Resources ?? {}).filter(([id, one]) => closed([id, one ?? {}])).map(([id]) => id);
}

// `resources` is the service's `resources` section, `pseudo` the values of CloudFormation's pseudo parameters that are
// known before a deploy, `given` the framework's stack parameters. Returns { found, uncertain }: the tables' names by their
// logical ids, undefined where only CloudFormation knows the name; and the ids of tables whose condition only CloudFormation
// can resolve. A table whose condition is false is left out.
function tablesOf(resources, pseudo, given = {}) {
  const values = { ...plain(resources, { ...defaults(resources), ...given }), ...pseudo };
  const known = { values, conditions: resources?.Conditions ?? {} };
  const found = {};
  const uncertain = [];
  for (const [id, resource] of Object.entries(resources?.Resources ?? {})) {
    const there = isTable(resource) && (resource.Condition === undefined || conditionOf(resource.Condition, known));
    if (there === false) continue;
    if (there === undefined) uncertain.push(id);
    else found[id] = resolved(resource.Properties?.TableName, known);
  }
  return { found, uncertain };
}

// A table's key, as pairs of a name and a type, the partition key first; undefined where the template does not write it out.
function keyOf(resource) {
  const { KeySchema, AttributeDefinitions } = resource?.Properties ?? {};
  if (!isTable(resource) || !Array.isArray(KeySchema) || !Array.isArray(AttributeDefinitions)) return undefined;
  const types = new Map(AttributeDefinitions.map((one) => [one?.AttributeName, one?.AttributeType]));
  const named = ["HASH", "RANGE"].flatMap((role) => KeySchema.filter((one) => one?.KeyType === role)).map((one) => one.AttributeName);
  const key = named.map((name) => [name, types.get(name)]);
  return key.length && key.every((pair) => pair.every((part) => typeof part === "string")) ? key : undefined;
}

function defaults(resources) {
  return Object.fromEntries(Object.entries(resources?.Parameters ?? {}).map(([name, parameter]) => [name, parameter?.Default]));
}

// Without the parameters whose value must be looked up.
function plain(resources, values) {
  const isPlain = ([name]) => !String(resources?.Parameters?.[name]?.Type).startsWith(MADE_UP);
  return Object.fromEntries(Object.entries(values).filter(isPlain));
}

// A string, or Ref, Fn::Sub, Fn::Join or Fn::If of known values; else undefined.
function resolved(value, known) {
  if (["string", "number", "boolean"].includes(typeof value)) return String(value);
  if (value === null || typeof value !== "object") return undefined;
  if ("Ref" in value) return resolved(known.values[value.Ref], { ...known, values: {} });
  if ("Fn::Sub" in value) return substituted([value["Fn::Sub"]].flat(), known);
  if ("Fn::Join" in value) return joined(value["Fn::Join"], known);
  if ("Fn::If" in value) return either([value["Fn::If"]].flat(), known);
  return undefined;
}

function substituted([text, own], known) {
  if (typeof text !== "string") return undefined;
  const all = { ...known.values, ...own };
  let whole = true;
  const said = text.replace(/\$\{(!?)([^}]+)\}/g, (reference, literal, name) => {
    if (literal) return `\${${name}}`;
    const part = resolved(all[name], known);
    whole &&= part !== undefined;
    return part ?? reference;
  });
  return whole ? said : undefined;
}

function joined(value, known) {
  const [separator, parts] = Array.isArray(value) ? value : [];
  if (!Array.isArray(parts)) return undefined;
  const said = parts.map((part) => resolved(part, known));
  return said.includes(undefined) ? undefined : said.join(separator);
}

function either([name, yes, no], known) {
  const holds = conditionOf(name, known);
  return holds === undefined ? undefined : resolved(holds ? yes : no, known);
}

// Whether a condition holds, by its name; undefined if only CloudFormation can resolve it.
function conditionOf(name, known, above = []) {
  if (above.includes(name)) return undefined;
  return holds(known.conditions[name], known, [...above, name]);
}

function holds(condition, known, above) {
  if (condition === null || typeof condition !== "object") return undefined;
  const inner = (operator) => [condition[operator]].flat().map((one) => holds(one, known, above));
  if ("Condition" in condition) return conditionOf(condition.Condition, known, above);
  if ("Fn::Equals" in condition) return equal([condition["Fn::Equals"]].flat(), known);
  if ("Fn::Not" in condition) return negated(inner("Fn::Not")[0]);
  if ("Fn::Or" in condition) return negated(all(inner("Fn::Or").map(negated)));
  if ("Fn::And" in condition) return all(inner("Fn::And"));
  return undefined;
}

function equal(pair, known) {
  const [one, other] = pair.map((value) => resolved(value, known));
  return one === undefined || other === undefined ? undefined : one === other;
}

const negated = (value) => (value === undefined ? undefined : !value);

// One false value decides, even if others are unknown.
function all(values) {
  if (values.includes(false)) return false;
  return values.includes(undefined) ? undefined : true;
}

module.exports = { closedOf, declaresTables, isTable, keyOf, tablesOf };
