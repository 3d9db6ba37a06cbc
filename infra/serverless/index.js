"use strict";

// The plugin: `sls dynamodt ...`, and `up` after each deploy. A table that could not be migrated fails the deploy.

const { existsSync, readdirSync, statSync } = require("node:fs");
const path = require("node:path");

const { commands, wordsOf } = require("./lib/commands");
const { chosen, handedOn } = require("./lib/credentials");
const { findProgram, run } = require("./lib/program");
const { settingsOf } = require("./lib/settings");
const { declaresTables, tablesOf } = require("./lib/tables");

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
      "dynamodt:init:init": () => this.init(),
      "dynamodt:prepare:prepare": () => this.ofOneTable("prepare"),
      "dynamodt:up:transform": () => this.up(this.options),
      "dynamodt:down:rollback": () => this.ofOneTable("down"),
      "dynamodt:history:history": () => this.read("history"),
      "dynamodt:status:status": () => this.read("status"),
    };
  }

  // ------------------------------------------------------------ the commands

  // What would fail after the deploy, and can be seen before it, fails here: nothing is deployed.
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

  async init() {
    const tables = await this.chosen();
    if (!tables?.length) {
      throw this.error("the service's resources hold no DynamoDB table with a name; name one: sls dynamodt init --table T");
    }
    await this.dynamodt("init", tables, this.options);
  }

  async up(options, failed) {
    const pending = await this.withFolders();
    if (!pending) return;
    const left = this.folders.filter((folder) => pending.length && !pending.includes(folder));
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

  // ------------------------------------------------------------ what they are about

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

  // The tables that have a folder, or a link to one; those whose name begins with "_" or "." may be none.
  get folders() {
    if (!existsSync(this.transforms)) return [];
    return readdirSync(this.transforms).filter((name) => !/^[_.]/.test(name) && this.hasFolder(name));
  }

  hasFolder(table) {
    return statSync(path.join(this.transforms, table), { throwIfNoEntry: false })?.isDirectory() ?? false;
  }

  // The tables that somebody has named: on the command line, or in the settings.
  named() {
    return this.options.table === undefined ? this.settings.tables?.map(String) : [this.options.table];
  }

  // The named tables, or those of the service's resources; undefined where the service has none: all are another's then.
  async chosen() {
    const named = this.named();
    if (named) return named;
    return declaresTables(this.serverless.service.resources) ? this.declared() : undefined;
  }

  // Those of them that a command is about: none named means every folder, and so only a service without any table gets
  // there. Undefined where there is nothing to do.
  async withFolders() {
    const tables = await this.chosen();
    if (!tables) return [];
    const found = this.named() ? tables : tables.filter((table) => this.hasFolder(table));
    if (found.length) return found;
    const why = tables.length ? `transforms/ has no folder for ${tables.join(", ")}` : "no table of this service on this stage";
    this.log.notice(`dynamodt: nothing to do; ${why}`);
    return undefined;
  }

  async declared() {
    const { service } = this.serverless;
    const given = (service.provider?.stackParameters ?? []).map((one) => [one.ParameterKey, one.ParameterValue]);
    const { names, unnamed } = tablesOf(service.resources, await this.pseudo(), Object.fromEntries(given));
    if (unnamed.length) {
      const which = `only CloudFormation knows the name of ${unnamed.join(", ")}, or whether this stage has it`;
      throw this.error(`${which}; list the names of this service's tables in custom.dynamodt.tables`);
    }
    return names;
  }

  async pseudo() {
    const account = await this.account();
    const names = { "AWS::Region": this.provider.getRegion(), "AWS::StackName": this.provider.naming.getStackName() };
    return account ? { ...names, "AWS::AccountId": account } : names;
  }

  // The account that the framework deploys to; undefined with a framework that does not tell.
  async account() {
    return this.provider.getAccountId?.();
  }

  // ------------------------------------------------------------ running it

  async dynamodt(verb, tables, options, failed = "") {
    const program = this.program();
    const words = wordsOf(verb, tables, options, this.settings);
    this.log.info([...program, ...words].join(" "));
    const { env, close } = await handedOn(this.provider, { ...this.environment(), ...(await this.expected()) });
    const { code, said, signal } = await run(program, words, { folder: this.folder, env }).finally(close);
    if (signal) process.exit(code); // told to stop: the framework leaves it to who listened
    if (code) throw this.failure(`dynamodt ${words.join(" ")}`, code, said, failed);
  }

  program() {
    const program = findProgram(this.settings.command, this.folder);
    if (!program) throw this.error(notFound(this.folder));
    return program;
  }

  // The region of the deploy, and where its credentials come from by the framework's own order.
  environment() {
    const region = this.provider.getRegion();
    const cliProfile = this.provider.options?.["aws-profile"];
    const profile = this.provider.serverless?.service?.provider?.profile ?? this.provider.getProfile?.();
    const env = chosen(process.env, this.provider.getStage(), { cliProfile, profile });
    return { ...env, AWS_REGION: region, AWS_DEFAULT_REGION: region };
  }

  // Where the service is: a stage of dynamodt.toml that is elsewhere is refused before anything is read or written.
  async expected() {
    const account = await this.account();
    const region = { DYNAMODT_EXPECTED_REGION: this.provider.getRegion() };
    return account ? { ...region, DYNAMODT_EXPECTED_ACCOUNT: account } : region;
  }

  // The framework ends with 1 whatever the error; a pipeline may want to know that it was 3, and nothing was started.
  failure(command, code, said, failed) {
    process.once("exit", () => {
      process.exitCode = code;
    });
    const what = failed ? `${failed}: ` : "";
    return this.error(`${what}\`${command}\` ended with exit code ${code}\n${said || "what it said stands above"}`);
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
