"use strict";

// The plugin: `sls dynamodt ...`, and `up` after each deploy. A table that could not be migrated fails the deploy.

const { existsSync, readdirSync } = require("node:fs");
const path = require("node:path");

const { commands, wordsOf } = require("./lib/commands");
const { findProgram, run } = require("./lib/program");
const { settingsOf } = require("./lib/settings");
const { tablesOf } = require("./lib/tables");

class ServerlessDynamodt {
  constructor(serverless, options, { log }) {
    this.serverless = serverless;
    this.options = options;
    this.log = log;
    this.provider = serverless.getProvider("aws");
    this.commands = commands;
    this.hooks = {
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
    const tables = this.named() ?? this.declared();
    if (!tables.length) {
      throw this.error("the service's resources hold no DynamoDB table with a name; name one: sls dynamodt init --table T");
    }
    await this.dynamodt("init", tables, this.options);
  }

  async up(options, failed) {
    const tables = this.named() ?? this.declared();
    const pending = this.named() ? tables : tables.filter((table) => this.folders.includes(table));
    if (tables.length && !pending.length) {
      this.log.notice(`dynamodt: nothing to do; transforms/ has no folder for ${tables.join(", ")}`);
      return;
    }
    const left = this.folders.filter((folder) => pending.length && !pending.includes(folder));
    if (left.length) this.log.notice(`dynamodt: no table of this service on this stage, left alone: ${left.join(", ")}`);
    await this.dynamodt("up", pending, options, failed);
  }

  async ofOneTable(verb) {
    await this.dynamodt(verb, [this.options.table], this.options);
  }

  async read(verb) {
    await this.dynamodt(verb, this.named() ?? this.declared().filter((table) => this.folders.includes(table)), this.options);
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

  // The tables that have a folder; those that begin with "_" or "." are none.
  get folders() {
    if (!existsSync(this.transforms)) return [];
    const entries = readdirSync(this.transforms, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() && !/^[_.]/.test(entry.name)).map((entry) => entry.name);
  }

  // The tables that somebody has named: on the command line, or in the settings.
  named() {
    return this.options.table ? [this.options.table] : this.settings.tables?.map(String);
  }

  // Those of the service's resources; none where all of its tables are another service's.
  declared() {
    const pseudo = { "AWS::Region": this.provider.getRegion(), "AWS::StackName": this.provider.naming.getStackName() };
    const { names, unnamed } = tablesOf(this.serverless.service.resources, pseudo);
    for (const id of unnamed) {
      this.log.warning(`dynamodt: the name of table ${id} is not known here; list it in custom.dynamodt.tables`);
    }
    return names;
  }

  // ------------------------------------------------------------ running it

  async dynamodt(verb, tables, options, failed = "") {
    const settings = this.settings;
    const program = findProgram(settings.command, this.folder);
    if (!program) throw this.error(notFound(this.folder));
    const words = wordsOf(verb, tables, options, settings);
    this.log.info([...program, ...words].join(" "));
    const { code, said, signal } = await run(program, words, { folder: this.folder, env: this.environment() });
    if (signal) process.exit(code); // told to stop: the framework leaves it to who listened
    if (code) throw this.failure(`dynamodt ${words.join(" ")}`, code, said, failed);
  }

  // The region of the deploy, and the profile that it was told to use, where dynamodt.toml names none.
  environment() {
    const profile = this.provider.getProfile?.();
    const region = this.provider.getRegion();
    return { ...process.env, AWS_REGION: region, AWS_DEFAULT_REGION: region, ...(profile && { AWS_PROFILE: profile }) };
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
