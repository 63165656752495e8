"""Sizes and cores as people write them on the command line."""

from __future__ import annotations

import argparse
import re

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def size(text: str) -> int:
    """`500M`, `1.5G`, `2Gi` in bytes: k, M, G, T are powers of 1000, Ki, Mi, Gi, Ti of 1024. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*?)b?", text.strip(), re.ASCII | re.IGNORECASE)
    # a small m would be thousandths, as it is of cores
    if found is None or found[2].lower() not in UNITS or found[2] == "m":
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 500M, 2G or 1.5Gi")
    return round(float(found[1]) * UNITS[found[2].lower()])


def cores(text: str) -> float:
    """`2`, `1.5`, or thousandths of a core: `500m`. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", text.strip(), re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of cores; write it like 2, 1.5 or 500m")
    return float(found[1]) / (1000 if found[2] else 1)
