"use strict";

// What ministack's CloudFormation does otherwise than AWS: its ValidateTemplate takes a template's text alone, and the
// framework sends the address of one; and of the events of one millisecond it lists the oldest first.
module.exports = class Emulator {
  constructor(serverless) {
    const client = ordered(serverless.getProvider("aws").getCloudFormationClient());
    for (const plugin of serverless.pluginManager.plugins) {
      if (!plugin.validateTemplate) continue;
      plugin.validateTemplate = async () => {};
      plugin.cloudFormationClientPromise = client;
    }
  }
};

async function ordered(promise) {
  const client = await promise;
  const sort = (next) => async (request) => {
    const answer = await next(request);
    answer.output.StackEvents?.reverse().sort((one, other) => other.Timestamp - one.Timestamp);
    return answer;
  };
  client.middlewareStack.add(sort, { step: "initialize" });
  return client;
}
