"use strict";

// What the plugin asks dynamodt for, by a program that only shows its words.

const assert = require("node:assert/strict");
const { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const path = require("node:path");
const { after, beforeEach, test } = require("node:test");

const Plugin = require("..");

const FOLDER = mkdtempSync(path.join(tmpdir(), "serverless-dynamodt-"));
const SHOWN = path.join(FOLDER, "shown");
const NAMES = ["AWS_ACCESS_KEY_ID", "AWS_REGION", "DYNAMODT_EXPECTED_ACCOUNT", "DYNAMODT_EXPECTED_REGION", "DYNAMODT_SERVICE"];
const table = (TableName, more = {}) => ({ Type: "AWS::DynamoDB::Table", Properties: { TableName }, ...more });
const NEVER = { Never: { "Fn::Equals": ["a", "b"] } };

for (const name of ["billing", "users", "_events", ".audit"]) mkdirSync(path.join(FOLDER, "transforms", name), { recursive: true });
symlinkSync(path.join(FOLDER, "transforms/users"), path.join(FOLDER, "transforms/people"));
mkdirSync(path.join(FOLDER, ".venv/bin"), { recursive: true });
const shows = `#!/bin/sh\necho "$*" > ${SHOWN}\n${NAMES.map((name) => `echo "$${name}" >> ${SHOWN}`).join("\n")}\n`;
writeFileSync(path.join(FOLDER, ".venv/bin/dynamodt"), shows, { mode: 0o755 });
beforeEach(() => writeFileSync(SHOWN, ""));
after(() => rmSync(FOLDER, { recursive: true }));

function plugin({ Resources = {}, Conditions, custom, provider = {}, stackParameters, options = {} }) {
  const notices = [];
  const log = { notice: (text) => notices.push(text), warning: (text) => notices.push(text), info() {} };
  const serverless = {
    serviceDir: FOLDER,
    service: { service: "users", custom: { dynamodt: custom }, resources: { Resources, Conditions }, provider: { stackParameters } },
    classes: { Error },
    getProvider: () => ({
      getStage: () => "prod",
      getRegion: () => "eu-west-1",
      getAccountId: async () => "123456789012",
      naming: { getStackName: () => "users-prod" },
      ...provider,
    }),
  };
  return Object.assign(new Plugin(serverless, options, { log }), { notices });
}

const shown = () => readFileSync(SHOWN, "utf8").split("\n");
const words = () => shown()[0];
const ofService = () => JSON.parse(shown()[5]);

test("the account, the region and the credentials are the framework's", async () => {
  const found = { accessKeyId: "FRAMEWORKS", secretAccessKey: "s" };
  await plugin({ Resources: { U: table("users") }, provider: { getAwsSdkV3CredentialsProvider: () => async () => found } }).afterDeploy();
  assert.deepEqual(shown().slice(0, 5), ["up --table users --stage prod", "FRAMEWORKS", "eu-west-1", "123456789012", "eu-west-1"]);
});

for (const [name, TableName] of Object.entries({
  "a name that is imported": { "Fn::ImportValue": "users-name" },
  "a name that CloudFormation makes up": undefined,
  "a name of an attribute": { "Fn::Sub": "users-${Key.Arn}" },
})) {
  test(`${name} is looked up in the stack, for the folder of the logical id`, async () => {
    await plugin({ Resources: { Users: table(TableName), Billing: table("billing") } }).afterDeploy();
    assert.equal(words(), "up --table billing --stage prod");
    mkdirSync(path.join(FOLDER, "transforms/Users"));
    const made = plugin({ Resources: { Users: table(TableName), Billing: table("billing") } });
    await made.afterDeploy();
    rmSync(path.join(FOLDER, "transforms/Users"), { recursive: true });
    assert.equal(words(), "up --table Users --table billing --stage prod");
    assert.deepEqual(ofService().tables, { Users: "cfn:users-prod.Users", billing: "billing" });
  });
}

for (const [name, Resources] of Object.entries({
  "a condition that is not known": { Users: table("users", { Condition: "Somewhere" }) },
  "a nested stack": { Users: { Type: "AWS::CloudFormation::Stack", Properties: { TemplateURL: "https://t" } } },
  "a module": { Users: { Type: "Company::Data::Users::MODULE" } },
  "a table of another transform": { Users: { Type: "AWS::Serverless::SimpleTable" } },
  "a loop": { "Fn::ForEach::Users": ["Name", ["a"], { "${Name}": table({ "Fn::Sub": "${Name}" }) }] },
  "one that is known beside one that is not": { Billing: table("billing"), Users: table("users", { Condition: "Somewhere" }) },
})) {
  test(`${name} is an error that names the table, and no table is migrated, before the deploy and after it`, async () => {
    for (const command of ["beforeDeploy", "afterDeploy", "init"]) {
      await assert.rejects(async () => plugin({ Resources })[command](), /Users.*custom\.dynamodt\.tables/);
    }
    await assert.rejects(async () => plugin({ Resources }).read("status"), /Users/);
    assert.equal(words(), "");
  });
  test(`${name} is none where the tables are named`, async () => {
    await plugin({ Resources, custom: { tables: ["users"] } }).afterDeploy();
    assert.equal(words(), "up --table users --stage prod");
  });
}

test("a folder of the logical id has the table's name, and one of the setting that of its resource", async () => {
  const Resources = { billing: table("shop-prod-billing"), Users: table(undefined) };
  await plugin({ Resources }).afterDeploy();
  assert.equal(words(), "up --table billing --stage prod");
  assert.deepEqual(ofService().tables, { billing: "shop-prod-billing", Users: "cfn:users-prod.Users" });
  await plugin({ Resources, custom: { tables: { users: "Users", billing: "shop-billing" } } }).afterDeploy();
  assert.equal(words(), "up --table users --table billing --stage prod");
  assert.deepEqual(ofService().tables, { users: "cfn:users-prod.Users", billing: "shop-billing" });
  await plugin({ Resources, custom: { tables: ["users"], stage: "production" } }).afterDeploy();
  assert.deepEqual(ofService(), { stage: "production", serverless: "prod", tables: {} });
});

const BUCKET = { getServerlessDeploymentBucketName: async () => "deployment", getDeploymentPrefix: () => "serverless" };
const KNOWS_ITS_OWN = { ...BUCKET, getAwsSdkV3Config: () => ({}) };

for (const [name, provider, custom, storage, warning] of [
  ["by a framework that knows its own artifacts", KNOWS_ITS_OWN, {}, "s3://deployment/serverless/users/prod/dynamodt", /are deleted/],
  ["beside what an older framework may delete", BUCKET, {}, "s3://deployment/dynamodt/users/prod", /cannot delete.*aws s3 rm/],
  ["in a bucket that is not the service's own", BUCKET, { deploymentBucket: "deployment" }, "s3://deployment/dynamodt/users/prod", / stay; /],
]) {
  test(`without dynamodt.toml its files are in the deployment bucket, ${name}`, async () => {
    const made = plugin({ Resources: { U: table("users") }, provider });
    Object.assign(made.serverless.service.provider, custom);
    await made.afterDeploy();
    assert.equal(ofService().storage, storage);
    await made.beforeRemove();
    assert.match(made.notices.at(-1), warning);
  });
}

test("before a removal nothing is said of files that are elsewhere, or of a service that is not deployed", async () => {
  const toml = path.join(FOLDER, "dynamodt.toml");
  writeFileSync(toml, "");
  const made = plugin({ provider: KNOWS_ITS_OWN });
  await made.beforeRemove().finally(() => rmSync(toml));
  const gone = plugin({ provider: { ...KNOWS_ITS_OWN, getServerlessDeploymentBucketName: async () => assert.fail("no stack") } });
  await gone.beforeRemove();
  assert.deepEqual([made.notices, gone.notices], [[], []]);
});

test("the account's number and the parameters that the framework is told are known", async () => {
  const Resources = { U: table({ "Fn::Sub": "users-${AWS::AccountId}" }), B: table({ Ref: "Billing" }) };
  const stackParameters = [{ ParameterKey: "Billing", ParameterValue: "billing" }];
  const made = plugin({ Resources, stackParameters });
  await made.afterDeploy();
  assert.equal(words(), "up --table billing --stage prod");
});

test("an empty list means none, for every command", async () => {
  for (const command of [(made) => made.afterDeploy(), (made) => made.read("status")]) {
    const made = plugin({ Resources: { U: table("users") }, custom: { tables: [] } });
    await command(made);
    assert.equal(words(), "");
    assert.match(made.notices.at(-1), /nothing to do/);
  }
});

test("a table under a condition that is false is left alone, and is not all tables", async () => {
  const made = plugin({ Conditions: NEVER, Resources: { B: table("billing", { Condition: "Never" }) } });
  await made.afterDeploy();
  assert.equal(words(), "");
  const Resources = { B: table("billing", { Condition: "Never" }), U: table("users") };
  await plugin({ Conditions: NEVER, Resources }).afterDeploy();
  assert.equal(words(), "up --table users --stage prod");
});

test("a table of the settings under a condition that is false is left alone, too", async () => {
  const Resources = { UsersTable: table("u", { Condition: "Never" }), B: table("billing") };
  const made = plugin({ Conditions: NEVER, Resources, custom: { tables: { users: "UsersTable", billing: "B" } } });
  await made.afterDeploy();
  assert.equal(words(), "up --table billing --stage prod");
  assert.match(made.notices.at(-1), /left alone: .*users/);
  writeFileSync(SHOWN, "");
  for (const tables of [["users"], { users: "users" }]) {
    await plugin({ Conditions: NEVER, Resources: { users: table("u", { Condition: "Never" }) }, custom: { tables } }).afterDeploy();
    assert.equal(words(), "");
  }
});

for (const [name, resource, source] of [
  ["a name", table("shop-users"), "shop-users"],
  ["a name that is not known", table(undefined), "cfn:users-prod.users"],
  ["a condition that is not known", table("shop-users", { Condition: "Somewhere" }), "cfn:users-prod.users"],
]) {
  test(`a folder of a list that has a logical id is that table, with ${name}, and no other one of that name`, async () => {
    await plugin({ Resources: { users: resource, billing: table("b") }, custom: { tables: ["users"] } }).afterDeploy();
    assert.equal(words(), "up --table users --stage prod");
    assert.deepEqual(ofService().tables, { users: source });
  });
}

for (const ids of [["users", "New"], ["New", "users"]]) {
  test(`a folder that one table has by its name and one by its logical id is an error, ${ids.join(" first, then ")}`, async () => {
    const all = { users: table("legacy"), New: table("users") };
    const Resources = Object.fromEntries(ids.map((id) => [id, all[id]]));
    for (const custom of [undefined, { tables: ["users"] }]) {
      await assert.rejects(plugin({ Resources, custom }).beforeDeploy(), /transforms\/users is the folder of .*custom\.dynamodt\.tables/);
    }
    await plugin({ Resources, custom: { tables: { users: "New" } } }).afterDeploy();
    assert.deepEqual(ofService().tables, { users: "cfn:users-prod.New" });
    await plugin({ Resources: { ...Resources, users: table("billing") } }).beforeDeploy(); // each has a folder of its own
  });
}

test("a service without any table is about all that have a folder", async () => {
  await plugin({}).afterDeploy();
  assert.equal(words(), "up --stage prod");
});

test("a table that has no folder is nothing to do, and nothing to read", async () => {
  for (const command of [(made) => made.afterDeploy(), (made) => made.read("history")]) {
    await command(plugin({ Resources: { O: table("orders") } }));
    assert.equal(words(), "");
  }
});

for (const name of ["_events", ".audit", "people"]) {
  test(`the declared table ${name} is migrated: its folder is one, whatever its name begins with, or a link to one`, async () => {
    await plugin({ Resources: { U: table(name) } }).afterDeploy();
    assert.equal(words(), `up --table ${name} --stage prod`);
  });
}

test("an empty name, as of a variable that is not set, is never every table of the service", async () => {
  const made = plugin({ Resources: { U: table("users") }, options: { table: "" } });
  await made.up(made.options);
  assert.equal(words(), "up --table  --stage prod");
});

test("a name that begins with a hyphen is no option", async () => {
  await plugin({ custom: { tables: ["--purge", "-x"] } }).afterDeploy();
  assert.equal(words(), "up --table=--purge --table=-x --stage prod");
});

test("nothing is hooked but the deploy and the removal of the whole service, and the plugin's own commands", () => {
  const events = Object.keys(plugin({}).hooks).filter((event) => !event.startsWith("dynamodt:"));
  assert.deepEqual(events, ["before:deploy:deploy", "after:deploy:deploy", "before:remove:remove"]);
});

test("before a deploy nothing is asked of what is not to be migrated", async () => {
  const Resources = { Users: table("users", { Condition: "Somewhere" }) };
  await plugin({ Resources, custom: { enabled: false } }).beforeDeploy();
  await plugin({ Resources, custom: { folder: "elsewhere" } }).beforeDeploy();
  await assert.rejects(async () => plugin({ custom: { enable: false } }).beforeDeploy(), /enable is not known/);
});
