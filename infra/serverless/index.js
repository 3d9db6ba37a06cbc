"use strict";

// The plugin: `sls dynamodt ...`, and `up` after each deploy. A migration that fails, fails the deploy.
//
// A table of the service goes by a folder's name: that of its setting in `tables`, its own if there is such a folder,
// else its logical id in the template. The program is given the real name, or the stack to look it up in.

const { existsSync, readdirSync, statSync } = require("node:fs");
const path = require("node:path");

const { commands, wordsOf } = require("./lib/commands");
const { chosen, handedOn } = require("./lib/credentials");
const { findProgram, run } = require("./lib/program");
const { settingsOf } = require("./lib/settings");
const { filesOf, STAGES } = require("./lib/storage");
const { closedOf, declaresTables, isTable, keyOf, tablesOf } = require("./lib/tables");

class ServerlessDynamodt {
  constructor(serverless, options, { log }) {
    this.serverless = serverless;
    this.options = options;
    this.log = log;
    this.provider = serverless.getProvider("aws");
    this.commands = commands;
    this.hooks = {
      "before:deploy:deploy": () => this.beforeDeploy(),
      "after:deploy:deploy": () => this.afterDeploy(),
      "before:remove:remove": () => this.beforeRemove(),
      "dynamodt:init:init": () => this.init(),
      "dynamodt:prepare:prepare": () => this.ofOneTable("prepare"),
      "dynamodt:up:transform": () => this.up(this.options),
      "dynamodt:down:rollback": () => this.ofOneTable("down"),
      "dynamodt:history:history": () => this.read("history"),
      "dynamodt:status:status": () => this.read("status"),
    };
  }

  // ------------------------------------------------------------ the commands

  // Errors that can be found before the deploy are raised here, so that nothing is deployed.
  async beforeDeploy() {
    if (!this.settings.enabled || !existsSync(this.transforms)) return;
    await this.chosen();
    this.program();
  }

  async afterDeploy() {
    const { enabled, stage } = this.settings;
    if (!enabled) {
      this.log.notice(`dynamodt: custom.dynamodt.enabled is false here; later: sls dynamodt up --stage ${this.stage}`);
    } else if (!existsSync(this.transforms)) {
      this.log.notice("dynamodt: there is no folder transforms/ yet; to begin: sls dynamodt init");
    } else {
      this.log.notice(`dynamodt: pending versions, stage ${stage}`);
      await this.up({}, "the service is deployed, but its data is not migrated");
    }
  }

  // Where dynamodt's files are in the deployment bucket, they are deleted with it, or keep it.
  async beforeRemove() {
    if (!existsSync(this.transforms) || existsSync(path.join(this.folder, STAGES))) return;
    const files = await filesOf(this.provider, this.serverless.service, this.stage);
    if (files) this.log.warning(`dynamodt: ${files.onRemoval}`);
  }

  async init() {
    const tables = await this.chosen();
    if (!tables?.length) {
      throw this.error("the service's resources have no DynamoDB table; choose one: sls dynamodt init --table T");
    }
    await this.dynamodt("init", tables, this.options);
  }

  async up(options, failed) {
    const pending = await this.withFolders();
    if (!pending) return;
    const left = this.options.table !== undefined ? [] : this.folders.filter((folder) => pending.length && !pending.includes(folder));
    if (left.length) this.log.notice(`dynamodt: no table of this service on this stage, left alone: ${left.join(", ")}`);
    await this.dynamodt("up", pending, options, failed);
  }

  async ofOneTable(verb) {
    await this.dynamodt(verb, [this.options.table], this.options);
  }

  async read(verb) {
    const tables = await this.withFolders();
    if (tables) await this.dynamodt(verb, tables, this.options);
  }

  // ------------------------------------------------------------ settings and tables

  get stage() {
    return this.provider.getStage();
  }

  get settings() {
    try {
      return settingsOf(this.serverless.service.custom?.dynamodt, this.stage);
    } catch (error) {
      throw this.error(error.message);
    }
  }

  get folder() {
    return path.resolve(this.serverless.serviceDir, this.settings.folder);
  }

  get transforms() {
    return path.join(this.folder, "transforms");
  }

  // The tables that have a folder, or a link to one, without names that begin with "_" or ".".
  get folders() {
    if (!existsSync(this.transforms)) return [];
    return readdirSync(this.transforms).filter((name) => !/^[_.]/.test(name) && this.hasFolder(name));
  }

  hasFolder(table) {
    return statSync(path.join(this.transforms, table), { throwIfNoEntry: false })?.isDirectory() ?? false;
  }

  // The tables named on the command line, or in the settings without those whose condition is false; undefined for neither.
  async named() {
    const { tables } = this.settings;
    if (this.options.table !== undefined) return [this.options.table];
    if (tables === undefined) return undefined;
    const { absent } = await this.ofResources();
    const pairs = Array.isArray(tables) ? tables.map((folder) => [folder, folder]) : Object.entries(tables);
    return pairs.filter(([, table]) => !absent(String(table))).map(([folder]) => String(folder));
  }

  // The named tables, or those of the service's resources; undefined if the service declares none. Tables that only a
  // nested stack, a module or a macro may hold are unknown, and that is not none.
  async chosen() {
    const named = await this.named();
    if (named) return named;
    const { resources } = this.serverless.service;
    if (declaresTables(resources)) return Object.keys(await this.declared());
    const closed = closedOf(resources);
    if (!closed.length) return undefined;
    const which = `only CloudFormation knows which tables ${closed.join(", ")} has`;
    throw this.error(`${which}; list this service's tables in custom.dynamodt.tables`);
  }

  // The real names, or where to look them up, of the tables that are named by their folders. A folder of a list may have
  // the logical id of a table whose condition only CloudFormation can resolve.
  async sources() {
    const { tables } = this.settings;
    const { resources } = this.serverless.service;
    const { sources, uncertain } = await this.ofResources();
    if (tables === undefined) return sources;
    const known = { ...Object.fromEntries(uncertain.map((id) => [id, this.source(id, resources)])), ...sources };
    const pairs = Array.isArray(tables)
      ? tables.map((folder) => [String(folder), known[folder]]).filter(([, source]) => source !== undefined)
      : Object.entries(tables).map(([folder, table]) => [folder, this.source(String(table), resources)]);
    return Object.fromEntries(pairs);
  }

  source(table, resources) {
    return resources?.Resources?.[table] ? `cfn:${this.provider.naming.getStackName()}.${table}` : table;
  }

  // Those of them that have a folder; empty, which means every folder, only for a service without tables. Undefined if
  // there is nothing to do.
  async withFolders() {
    const tables = await this.chosen();
    if (!tables) return [];
    const found = (await this.named()) ? tables : tables.filter((table) => this.hasFolder(table));
    if (found.length) return found;
    const why = tables.length ? `transforms/ has no folder for ${tables.join(", ")}` : "no table of this service on this stage";
    this.log.notice(`dynamodt: nothing to do; ${why}`);
    return undefined;
  }

  async declared() {
    const { sources, uncertain } = await this.ofResources();
    if (!uncertain.length) return sources;
    const which = `only CloudFormation knows whether this stage has ${uncertain.join(", ")}`;
    throw this.error(`${which}; list this service's tables in custom.dynamodt.tables`);
  }

  // Resolves to { sources, uncertain, absent }; `absent` returns whether a logical id is of a table that this stage does not
  // have, since its condition is false.
  async ofResources() {
    const { service } = this.serverless;
    const given = (service.provider?.stackParameters ?? []).map((one) => [one.ParameterKey, one.ParameterValue]);
    const { found, uncertain } = tablesOf(service.resources, await this.pseudo(), Object.fromEntries(given));
    const folder = (id, name) => (name !== undefined && this.hasFolder(name) ? name : id);
    const pairs = Object.entries(found).map(([id, name]) => [folder(id, name), name ?? this.source(id, service.resources), id]);
    this.checkDistinct(pairs);
    const absent = (id) => isTable(service.resources?.Resources?.[id]) && !(id in found) && !uncertain.includes(id);
    const ids = Object.fromEntries(pairs.map(([name, , id]) => [name, id]));
    return { sources: Object.fromEntries(pairs), ids, uncertain, absent };
  }

  // One table's name may be another one's logical id: a folder of that name would be applied to either.
  checkDistinct(pairs) {
    const { tables } = this.settings;
    if (tables !== undefined && !Array.isArray(tables)) return; // each folder is mapped
    for (const [folder] of pairs.filter(([name]) => this.hasFolder(name))) {
      const ids = pairs.filter(([name]) => name === folder).map(([, , id]) => id);
      if (ids.length < 2) continue;
      const which = `transforms/${folder} is the folder of ${ids.join(" and of ")}, by a name and by a logical id`;
      throw this.error(`${which}; map each folder to one logical id in custom.dynamodt.tables`);
    }
  }

  async pseudo() {
    const account = await this.account();
    const names = { "AWS::Region": this.provider.getRegion(), "AWS::StackName": this.provider.naming.getStackName() };
    return account ? { ...names, "AWS::AccountId": account } : names;
  }

  // The account that the framework deploys to; undefined if the framework has no such method.
  async account() {
    return this.provider.getAccountId?.();
  }

  // ------------------------------------------------------------ running it

  async dynamodt(verb, tables, options, failed = "") {
    const program = this.program();
    const words = wordsOf(verb, tables, options, this.settings);
    this.log.info([...program, ...words].join(" "));
    const given = { ...this.environment(), ...(await this.expected()), DYNAMODT_SERVICE: await this.ofService(verb) };
    const { env, close } = await handedOn(this.provider, given);
    const { code, said, signal } = await run(program, words, { folder: this.folder, env }).finally(close);
    if (signal) process.exit(code); // the framework leaves signals to their listener
    if (code) throw this.failure(`dynamodt ${words.join(" ")}`, code, said, failed);
  }

  program() {
    const program = findProgram(this.settings.command, this.folder);
    if (!program) throw this.error(notFound(this.folder));
    return program;
  }

  // The environment with the region of the deploy, and with the source of its credentials.
  environment() {
    const region = this.provider.getRegion();
    const cliProfile = this.provider.options?.["aws-profile"];
    const profile = this.provider.serverless?.service?.provider?.profile ?? this.provider.getProfile?.();
    const env = chosen(process.env, this.provider.getStage(), { cliProfile, profile });
    return { ...env, AWS_REGION: region, AWS_DEFAULT_REGION: region };
  }

  // The location of the service: a stage of dynamodt.toml in another one is refused.
  async expected() {
    const account = await this.account();
    const region = { DYNAMODT_EXPECTED_REGION: this.provider.getRegion() };
    return account ? { ...region, DYNAMODT_EXPECTED_ACCOUNT: account } : region;
  }

  // What the stage has without an entry in dynamodt.toml, as the program takes it.
  async ofService(verb) {
    const files = await filesOf(this.provider, this.serverless.service, this.stage);
    const keys = verb === "init" ? await this.keys() : undefined;
    const names = { stage: this.settings.stage, serverless: this.stage };
    return JSON.stringify({ ...names, storage: files?.storage, tables: await this.sources(), keys });
  }

  // The tables' keys by folder, as far as the template has them: for the tests that `init` writes before a deploy.
  async keys() {
    const { tables } = this.settings;
    const resources = this.serverless.service.resources;
    const mapped = tables !== undefined && !Array.isArray(tables) ? tables : {};
    const { ids } = await this.ofResources();
    const pairs = Object.entries({ ...ids, ...mapped }).map(([folder, id]) => [folder, keyOf(resources?.Resources?.[String(id)])]);
    return Object.fromEntries(pairs.filter(([, key]) => key !== undefined));
  }

  // The framework exits with 1 for every error; a pipeline needs the program's own code, such as 3: nothing was started.
  failure(command, code, said, failed) {
    process.once("exit", () => {
      process.exitCode = code;
    });
    const what = failed ? `${failed}: ` : "";
    return this.error(`${what}\`${command}\` ended with exit code ${code}\n${said || "see its output above"}`);
  }

  error(message) {
    return new this.serverless.classes.Error(message, "DYNAMODT");
  }
}

function notFound(folder) {
  const where = `neither in ${path.join(folder, ".venv", "bin")} nor on the PATH`;
  return `the program dynamodt was not found, ${where}; install it there, or name it in custom.dynamodt.command`;
}

module.exports = ServerlessDynamodt;
