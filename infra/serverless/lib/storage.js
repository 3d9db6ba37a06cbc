"use strict";

// Where dynamodt keeps its files for a stage that has no storage in dynamodt.toml: in the service's deployment bucket.

const STAGES = "dynamodt.toml";

// Resolves to { storage, onRemoval }: the URL, and what `sls remove` does with it; undefined while there is no bucket.
async function filesOf(provider, service, stage) {
  const bucket = await bucketOf(provider);
  if (!bucket) return undefined;
  const storage = `s3://${bucket}/${prefixOf(provider, service, stage)}`;
  return { storage, onRemoval: onRemoval(provider, service, storage) };
}

async function bucketOf(provider) {
  try {
    return await provider.getServerlessDeploymentBucketName?.();
  } catch {
    return undefined; // the service is not deployed
  }
}

// osls 4 knows its own artifacts by their dates. Older frameworks delete what is similar to an old deployment below
// their prefix, which a journal may be: there dynamodt's files are beside it.
const knowsItsOwn = (provider) => provider.getAwsSdkV3Config !== undefined;

function prefixOf(provider, { service }, stage) {
  return knowsItsOwn(provider) ? `${provider.getDeploymentPrefix()}/${service}/${stage}/dynamodt` : `dynamodt/${service}/${stage}`;
}

function onRemoval(provider, service, storage) {
  const history = "the history in dynamodt's state table stays";
  if (knowsItsOwn(provider)) return `the files of its runs, ${storage}, are deleted with the service's artifacts; ${history}`;
  if (service.provider.deploymentBucket) return `the files of its runs, ${storage}, stay; ${history}`;
  return `CloudFormation cannot delete the deployment bucket while it holds the files of dynamodt's runs; first: aws s3 rm --recursive ${storage}`;
}

module.exports = { filesOf, STAGES };
