"""What the figures say: a table of medians, each target with whether it is met, and a plot.

    python -m benchmarks.report [--publish]

Reads `.cache/bench/engine.json` and, where it is there, `many.json`. `--publish` puts the table into `benchmarks/README.md`, between its markers,
and the plot beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from math import log10
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.environments import CACHE
from benchmarks.notebooks import TITLES

HERE = Path(__file__).parent
BEGIN, END = "<!-- engine: begin -->", "<!-- engine: end -->"
PEERS = ("papermill", "papermill without rfc3987", "jupyter-scheduler", "jupyter-scheduler without rfc3987")


class Figures:
    """The records of one benchmark."""

    def __init__(self, file: Path) -> None:
        found = json.loads(file.read_text())
        self.machine: dict[str, object] = found["machine"]
        self.quick: bool = found["quick"]
        self._records: list[dict[str, Any]] = found["records"]

    def amounts(self, part: str, who: str) -> list[int]:
        """How many runs were measured at a time, fewest first."""
        return sorted({one["runs"] for one in self._records if one["part"] == part and one["who"] == who})

    def all(self, part: str, who: str, runs: int, what: str) -> list[float]:
        return [one[what] for one in self._records if (one["part"], one["who"], one["runs"]) == (part, who, runs) and what in one]

    def median(self, part: str, who: str, runs: int, what: str) -> float | None:
        found = self.all(part, who, runs, what)
        return statistics.median(found) if found else None

    def most(self, part: str, who: str) -> int:
        """The most often measured number of runs of a contender, of those the largest; 0: none."""
        amounts = self.amounts(part, who)
        return max(amounts, key=lambda runs: (len(self.all(part, who, runs, "seconds")), runs), default=0)

    def each(self, part: str, who: str, what: str = "seconds", runs: int = 0) -> float | None:
        """Median of a run's share."""
        runs = runs or self.most(part, who)
        found = self.median(part, who, runs, what)
        return None if found is None else found / runs


def table(file: Path) -> str:
    """Everything as markdown."""
    figures = Figures(file)
    parts = [f"Measured on {machine.text(figures.machine)}"]
    if figures.quick:
        parts.append("**A quick try with two runs: its figures mean nothing.**")
    parts += ["\n".join(throughput(figures)), "\n".join(single(figures)), "\n".join(targets(figures)), idleness(figures)]
    return "\n\n".join(filter(None, parts)) + "\n"


def throughput(figures: Figures) -> Iterable[str]:
    yield "| many runs | runs | rounds | seconds | first result, s | seconds a run | CPU seconds a run | failed |"
    yield "|---|---|---|---|---|---|---|---|"
    for part in ("trivial", "pandas"):
        for who in ("ours", "limit", *PEERS):
            for runs in figures.amounts(part, who):
                seconds = figures.all(part, who, runs, "seconds")
                first, cpu = figures.median(part, who, runs, "first"), figures.each(part, who, "cpu", runs)
                middle, failed = statistics.median(seconds), sum(figures.all(part, who, runs, "failed"))
                shown = f"{middle:.2f} | {first:.2f} | {middle / runs:.3f} | {cpu:.3f} | {failed or ''}"
                yield f"| {TITLES[part]}: {who} | {runs} | {len(seconds)} | {shown} |"


def idleness(figures: Figures) -> str:
    forks, wakeups = figures.median("idle", "ours", 0, "forks"), figures.median("idle", "ours", 0, "wakeups")
    return "" if forks is None or wakeups is None else f"The idle dispatcher wakes {wakeups:.2f} times a second; its fork servers take {forks:.2g} %."


def single(figures: Figures) -> Iterable[str]:
    yield "| one run | rounds | seconds | CPU seconds | memory, MB | held before, MB |"
    yield "|---|---|---|---|---|---|"
    names = ("ours", "ours, watched", "ours, no dispatcher", "ours, empty store", *PEERS, "limit")
    for part, title in (("one", TITLES["trivial"]), ("output", TITLES["output"]), ("cells", TITLES["cells"]), ("live", "through REST")):
        for who in names:
            if seconds := figures.all(part, who, 1, "seconds"):
                values = [figures.median(part, who, 1, what) for what in ("seconds", "cpu", "peak", "standing")]
                shown = " | ".join("" if value is None else f"{value:.0f}" if place > 1 else f"{value:.2f}" for place, value in enumerate(values))
                yield f"| {title}: {who} | {len(seconds)} | {shown} |"


def targets(figures: Figures) -> Iterable[str]:
    yield "| target | wanted | found | |"
    yield "|---|---|---|---|"
    for name, bound, wanted, found in [*targets_of(figures), *targets_of_many()]:
        met = found is not None and (found >= wanted if bound == "≥" else found <= wanted)
        shown = "not measured" if found is None else f"{found:.3g}"
        yield f"| {name} | {bound} {wanted:g} | {shown} | {'' if found is None else 'met' if met else '**not met**'} |"


Target = tuple[str, str, float, float | None]


def targets_of(figures: Figures) -> Iterable[Target]:
    """Name, which way, the bound, what was found. Peers' 20 and 200 runs are a run's share times that."""
    amounts = figures.amounts("trivial", "ours") or [20, 200]
    few, many = amounts[0], amounts[-1]
    ours, limit = figures.each("trivial", "ours", "cpu", many), figures.each("trivial", "limit", "cpu", many)
    yield "CPU seconds a run over the limit's (goal 0.15)", "≤", 0.25, None if ours is None or limit is None else ours - limit
    for who, runs, wanted in (
        ("papermill", few, 25),
        ("jupyter-scheduler", few, 50),
        ("papermill", many, 40),
        ("papermill without rfc3987", few, 12),
        ("jupyter-scheduler without rfc3987", few, 25),
        ("papermill without rfc3987", many, 25),
    ):
        found = ratio(figures.each("trivial", who), figures.each("trivial", "ours", runs=runs))
        yield f"{runs} trivial runs: times faster than {who}", "≥", wanted, found
    yield "pandas: times faster than papermill", "≥", 12, ratio(figures.each("pandas", "papermill"), figures.each("pandas", "ours"))
    yield "pandas: time over the limit's", "≤", 1.5, ratio(figures.each("pandas", "ours"), figures.each("pandas", "limit"))
    papermill = figures.median("one", "papermill", 1, "seconds")
    for who in ("ours, no dispatcher", "ours, empty store"):
        yield (
            f"cold start ({who.removeprefix('ours, ')}) over one run of papermill",
            "≤",
            1,
            ratio(figures.median("one", who, 1, "seconds"), papermill),
        )
    live = figures.median("live", "ours", 1, "seconds")
    yield "one run through REST over jupyter-scheduler's", "≤", 1 / 15, ratio(live, figures.median("live", "jupyter-scheduler", 1, "seconds"))
    first, alone = figures.median("trivial", "ours", many, "first"), figures.median("one", "ours", 1, "seconds")
    yield f"first result of {many}, s later than one run alone takes", "≤", 0.5, None if first is None or alone is None else first - alone
    yield "idle dispatcher, % of a core", "≤", 0.2, figures.median("idle", "ours", 0, "percent")
    heard = figures.median("live", "ours", 1, "heard")
    yield "state change heard of after, ms", "≤", 300, None if heard is None else heard * 1000


def targets_of_many() -> Iterable[Target]:
    file = CACHE / "many.json"
    found = json.loads(file.read_text()) if file.exists() else {"runs": 10_000}
    yield f"{found['runs']:,} runs: a run's CPU at the end over that at the start", "≤", 1.2, found.get("cpu_ratio")
    yield f"{found['runs']:,} runs: a run's time at the end over that at the start", "≤", 1.2, found.get("time_ratio")
    yield f"{found['runs']:,} runs: the server grew by, MB", "≤", 100, found.get("growth")
    yield f"{found['runs']:,} runs: p99 of a page of runs over idle", "≤", 5, found.get("p99_ratio")


def ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def plot(file: Path) -> str:
    """Seconds a run of each contender as an SVG with a logarithmic scale."""
    figures = Figures(file)
    bars = [(f"{TITLES[part]}: {who}", figures.each(part, who), who) for part in ("trivial", "pandas") for who in ("ours", "limit", *PEERS)]
    shown = [(name, seconds, who) for name, seconds, who in bars if seconds is not None]
    least, left, height = 0.005, 350, 22
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="850" height="{height * len(shown) + 60}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="18" font-weight="bold">Seconds a run (logarithmic; shorter is better)</text>',
    ]
    scale = 100  # a power of ten
    for power in range(-2, 3):
        x = left + scale * (power - log10(least))
        if x <= 820:
            lines.append(f'<path d="M{x:.0f} 28V{height * len(shown) + 38}" stroke="#ddd"/>')
            lines.append(f'<text x="{x:.0f}" y="{height * len(shown) + 53}" text-anchor="middle">{10.0**power:g}</text>')
    for row, (name, seconds, who) in enumerate(shown):
        width = max(scale * (log10(seconds) - log10(least)), 1)
        y = 32 + row * height
        colour = {"ours": "#f37726", "limit": "#999999"}.get(who, "#4e79a7")
        lines.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>')
        lines.append(f'<rect x="{left}" y="{y + 2}" width="{width:.0f}" height="{height - 6}" fill="{colour}"/>')
        lines.append(f'<text x="{left + width + 5:.0f}" y="{y + 14}">{seconds:.3g}</text>')
    return "\n".join([*lines, "</svg>", ""])


def publish(file: Path) -> None:
    """Put table and plot into the README's place for them."""
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{readme} has no place between {BEGIN} and {END}")
    (HERE / "engine.svg").write_text(plot(file))
    readme.write_text(f"{before}{BEGIN}\n![Seconds a run](engine.svg)\n\n{table(file)}{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true")
    file = CACHE / "engine.json"
    if parser.parse_args().publish:
        publish(file)
    print(table(file))


if __name__ == "__main__":
    main()
