# dynamodt with Beam and the locked versions: `make image`. In the folder that holds transforms/:
#   docker run --rm --volume "$PWD:/project" --env AWS_REGION --env AWS_ACCESS_KEY_ID ... dynamodt status --stage prod
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/dynamodt \
    && /opt/dynamodt/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements/job.lock \
    && /opt/dynamodt/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/dynamodt /opt/dynamodt
ENV PATH=/opt/dynamodt/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 dynamodt
USER 1000
WORKDIR /project
ENTRYPOINT ["dynamodt"]
CMD ["--help"]
