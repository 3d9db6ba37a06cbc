"""The program of a worker process: Beam's SDK worker, with the output of scripts captured from the start.

- Beam's in-process runner starts it, without options, with `--direct_running_mode=multi_processing`. Beam's own log is
  not on the screen.
- A Spark executor starts it in a PROCESS environment, `python -m dynamodt.pipeline.worker --id=...`, in place of the Go
  program in Beam's containers. It requests the pipeline's options from the executor and passes them on in the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from dynamodt.pipeline.author_output import capture_in_worker
from dynamodt.pipeline.process import bypass_proxy_for_beam

_SECONDS = 60.0
MODULE = "apache_beam.runners.worker.sdk_worker_main"  # the module that Beam would start instead


def main(words: Sequence[str]) -> None:
    """Work until the runner closes the connection."""
    capture_in_worker()
    given = parsed(words)
    if given.provision_endpoint:
        bypass_proxy_for_beam()
        os.environ["WORKER_ID"] = given.id  # read when Beam is imported
        os.environ.update(environment(provision(given.provision_endpoint, given.id), given))

    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(list(words))


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options that an executor passes; unknown ones, of later versions of Beam, are ignored."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("id", "logging_endpoint", "artifact_endpoint", "provision_endpoint", "control_endpoint"):
        parser.add_argument(f"--{name}", default="")
    return parser.parse_known_args(words)[0]


def provision(endpoint: str, worker: str) -> Any:
    """The executor's settings for a new worker, as Beam's ProvisionInfo."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc

    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        return service.GetProvisionInfo(request, metadata=[("worker_id", worker)], timeout=_SECONDS).info


def environment(info: Any, given: argparse.Namespace) -> dict[str, str]:
    """The variables that Beam's SDK worker reads; an endpoint of `info` has precedence over a given one."""
    variables = {
        "PIPELINE_OPTIONS": options(info.pipeline_options),
        "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(info.logging_endpoint.url or given.logging_endpoint),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(info.control_endpoint.url or given.control_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if info.status_endpoint.url:
        variables["STATUS_API_SERVICE_DESCRIPTOR"] = _descriptor(info.status_endpoint.url)
    return variables


def options(struct: Any) -> str:
    """The pipeline's options as JSON, with whole numbers as integers: a protobuf Struct has none, and Beam, which turns
    the options into arguments again, does not accept "4.0" for an integer."""
    from google.protobuf import json_format

    return json.dumps({name: _whole(value) for name, value in json_format.MessageToDict(struct).items()})


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _descriptor(url: str) -> str:
    from apache_beam.portability.api import endpoints_pb2
    from google.protobuf import text_format

    return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))


if __name__ == "__main__":
    main(sys.argv[1:])
