"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");

const { keyOf, tablesOf } = require("../lib/tables");

const PSEUDO = { "AWS::Region": "eu-west-1", "AWS::StackName": "shop-dev" };

function nameOf(TableName, Parameters) {
  const resources = { Parameters, Resources: { Users: { Type: "AWS::DynamoDB::Table", Properties: { TableName } } } };
  return tablesOf(resources, PSEUDO).found.Users;
}

test("tables and global tables are found among all resources, in their order", () => {
  const resources = {
    Resources: {
      Bucket: { Type: "AWS::S3::Bucket", Properties: { TableName: "not a table" } },
      Users: { Type: "AWS::DynamoDB::Table", Properties: { TableName: "users" } },
      Orders: { Type: "AWS::DynamoDB::GlobalTable", Properties: { TableName: "orders" } },
    },
  };
  assert.deepEqual(tablesOf(resources, PSEUDO), { found: { Users: "users", Orders: "orders" }, uncertain: [] });
});

test("a service without resources has no table", () => {
  for (const resources of [undefined, null, {}, { Resources: null }, { Resources: { Empty: null } }]) {
    assert.deepEqual(tablesOf(resources, PSEUDO), { found: {}, uncertain: [] });
  }
});

test("a table whose name only CloudFormation knows is found without one", () => {
  const made = { Type: "AWS::DynamoDB::Table", Properties: { KeySchema: [] } };
  assert.deepEqual(tablesOf({ Resources: { Made: made } }, PSEUDO), { found: { Made: undefined }, uncertain: [] });
});

test("names are resolved as CloudFormation does", () => {
  assert.equal(nameOf({ "Fn::Sub": "${AWS::StackName}-users" }), "shop-dev-users");
  assert.equal(nameOf({ "Fn::Sub": ["${Prefix}-${AWS::Region}", { Prefix: { Ref: "AWS::StackName" } }] }), "shop-dev-eu-west-1");
  assert.equal(nameOf({ "Fn::Join": ["-", ["users", { Ref: "AWS::StackName" }]] }), "users-shop-dev");
  assert.equal(nameOf({ Ref: "Name" }, { Name: { Type: "String", Default: "people" } }), "people");
  assert.equal(nameOf({ "Fn::Sub": "a${!b}" }), "a${b}");
});

test("what only CloudFormation knows is not guessed", () => {
  for (const value of [
    { "Fn::Sub": "${Other}-users" },
    { "Fn::Sub": 5 },
    { "Fn::Join": ["-", ["users", { "Fn::GetAtt": ["A", "B"] }]] },
    { "Fn::ImportValue": "name" },
    { Ref: "Name" },
    null,
  ]) {
    assert.equal(nameOf(value, { Name: { Type: "String" } }), undefined);
  }
});

test("a parameter of the parameter store holds the name of a value, by default and where it is given", () => {
  const Parameters = { Name: { Type: "AWS::SSM::Parameter::Value<String>", Default: "/shop/table" } };
  const Users = { Type: "AWS::DynamoDB::Table", Properties: { TableName: { Ref: "Name" } } };
  for (const given of [{}, { Name: "/shop/prod/table" }]) {
    assert.deepEqual(tablesOf({ Parameters, Resources: { Users } }, PSEUDO, given), { found: { Users: undefined }, uncertain: [] });
  }
});

function withCondition(condition, more = {}) {
  const Users = { Type: "AWS::DynamoDB::Table", Condition: "C", Properties: { TableName: "users" } };
  return tablesOf({ Conditions: { C: condition, ...more }, Resources: { Users } }, PSEUDO, { Stage: "prod" });
}

const IS_PROD = { "Fn::Equals": [{ Ref: "Stage" }, "prod"] };
const IS_DEV = { "Fn::Equals": ["dev", { Ref: "Stage" }] };
const UNKNOWN = { "Fn::Equals": [{ "Fn::ImportValue": "n" }, "x"] };

test("conditions are evaluated as CloudFormation does", () => {
  const yes = { found: { Users: "users" }, uncertain: [] };
  const no = { found: {}, uncertain: [] };
  const open = { found: {}, uncertain: ["Users"] };
  for (const [condition, expected] of [
    [IS_PROD, yes], [IS_DEV, no], [{ "Fn::Not": [IS_PROD] }, no], [{ "Fn::Or": [IS_DEV, IS_PROD] }, yes],
    [{ "Fn::And": [IS_DEV, IS_PROD] }, no], [{ Condition: "Other" }, yes], [UNKNOWN, open], [undefined, open],
    [{ "Fn::And": [UNKNOWN, IS_DEV] }, no], [{ "Fn::And": [UNKNOWN, IS_PROD] }, open], [{ "Fn::Or": [UNKNOWN, IS_PROD] }, yes],
    [{ "Fn::Not": [UNKNOWN] }, open], [{ Condition: "C" }, open],
  ]) {
    const found = withCondition(condition, { Other: IS_PROD });
    assert.deepEqual(found, expected, JSON.stringify(condition));
  }
});

test("a name may depend on a condition", () => {
  const Users = { Type: "AWS::DynamoDB::Table", Properties: { TableName: { "Fn::If": ["C", "one", "other"] } } };
  const named = (condition) => tablesOf({ Conditions: { C: condition }, Resources: { Users } }, PSEUDO, { Stage: "prod" });
  assert.deepEqual([IS_PROD, IS_DEV, UNKNOWN].map((condition) => named(condition).found.Users), ["one", "other", undefined]);
});

test("what the framework is told goes before a default, and a default that names a value elsewhere is none", () => {
  const resources = (Type) => ({
    Parameters: { Name: { Type, Default: "/users/name" } },
    Resources: { Users: { Type: "AWS::DynamoDB::Table", Properties: { TableName: { Ref: "Name" } } } },
  });
  assert.deepEqual(tablesOf(resources("String"), PSEUDO, { Name: "users" }).found, { Users: "users" });
  assert.deepEqual(tablesOf(resources("AWS::SSM::Parameter::Value<String>"), PSEUDO).found, { Users: undefined });
});

test("a key is read where the template writes it out, the partition key first", () => {
  const AttributeDefinitions = [{ AttributeName: "sk", AttributeType: "N" }, { AttributeName: "pk", AttributeType: "S" }];
  const KeySchema = [{ AttributeName: "sk", KeyType: "RANGE" }, { AttributeName: "pk", KeyType: "HASH" }];
  const table = (Properties) => ({ Type: "AWS::DynamoDB::Table", Properties });
  assert.deepEqual(keyOf(table({ AttributeDefinitions, KeySchema })), [["pk", "S"], ["sk", "N"]]);
  for (const other of [undefined, table(undefined), table({ KeySchema }), table({ AttributeDefinitions: [], KeySchema }), { Type: "AWS::SQS::Queue" }]) {
    assert.equal(keyOf(other), undefined);
  }
  assert.equal(keyOf(table({ AttributeDefinitions, KeySchema: { Ref: "Key" } })), undefined);
});
