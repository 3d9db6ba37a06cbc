"""The figures as RESULTS.md: each beside its aim, whether that is met, and where not, why (`NOTES.md`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.table import ITEM_BYTES

NOTES = Path(__file__).with_name("NOTES.md")
OURS, PUTS, UPDATES, FLOOR = "dynamodt", "(a) boto3, batch_writer", "(c) boto3, update_item", "(d) floor"
HEAD = f"""# What was measured

Written by `make bench`. Each figure is the median of the runs given in its section, the programs in turn (A B A B ...).
CPU is user and system time of the client's process and its children; the endpoint is a separate process on the same
machine. The time for an empty table is subtracted: start-up has a separate section. An item has {ITEM_BYTES} bytes and
ten attributes, among them a map and a set; the version splits `name` in two.

dynamodt is run as a user runs it: `dynamodt up --table T --json` in a folder of its own, with its default state table,
journal, guard and checkpoints. The other programs, in `benchmarks/peers`, are: (a) boto3 as its documentation shows, a
paginated scan and `batch_writer` (unguarded); (b) the same by 8 threads; (c) boto3, `update_item` with a condition for
each item; (d) the floor: signed HTTP on a persistent connection, orjson and guarded PartiQL batches in a bare loop; (e)
Beam with `dynamodb_pyio` as its sink (unguarded).

The **canned endpoint** (`benchmarks/endpoint/canned.c`) answers scans and writes with prepared bytes after a set
latency. It stores no write, and each condition succeeds. dynamodt's state table is in ministack behind it, at the same
latency or more. The journal is written to a folder unless the section names S3.
"""


class Aim(NamedTuple):
    """What was to be reached, what was, and whether it is enough."""

    text: str
    reached: str
    met: bool
    note: str  # the heading in NOTES.md that explains a shortfall


def written(results: dict[str, Any]) -> str:
    """All sections that there are figures for."""
    notes = _notes()
    parts = [HEAD, "![client CPU, and items a second](results.png)", _summary(results)]
    for name, (title, section, aims) in SECTIONS.items():
        if name in results:
            part = results[name]
            parts += [f"## {title}", _when(part), section(part["figures"]), _told(aims(part["figures"]), notes)]
    return "\n\n".join(filter(None, map(str.strip, parts))) + "\n"


def _summary(results: dict[str, Any]) -> str:
    aims = [aim for name, (_, _, of) in SECTIONS.items() if name in results for aim in of(results[name]["figures"])]
    rows = [(aim.text, aim.reached, "yes" if aim.met else "**no**") for aim in aims]
    return f"## The aims\n\n{_table(('aim', 'reached', 'met'), rows)}"


def _when(part: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in part["versions"].items())
    size = "" if part["size"] == 1.0 else f" **Tables of {part['size']:g} times the usual size: a trial.**"
    return (
        f"{part['when']}, {part['times']} runs each, {part['seconds']:.0f} s in all; {part['machine']}, load "
        f"{part['load']}; Python {part['python']}, {versions}.{size}"
    )


def _told(aims: Iterable[Aim], notes: dict[str, str]) -> str:
    missed = dict.fromkeys(aim.note for aim in aims if not aim.met)
    return "\n\n".join(f"*Why not: {note}.* {notes.get(note, '')}".strip() for note in missed)


def _notes() -> dict[str, str]:
    """The explanations by their headings."""
    text = NOTES.read_text(encoding="utf-8") if NOTES.exists() else ""
    found = re.split(r"^## (.+)$", text, flags=re.M)[1:]
    return {heading.strip(): body.strip() for heading, body in zip(found[::2], found[1::2], strict=True)}


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _ratio(text: str, value: float, most: float, note: str) -> Aim:
    return Aim(text, f"{value:.2f}", value <= most, note)


# ---------------------------------------------------------------- the sections


def _cpu(figures: dict[str, Any]) -> str:
    labels = list(dict.fromkeys(label for each in figures.values() for label in each))
    rows = [[label, *(f"{each[label]:.1f}" if label in each else "" for each in figures.values())] for label in labels]
    return _table(["µs of CPU for an item", *figures], rows)


def _cpu_aims(figures: dict[str, Any]) -> list[Aim]:
    found = []
    for where in ("canned, 20 %", "canned, 100 %"):
        each = figures[where]
        found += [
            _ratio(f"CPU at most 1.25 of the floor ({where})", each[OURS] / each[FLOOR], 1.25, "the floor"),
            _ratio(f"CPU at most 0.35 of (a) ({where})", each[OURS] / each[PUTS], 0.35, "boto3"),
            _ratio(f"CPU at most 0.25 of (c) ({where})", each[OURS] / each[UPDATES], 0.25, "boto3"),
        ]
    return found


def _rate(figures: dict[str, Any]) -> str:
    labels = list(next(iter(figures.values()))["items_per_s"])
    head = ["items/s (CPU seconds a second)", *figures]
    rows = [
        [name, *(f"{e['items_per_s'][name]:,.0f} ({e['busy'][name]:.2f})" for e in figures.values())] for name in labels
    ]
    return _table(head, rows)


def _rate_aims(figures: dict[str, Any]) -> list[Aim]:
    each = figures["5 ms"]
    busy, times = each["busy"][OURS], each["items_per_s"][OURS] / each["items_per_s"][PUTS]
    return [
        Aim("CPU-bound at 5 ms: at least 0.9 CPU seconds a second", f"{busy:.2f}", busy >= 0.9, "waiting"),
        Aim("20 times the items/s of (a) at 5 ms", f"{times:.1f}", times >= 20, "twenty times"),
    ]


def _partitions(figures: dict[str, Any]) -> str:
    rows = [
        (n, f"{e['limited']:,.0f}", f"{e['share']:.2f}", f"{e['free']:,.0f}", f"{e['throttled']:.3f}")
        for n, e in figures.items()
    ]
    head = ("processes", "WCU/s, limited", "share of 32,000", "WCU/s without limits", "statements throttled")
    text = (
        "32 partitions of 1,000 WCU/s, each with a second's worth saved up at first, no limit of the account, 2 ms "
        "latency; half as many runs (rounded down)."
    )
    return f"{text}\n\n{_table(head, rows)}"


def _partition_aims(figures: dict[str, Any]) -> list[Aim]:
    least = min(each["limited"] / min(each["free"], 32_000) for each in figures.values())
    text = "never bound by one partition: as fast as without limits, or as all 32 together, within 10 %"
    return [Aim(text, f"{least:.2f}", least >= 0.9, "partitions")]


def _memory(figures: dict[str, float]) -> str:
    return "5 % of the items changed; the largest table was read once.\n\n" + _table(
        ("items", "peak, MB"), [(f"{int(count):,}", f"{peak:.0f}") for count, peak in figures.items()]
    )


def _memory_aims(figures: dict[str, float]) -> list[Aim]:
    """From the table on that fills all pages in flight: a smaller one does not need them."""
    peaks = list(figures.values())[1:]
    growth = max(peaks) / min(peaks)
    all_of_it = max(figures.values()) / min(figures.values())
    return [
        Aim("memory flat within 10 %, 100,000 to 1,000,000 items", f"{growth:.2f}", growth <= 1.1, "memory"),
        Aim("memory flat within 10 %, 10,000 to 1,000,000 items", f"{all_of_it:.2f}", all_of_it <= 1.1, "memory"),
    ]


def _startup(figures: dict[str, Any]) -> str:
    rows = [
        (label, f"{e['seconds']:.2f}", f"{e['cpu']:.2f}", ", ".join(f"{n} {s:.2f}" for n, s in e["imports"][:6]))
        for label, e in figures.items()
    ]
    return _table(("command", "seconds", "CPU", "imports, seconds of their own (under the import profiler)"), rows)


def _startup_aims(figures: dict[str, Any]) -> list[Aim]:
    aims = {"--help": 0.3, "status": 0.6, "up, nothing to do": 1.0}
    found = ((label, most, figures[label]["seconds"]) for label, most in aims.items())
    return [Aim(f"`{label}` in {most} s", f"{took:.2f} s", took <= most, "start-up") for label, most, took in found]


def _workers(figures: dict[str, Any]) -> str:
    rows = [(name, f"{value:,.0f}") for name, value in figures.items() if not isinstance(value, str)]
    texts = [f"{name}: {value}" for name, value in figures.items() if isinstance(value, str)]
    text = (
        "2 ms latency. Multi-processing was run half as often (rounded down), Spark once, over a larger table: a Spark "
        "takes a quarter of a minute to start, which is subtracted."
    )
    return "\n\n".join([text, _table(("workers", "items/s"), rows), *texts])


def _worker_aims(figures: dict[str, Any]) -> list[Aim]:
    found = []
    for name in ("multi-processing", "Spark local-cluster"):
        one, two = figures.get(f"{name}, 1"), figures.get(f"{name}, 2")
        if one and two:
            found.append(
                Aim(f"two workers 1.8 times one ({name})", f"{two / one:.2f}", two / one >= 1.8, "two workers")
            )
        else:
            found.append(Aim(f"two workers 1.8 times one ({name})", "not measured", False, "two workers"))
    return found


def _safety(figures: dict[str, Any]) -> str:
    whole = figures["as it comes"]
    rows = [
        (name, f"{e['cpu_us']:.1f}", f"{e['cpu_us'] / whole['cpu_us']:.2f}", f"{e['items_per_s']:,.0f}")
        for name, e in figures.items()
    ]
    text = "All items changed, 5 ms latency. Without a journal there is no intent, and a checkpoint every second."
    return f"{text}\n\n{_table(('', 'µs of CPU for an item', 'of the whole', 'items/s'), rows)}"


def _requests(figures: dict[str, Any]) -> str:
    head = ("", "requests/item", "writing requests/change", "WCU/change", "RCU/item", "bytes sent/item", "received")
    rows = [
        (
            name,
            f"{e['requests_per_item']:.4f}",
            f"{e['writing_requests_per_change']:.4f}",
            f"{e['wcu_per_change']:.3f}",
            f"{e['rcu_per_item']:.3f}",
            f"{e['bytes_out_per_item']:.0f}",
            f"{e['bytes_in_per_item']:.0f}",
        )
        for name, e in figures.items()
    ]
    return "By the canned endpoint's own count, of the table alone.\n\n" + _table(head, rows)


def _request_aims(figures: dict[str, Any]) -> list[Aim]:
    found = []
    for share in ("20 %", "100 %"):
        each = figures[f"{OURS}, {share}"]
        units, most = each["wcu_per_change"], each["writing_requests_per_change"]
        found += [
            Aim(f"no more write units than changed items need ({share})", f"{units:.3f}", units <= 1.0, "requests"),
            Aim(f"requests at most 1/25 of the writes ({share})", f"{most:.4f}", most <= 1 / 25, "requests"),
        ]
    return found


def _connectors(figures: dict[str, Any]) -> str:
    floors = {"read": figures["read: floor"]["cpu_us"], "write": figures["write: floor"]["cpu_us"]}
    rows = [
        (name, f"{e['cpu_us']:.1f}", f"{e['cpu_us'] / floors[name.partition(':')[0]]:.2f}", f"{e['items_per_s']:,.0f}")
        for name, e in figures.items()
        if name != "write: elements alone"
    ]
    text = (
        "`dynamodt.io` on Beam's in-process runner; one segment is read. What Beam takes to make the elements that are "
        f"written, {figures['write: elements alone']['cpu_us']:.1f} µs, is in the CPU of all but boto3's and the "
        "floor's. The floor of reading decodes JSON to images, that of writing puts prepared images, without types to "
        "find; both have one request on its way."
    )
    return f"{text}\n\n{_table(('', 'µs of CPU for an item', 'of the floor', 'items/s at 5 ms'), rows)}"


Section = tuple[str, Callable[[dict[str, Any]], str], Callable[[dict[str, Any]], list[Aim]]]
SECTIONS: dict[str, Section] = {
    "cpu": ("1. Client CPU", _cpu, _cpu_aims),
    "rate": ("2. Items a second of one process", _rate, _rate_aims),
    "partitions": ("3. Partition limits", _partitions, _partition_aims),
    "memory": ("4. Memory", _memory, _memory_aims),
    "startup": ("5. Start-up", _startup, _startup_aims),
    "workers": ("6. Two workers against one", _workers, _worker_aims),
    "safety": ("7. The price of safety", _safety, lambda figures: []),
    "requests": ("8. Requests and units", _requests, _request_aims),
    "connectors": ("9. The connectors", _connectors, lambda figures: []),
}
