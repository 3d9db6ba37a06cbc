"""Ctrl-C and SIGTERM, once and twice."""

from __future__ import annotations

import os
import signal

import pytest

from dynamodt.pipeline.process import StoppedError, Terminated, raise_on_signals, signal_name


@pytest.mark.parametrize(
    ("number", "kind", "name", "code"),
    [(signal.SIGINT, KeyboardInterrupt, "Ctrl-C", 130), (signal.SIGTERM, Terminated, "SIGTERM", 143)],
)
def test_a_signal_raises_and_is_reported_once(
    number: signal.Signals, kind: type[KeyboardInterrupt], name: str, code: int
) -> None:
    told: list[str] = []
    before = signal.getsignal(number)
    with raise_on_signals(lambda: told.append("stopping")) as signals:
        for count in (1, 2):
            with pytest.raises(kind) as raised:
                os.kill(os.getpid(), number)
            assert signals.count == count
    assert told == ["stopping"]
    assert signal.getsignal(number) is before
    assert signal_name(raised.value) == name
    stopped = StoppedError.by(raised.value, "how to go on")
    assert (stopped.what, stopped.hint, stopped.exit_code) == (f"stopped by {name}", "how to go on", code)
