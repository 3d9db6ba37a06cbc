"""The nine measurements. Each returns its figures, as JSON can hold them; `report` explains them.

Every figure is the median of `times` runs, in turn. "An item" is an item of the table, changed or not. What a program
takes for an empty table (its imports, its start) is subtracted, except where the start itself is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.endpoints import Canner, Endpoint, fill
from benchmarks.peers.connectors import READING, WRITING
from benchmarks.programs import (
    BENCH_PYTHON,
    COMMAND,
    PEERS,
    PYTHON,
    ROOT,
    Program,
    Project,
    Taken,
    dynamodt,
    in_turn,
    median,
    peer,
    timed,
)  # fmt: skip

Figures = dict[str, Any]
EMPTY = "empty"
PUTS, THREADS, UPDATES, FLOOR, PYIO = (
    peer("(a) boto3, batch_writer", "boto3_puts.py"),
    peer("(b) boto3, 8 threads", "boto3_threads.py"),
    peer("(c) boto3, update_item", "boto3_updates.py"),
    peer("(d) floor", "floor.py"),
    peer("(e) Beam, dynamodb_pyio", "beam_pyio.py", BENCH_PYTHON),
)
OURS = dynamodt()


@dataclass(frozen=True)
class Bench:
    """What the measurements share: the two endpoints, how large the tables are (1.0: as published), and how often."""

    ministack: Endpoint
    canner: Canner
    size: float = 1.0
    times: int = 5

    def items(self, full: int) -> int:
        return max(200, int(full * self.size))

    @contextmanager
    def canned(self, *counts: int, **how: Any) -> Iterator[Endpoint]:
        """The canned endpoint with a table for each of these numbers of items, and an empty one."""
        with self.canner.open({EMPTY: 0, **{f"t{count}": count for count in counts}}, **how) as endpoint:
            yield endpoint


def _over(bench: Bench, endpoint: Endpoint, runs: Mapping[Program, int], share: int) -> dict[str, list[Taken]]:
    """Each program on its table, and on the empty one ("" + label), all in turn."""

    def on(program: Program, table: str) -> Callable[[], Taken]:
        return lambda: program.run(endpoint, table, share)

    full = {program.label: on(program, f"t{count}") for program, count in runs.items()}
    empty = {f"empty {program.label}": on(program, EMPTY) for program in runs}
    return in_turn({**full, **empty}, bench.times)


def _net(taken: Mapping[str, Sequence[Taken]], label: str, what: str) -> float:
    """The median of what a program took for its items: without what it takes for none."""
    full, empty = (median([getattr(one, what) for one in taken[name]]) for name in (label, f"empty {label}"))
    return full - empty if full > empty else nan  # tables too small for this machine's noise


# ---------------------------------------------------------------- 1: CPU


def cpu(bench: Bench) -> Figures:
    """Microseconds of client CPU an item, at 20 % and 100 % changed; on ministack 100 % alone."""
    figures: Figures = {}
    large, small = bench.items(20_000), bench.items(2_500)
    runs = {OURS: large, FLOOR: large, PUTS: small, THREADS: small, UPDATES: bench.items(800), PYIO: small}
    with bench.canned(*set(runs.values())) as endpoint:
        for share in (20, 100):
            taken = _over(bench, endpoint, runs, share)
            figures[f"canned, {share} %"] = _micros(taken, runs)
    figures["ministack, 100 %"] = _on_ministack(bench, bench.items(5_000), bench.items(1_000))
    return figures


def _micros(taken: Mapping[str, Sequence[Taken]], runs: Mapping[Program, int]) -> dict[str, float]:
    return {program.label: _net(taken, program.label, "cpu") / count * 1e6 for program, count in runs.items()}


def _on_ministack(bench: Bench, large: int, small: int) -> dict[str, float]:
    """Here what is written stays, so that every run has a table of its own; filling it is not measured. Those that take
    little for an item have a larger one: what they take for none varies by as much as for hundreds."""
    programs = {OURS: large, FLOOR: large, PUTS: small, UPDATES: small}

    def on(program: Program, items: int) -> Callable[[], Taken]:
        def run() -> Taken:
            table = f"m{uuid4().hex[:8]}"
            fill(bench.ministack, table, items)
            taken = program.run(bench.ministack, table, 100)
            bench.ministack.client.delete_table(TableName=table)
            return taken

        return run

    full = {program.label: on(program, count) for program, count in programs.items()}
    taken = in_turn({**full, **{f"empty {program.label}": on(program, 0) for program in programs}}, bench.times)
    return _micros(taken, programs)


# ---------------------------------------------------------------- 2: items a second


def rate(bench: Bench) -> Figures:
    """Items a second of one process, all of them changed, at each latency; and how busy its processor was."""
    figures: Figures = {}
    for latency in (0, 5, 20):
        large, puts = bench.items(30_000), bench.items(2_000 if latency < 20 else 1_000)
        runs = {OURS: large, FLOOR: bench.items(6_000 if latency < 20 else 1_500), PUTS: puts, THREADS: puts * 2}
        runs[UPDATES] = bench.items(300 if latency < 20 else 80)
        with bench.canned(*set(runs.values()), latency=latency / 1000) as endpoint:
            taken = _over(bench, endpoint, runs, 100)
        seconds = {program.label: _net(taken, program.label, "seconds") for program in runs}
        figures[f"{latency} ms"] = {
            "items_per_s": {program.label: count / seconds[program.label] for program, count in runs.items()},
            "busy": {program.label: _net(taken, program.label, "cpu") / seconds[program.label] for program in runs},
        }
    return figures


# ---------------------------------------------------------------- 3: partitions


def partitions(bench: Bench) -> Figures:
    """The share of 32 partitions' 32,000 WCU/s that one, two and four processes reach."""
    limits: dict[str, Any] = {"partitions": 32, "wcu": 1000}
    count = bench.items(120_000)
    figures: Figures = {}
    with bench.canned(count, latency=0.002) as free, bench.canned(count, latency=0.002, **limits) as limited:
        for workers in (1, 2, 4):
            program = processes(workers)
            runs: dict[str, Callable[[], Taken]] = {}
            for name, endpoint in (("limited", limited), ("free", free)):
                runs[name] = _fresh(program, endpoint, f"t{count}")
                runs[f"empty {name}"] = _fresh(program, endpoint, EMPTY)
            limited.stats()
            taken = in_turn(runs, max(1, bench.times // 2))
            stats = limited.stats()
            reached = {name: count / _net(taken, name, "seconds") for name in ("limited", "free")}
            throttled = stats["throttled"] / max(1.0, stats["statements"])
            figures[str(workers)] = {**reached, "share": reached["limited"] / 32_000, "throttled": throttled}
    return figures


def _fresh(program: Program, endpoint: Endpoint, table: str) -> Callable[[], Taken]:
    return lambda: program.run(endpoint, table, 100)


def processes(workers: int) -> Program:
    """dynamodt in Beam's multi-processing mode; one worker is its usual one, within the command itself."""
    return _forced(workers) if workers > 1 else OURS


# ---------------------------------------------------------------- 4: memory


def memory(bench: Bench) -> Figures:
    """Peak memory in MB, 5 % changed: of 10,000 and 100,000 items the median; of 1,000,000 one run, for its length."""
    counts = [bench.items(10_000), bench.items(100_000), bench.items(1_000_000)]
    with bench.canned(*counts) as endpoint:
        runs = {str(count): _small_share(endpoint, count) for count in counts[:2]}
        taken = in_turn(runs, bench.times)
        taken[str(counts[2])] = [_small_share(endpoint, counts[2])()]
    return {count: median([one.peak for one in each]) / 2**20 for count, each in taken.items()}


def _small_share(endpoint: Endpoint, count: int) -> Callable[[], Taken]:
    return lambda: OURS.run(endpoint, f"t{count}", 5)


# ---------------------------------------------------------------- 5: start-up


def startup(bench: Bench) -> Figures:
    """Seconds, by the clock and of CPU, of commands that have nothing to do; and which imports cost the most."""
    count = bench.items(1_000)
    with bench.canned(count) as endpoint, tempfile.TemporaryDirectory() as name:
        folder, table = Path(name), f"t{count}"
        project = Project()
        project.lay_out(folder, table, 100)
        project.again(endpoint, table, folder)  # applies version 1, and writes the bytecode
        environment = {"AWS_ENDPOINT_URL": endpoint.url}
        commands = {"--help": ["--help"], "status": ["status"], "up, nothing to do": ["up", "--table", table]}

        def run(words: Sequence[str]) -> Callable[[], Taken]:
            return lambda: timed([COMMAND, *words], folder, environment)

        taken = in_turn({label: run(words) for label, words in commands.items()}, bench.times)
        imports = {label: _imports(folder, environment, words) for label, words in commands.items()}
    figures = {}
    for label, each in taken.items():
        seconds, busy = (median([getattr(one, what) for one in each]) for what in ("seconds", "cpu"))
        figures[label] = {"seconds": seconds, "cpu": busy, "imports": imports[label]}
    return figures


def _imports(folder: Path, environment: Mapping[str, str], words: Sequence[str]) -> list[tuple[str, float]]:
    """The dearest packages of a command, in seconds of their modules' own time."""
    command = [sys.executable, "-X", "importtime", COMMAND, *words]
    output = subprocess.run(
        command, cwd=folder, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True
    ).stderr
    spent: dict[str, float] = {}
    for line in output.splitlines():
        own, _, name = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            package = name.rpartition("|")[2].strip().partition(".")[0]
            spent[package] = spent.get(package, 0.0) + int(own) / 1e6
    return sorted(spent.items(), key=lambda pair: -pair[1])[:8]


# ---------------------------------------------------------------- 6: two workers


def workers(bench: Bench) -> Figures:
    """Items a second of one and of two workers: Beam's multi-processing, and a local Spark of as many executors."""
    count, many = bench.items(160_000), bench.items(400_000)  # what varies in a start is a small part of it
    figures: Figures = {}
    with bench.canned(count, many, latency=0.002) as endpoint:
        programs = {f"multi-processing, {n}": _forced(n) for n in (1, 2)}
        figures |= _rates(programs, endpoint, count, max(1, bench.times // 2))
        programs = {f"Spark local-cluster, {n}": _spark(n) for n in (1, 2)}
        try:
            figures |= _rates(programs, endpoint, many, 1)
        except RuntimeError as error:  # no Spark here: it is part of the report
            figures["Spark"] = str(error)[-300:]
    return figures


def _rates(programs: Mapping[str, Program], endpoint: Endpoint, count: int, times: int) -> dict[str, float]:
    runs = {label: _fresh(program, endpoint, f"t{count}") for label, program in programs.items()}
    empty = {f"empty {label}": _fresh(program, endpoint, EMPTY) for label, program in programs.items()}
    taken = in_turn({**runs, **empty}, times)
    return {label: count / _net(taken, label, "seconds") for label in programs}


def _forced(workers: int) -> Program:
    """Even one worker in a process of its own: what two are compared with."""
    mode = ("--", f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing")
    return dynamodt(f"{workers} processes", words=mode)


def _spark(workers: int) -> Program:
    words = ("--runner", "spark", "--spark-master", f"local-cluster[{workers},1,1024]")
    return dynamodt(f"spark {workers}", words=words)


# ---------------------------------------------------------------- 7: the price of safety


def safety(bench: Bench) -> Figures:
    """CPU an item and items a second with each precaution, all items changed, 5 ms latency."""
    count, bucket = bench.items(20_000), f"bench-{uuid4().hex[:8]}"
    _make_bucket(bench.ministack, bucket)
    programs = [
        dynamodt("as it comes"),
        dynamodt("no journal", constants="IDEMPOTENT = True"),
        dynamodt('GUARD = "changed"', constants='GUARD = "changed"'),
        dynamodt("no journal, changed", constants='IDEMPOTENT = True\nGUARD = "changed"'),
        dynamodt("journal in S3", storage=f"s3://{bucket}/dynamodt"),
    ]
    with bench.canned(count, latency=0.005) as endpoint:
        taken = _over(bench, endpoint, dict.fromkeys(programs, count), 100)
    return {
        program.label: {
            "cpu_us": _net(taken, program.label, "cpu") / count * 1e6,
            "items_per_s": count / _net(taken, program.label, "seconds"),
        }
        for program in programs
    }


def _make_bucket(endpoint: Endpoint, bucket: str) -> None:
    from dynamodt.dynamodb.clients import client

    client(endpoint.connection, "s3").create_bucket(Bucket=bucket)


# ---------------------------------------------------------------- 8: requests and units


def requests(bench: Bench) -> Figures:
    """What one run asks of the table, by the endpoint's own count. It is the same each time, so it is counted once."""
    count = bench.items(10_000)
    figures: Figures = {}
    with bench.canned(count) as endpoint:
        for program in (OURS, FLOOR, PUTS, UPDATES):
            for share in (20, 100):
                endpoint.stats()
                program.run(endpoint, f"t{count}", share)
                stats = endpoint.stats()
                changed = count * share / 100
                figures[f"{program.label}, {share} %"] = {
                    "requests_per_item": stats["requests"] / count,
                    "writing_requests": stats["batches"] + stats["updates"],
                    "writing_requests_per_change": (stats["batches"] + stats["updates"]) / changed,
                    "wcu_per_change": stats["wcu"] / changed,
                    "rcu_per_item": stats["rcu"] / count,
                    "bytes_out_per_item": stats["bytes_in"] / count,
                    "bytes_in_per_item": stats["bytes_out"] / count,
                }
    return figures


# ---------------------------------------------------------------- 9: connectors


def connectors(bench: Bench) -> Figures:
    """CPU an item without latency, and items a second at 5 ms, of reading and of each way of writing, and of their
    peers. What Beam takes to make the elements of the connectors is in both."""
    figures: Figures = {}
    runs = {_way(label): bench.items(100_000) for label in READING}
    runs |= {
        _way(label): bench.items(3_000 if label.endswith(("pyio", "batch_writer")) else 20_000) for label in WRITING
    }
    with bench.canned(*set(runs.values())) as near, bench.canned(*set(runs.values()), latency=0.005) as far:
        cpu, seconds = _over(bench, near, runs, 100), _over(bench, far, runs, 100)
    for program, count in runs.items():
        micros, rate = _net(cpu, program.label, "cpu") / count * 1e6, count / _net(seconds, program.label, "seconds")
        figures[program.label] = {"cpu_us": micros, "items_per_s": rate}
    return figures


def _way(label: str) -> Program:
    python = BENCH_PYTHON if label.endswith("pyio") else PYTHON
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1"}

    def run(endpoint: Endpoint, table: str, share: int) -> Taken:
        count = "0" if table == EMPTY else table[1:]
        return timed([python, str(PEERS / "connectors.py"), endpoint.url, table, count, label], ROOT, keys)

    return Program(label, run)


MEASURES: dict[str, Callable[[Bench], Figures]] = {
    measure.__name__: measure
    for measure in (cpu, rate, partitions, memory, startup, workers, safety, requests, connectors)
}
