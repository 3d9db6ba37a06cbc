"""The tags by which a resource says whose it is, on whatever infra/template.yaml makes and leaves behind."""

STAGE_TAG = "dynamodt:stage"
BUCKET_TAG = "dynamodt:bucket"  # on a key: the bucket of its stage, which alone of all names is unique everywhere
