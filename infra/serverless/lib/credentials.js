"use strict";

// Gives the program the framework's credentials: data is migrated with those that the service was deployed with.

const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require("node:fs");
const { createServer } = require("node:net");
const { homedir, tmpdir } = require("node:os");
const path = require("node:path");

const PROFILE = "serverless-dynamodt";
const SOURCES = [
  "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
  "AWS_CREDENTIAL_EXPIRATION", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
];

// The environment in which botocore finds the credentials of the framework, in its order: --aws-profile, the stage's
// profile, the stage's keys, AWS_PROFILE, keys, the service's profile, and the default chain of both.
function chosen(env, stage, { cliProfile, profile }) {
  const prefix = `AWS_${String(stage).toUpperCase()}`;
  const named = cliProfile ?? env[`${prefix}_PROFILE`];
  if (named) return without(env, { AWS_PROFILE: named });
  for (const [from, other] of [[prefix, env.AWS_PROFILE], ["AWS", profile]]) {
    if (hasKeys(env, from)) return without(env, keysOf(env, from));
    if (other) return without(env, { AWS_PROFILE: other });
  }
  return { ...env };
}

function hasKeys(env, prefix) {
  return Boolean(env[`${prefix}_ACCESS_KEY_ID`] && env[`${prefix}_SECRET_ACCESS_KEY`]);
}

function keysOf(env, prefix) {
  const [accessKeyId, secretAccessKey, sessionToken] = ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"].map(
    (name) => env[`${prefix}_${name}`],
  );
  return asKeys({ accessKeyId, secretAccessKey, sessionToken });
}

function asKeys({ accessKeyId, secretAccessKey, sessionToken }) {
  const keys = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
  return sessionToken ? { ...keys, AWS_SESSION_TOKEN: sessionToken } : keys;
}

function without(env, instead) {
  const rest = Object.entries(env).filter(([name]) => !SOURCES.includes(name));
  return { ...Object.fromEntries(rest), ...instead };
}

// The credentials that the framework has resolved: osls 4 has a provider, osls 3 and the Serverless Framework 3 an object
// of the AWS SDK 2. Undefined if it leaves them to the SDK.
async function resolved(provider) {
  if (provider.getAwsSdkV3CredentialsProvider) return provider.getAwsSdkV3CredentialsProvider()();
  const found = provider.getCredentials?.().credentials;
  await found?.getPromise?.();
  return found?.accessKeyId ? { ...asPlain(found), expiration: found.expireTime } : undefined;
}

function asPlain({ accessKeyId, secretAccessKey, sessionToken }) {
  return { accessKeyId, secretAccessKey, sessionToken };
}

// Resolves to { env, close }: the environment with the framework's credentials, and the end of the service. Temporary
// credentials are served to the program, which renews them, since a run may outlast them.
async function handedOn(provider, env) {
  const found = await resolved(provider);
  if (!found) return { env, close() {} };
  if (!found.expiration) return { env: without(env, asKeys(found)), close() {} };
  return served(provider, env);
}

async function served(provider, env) {
  const folder = mkdtempSync(path.join(tmpdir(), "dynamodt-")); // mode 0700
  const socket = path.join(folder, "socket");
  const server = createServer((client) => answer(provider, client));
  await new Promise((resolve, reject) => server.once("error", reject).listen(socket, resolve));
  server.unref();
  const config = path.join(folder, "config");
  writeFileSync(config, `${ownConfig(env)}\n[profile ${PROFILE}]\ncredential_process = ${command(socket)}\n`, { mode: 0o600 });
  return {
    env: without(env, { AWS_PROFILE: PROFILE, AWS_CONFIG_FILE: config }),
    close() {
      server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function answer(provider, client) {
  client.on("error", () => {}); // the program has ended
  try {
    const { accessKeyId, secretAccessKey, sessionToken, expiration } = await resolved(provider);
    const Expiration = new Date(expiration).toISOString();
    client.end(JSON.stringify({ Version: 1, AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, SessionToken: sessionToken, Expiration }));
  } catch (error) {
    client.end(JSON.stringify({ Version: 1, Error: error.message }));
  }
}

// Keeps the profiles that dynamodt.toml may name.
function ownConfig(env) {
  try {
    return readFileSync(env.AWS_CONFIG_FILE ?? path.join(homedir(), ".aws", "config"), "utf8");
  } catch {
    return "";
  }
}

function command(socket) {
  return [process.execPath, path.join(__dirname, "credential-process.js"), socket].map((word) => `"${word}"`).join(" ");
}

module.exports = { chosen, handedOn };
