"""The plot of RESULTS.md, by `plot.py results.json plot.png`: CPU for an item, and items a second against latency."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(source: str, target: str) -> None:
    results = {name: part["figures"] for name, part in json.loads(Path(source).read_text(encoding="utf-8")).items()}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    if "cpu" in results:
        draw_cpu(left, results["cpu"]["canned, 100 %"])
    if "rate" in results:
        draw_rate(right, results["rate"])
    figure.savefig(target, dpi=110)


def draw_cpu(axes: plt.Axes, figures: dict[str, float]) -> None:
    labels = sorted(figures, key=lambda label: -figures[label])
    bars = axes.barh(labels, [figures[label] for label in labels], color=[colour(label) for label in labels])
    axes.bar_label(bars, fmt=" %.0f", padding=2)
    axes.set_xscale("log")
    axes.set_xlim(10, max(figures.values()) * 2)
    axes.set_title("Client CPU for a changed item, in microseconds (less is better)", fontsize=10)


def draw_rate(axes: plt.Axes, figures: dict[str, dict[str, dict[str, float]]]) -> None:
    latencies = list(figures)
    for label in figures[latencies[0]]["items_per_s"]:
        heights = [figures[latency]["items_per_s"][label] for latency in latencies]
        axes.plot(latencies, heights, marker="o", label=label, color=colour(label))
    axes.set_yscale("log")
    axes.set_title("Changed items a second, by the endpoint's latency", fontsize=10)
    axes.legend(fontsize=8)


def colour(label: str) -> str:
    known = {"dynamodt": "tab:green", "(d)": "tab:grey", "(a)": "tab:blue", "(b)": "tab:cyan", "(c)": "tab:red"}
    return next((name for start, name in known.items() if label.startswith(start)), "tab:orange")


if __name__ == "__main__":
    main(*sys.argv[1:])
