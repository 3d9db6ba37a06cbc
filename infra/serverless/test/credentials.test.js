"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const path = require("node:path");
const { after, test } = require("node:test");

const { chosen, handedOn } = require("../lib/credentials");

const FOLDER = mkdtempSync(path.join(tmpdir(), "serverless-dynamodt-"));
const KEYS = { AWS_ACCESS_KEY_ID: "K", AWS_SECRET_ACCESS_KEY: "S", AWS_SESSION_TOKEN: "T" };
const OF_STAGE = { AWS_PROD_ACCESS_KEY_ID: "PK", AWS_PROD_SECRET_ACCESS_KEY: "PS" };

after(() => rmSync(FOLDER, { recursive: true }));

// What botocore would take of it.
function taken(env, service = {}) {
  const { AWS_PROFILE: profile, AWS_ACCESS_KEY_ID: key } = chosen({ PATH: "p", ...env }, "prod", service);
  return profile ?? key;
}

test("the framework's own order, from the first to the last", () => {
  const all = { ...KEYS, ...OF_STAGE, AWS_PROFILE: "ci", AWS_PROD_PROFILE: "of-stage", AWS_DEFAULT_PROFILE: "default" };
  const { AWS_PROD_PROFILE: _1, ...noStageProfile } = all;
  const { AWS_PROD_ACCESS_KEY_ID: _2, ...noStageKeys } = noStageProfile;
  const { AWS_PROFILE: _3, ...noProfile } = noStageKeys;
  const { AWS_ACCESS_KEY_ID: _4, ...noKeys } = noProfile;
  assert.equal(taken(all, { cliProfile: "typed", profile: "of-service" }), "typed");
  assert.equal(taken(all, { profile: "of-service" }), "of-stage");
  assert.equal(taken(noStageProfile, { profile: "of-service" }), "PK");
  assert.equal(taken(noStageKeys, { profile: "of-service" }), "ci");
  assert.equal(taken(noProfile, { profile: "of-service" }), "K");
  assert.equal(taken(noKeys, { profile: "of-service" }), "of-service");
  assert.equal(chosen(noKeys, "prod", {}).AWS_DEFAULT_PROFILE, "default");
});

test("nothing that was not chosen is left for botocore to prefer", () => {
  const env = chosen({ ...KEYS, AWS_WEB_IDENTITY_TOKEN_FILE: "f", AWS_ROLE_ARN: "r", PATH: "p" }, "prod", { cliProfile: "typed" });
  assert.deepEqual(env, { AWS_PROFILE: "typed", PATH: "p" });
});

test("an environment that says nothing stays as it is", () => {
  assert.deepEqual(chosen({ PATH: "p", AWS_ROLE_ARN: "r" }, "prod", {}), { PATH: "p", AWS_ROLE_ARN: "r" });
});

const ofFour = (found) => ({ getAwsSdkV3CredentialsProvider: () => async () => found });
const ofThree = (found) => ({ getCredentials: () => ({ credentials: found }) });

for (const [name, provider] of Object.entries({ "osls 4": ofFour, "osls 3 and Serverless 3": ofThree })) {
  test(`what ${name} has resolved goes before all that the environment says`, async () => {
    const found = { accessKeyId: "FK", secretAccessKey: "FS", getPromise: async () => {} };
    const { env, close } = await handedOn(provider(found), { ...KEYS, AWS_PROFILE: "ci", PATH: "p" });
    assert.deepEqual(env, { AWS_ACCESS_KEY_ID: "FK", AWS_SECRET_ACCESS_KEY: "FS", PATH: "p" });
    close();
  });
}

test("a framework that leaves it to the SDK leaves the environment, too", async () => {
  for (const provider of [{}, ofThree(undefined), ofThree({})]) {
    assert.deepEqual((await handedOn(provider, { AWS_PROFILE: "ci" })).env, { AWS_PROFILE: "ci" });
  }
});

test("credentials that end are asked for anew, each time, and the profiles of one's own stay known", async () => {
  const own = path.join(FOLDER, "config");
  writeFileSync(own, "[profile other]\nregion = eu-west-1\n");
  let asked = 0;
  const expiration = new Date("2030-01-02T03:04:05Z");
  const found = async () => ({ accessKeyId: `K${(asked += 1)}`, secretAccessKey: "S", sessionToken: "T", expiration });
  const { env, close } = await handedOn({ getAwsSdkV3CredentialsProvider: () => found }, { ...KEYS, AWS_CONFIG_FILE: own });
  const text = readFileSync(env.AWS_CONFIG_FILE, "utf8");
  assert.equal(env.AWS_ACCESS_KEY_ID, undefined);
  assert.match(text, /^\[profile other\]/);
  assert.equal(statSync(env.AWS_CONFIG_FILE).mode & 0o077, 0);
  const [, command] = text.match(new RegExp(`\\[profile ${env.AWS_PROFILE}\\]\ncredential_process = (.*)`));
  for (const key of ["K2", "K3"]) {
    assert.deepEqual(JSON.parse(await output(command)), {
      Version: 1, AccessKeyId: key, SecretAccessKey: "S", SessionToken: "T", Expiration: "2030-01-02T03:04:05.000Z",
    });
  }
  close();
  assert.equal(existsSync(env.AWS_CONFIG_FILE), false);
});

async function output(command) {
  const child = spawn("/bin/sh", ["-c", command], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk) => (text += chunk));
  await new Promise((resolve) => child.once("close", resolve));
  return text;
}
