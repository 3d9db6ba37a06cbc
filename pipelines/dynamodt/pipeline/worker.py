"""A process of Beam's in-process runner with `--direct_running_mode=multi_processing`.

It is Beam's SDK worker, with the output of scripts captured from the start, and without Beam's own log on the screen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dynamodt.pipeline.author_output import capture_in_worker

MODULE = "apache_beam.runners.worker.sdk_worker_main"  # the module that Beam would start instead


def main(words: Sequence[str]) -> None:
    """Work until the runner closes the connection."""
    capture_in_worker()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(list(words))


if __name__ == "__main__":
    main(sys.argv)
