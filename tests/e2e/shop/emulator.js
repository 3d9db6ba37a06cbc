"use strict";

// What ministack's CloudFormation does otherwise than AWS: its ValidateTemplate takes a template's text alone, and the
// framework sends the address of one.
module.exports = class Emulator {
  constructor(serverless) {
    for (const plugin of serverless.pluginManager.plugins) if (plugin.validateTemplate) plugin.validateTemplate = async () => {};
  }
};
