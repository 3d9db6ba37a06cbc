"use strict";

// The DynamoDB tables among a service's CloudFormation resources, by the names that they have when they are deployed.

const TYPES = ["AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable"];

// `resources` is the service's `resources` section, `pseudo` the values of CloudFormation's pseudo parameters that are
// known before a deploy. Returns { names, unnamed }: the latter are logical ids of tables whose name only CloudFormation
// knows, since it makes one up or joins it from what it has created.
function tablesOf(resources, pseudo) {
  const defaults = Object.entries(resources?.Parameters ?? {}).map(([name, parameter]) => [name, parameter?.Default]);
  const known = { ...Object.fromEntries(defaults), ...pseudo };
  const names = [];
  const unnamed = [];
  for (const [id, resource] of Object.entries(resources?.Resources ?? {})) {
    if (!TYPES.includes(resource?.Type)) continue;
    const name = resolved(resource.Properties?.TableName, known);
    if (name === undefined) unnamed.push(id);
    else names.push(name);
  }
  return { names, unnamed };
}

// A text, or Ref, Fn::Sub or Fn::Join of what is known; else undefined.
function resolved(value, known) {
  if (typeof value === "string" || typeof value === "number") return String(value);
  if (value === null || typeof value !== "object") return undefined;
  if ("Ref" in value) return resolved(known[value.Ref], {});
  if ("Fn::Sub" in value) return substituted([value["Fn::Sub"]].flat(), known);
  if ("Fn::Join" in value) return joined(value["Fn::Join"], known);
  return undefined;
}

function substituted([text, own], known) {
  if (typeof text !== "string") return undefined;
  const all = { ...known, ...own };
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

module.exports = { tablesOf };
