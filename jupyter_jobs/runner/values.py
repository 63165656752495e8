"""What a recorded value is as JSON. Runs inside kernels, by its source text: standard library only, and syntax that old Pythons read."""

import json
import math

LIMIT = 65536
ITEMS = 1000
DEPTH = 8


def to_json(value: object, depth: int = 0) -> object:
    """`value` as JSON: numbers, texts, small lists and dicts as they are (NumPy's and pandas' too), NaN and infinities as text, else the repr."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        number = float(value)
        if math.isnan(number):
            return "NaN"
        if math.isinf(number):
            return "Infinity" if number > 0 else "-Infinity"
        return number
    if isinstance(value, str):
        return str(value).encode("utf-8", "replace").decode("utf-8")[:LIMIT]
    if depth < DEPTH:
        if isinstance(value, dict) and len(value) <= ITEMS:
            return {to_key(key): to_json(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and len(value) <= ITEMS:
            return [to_json(item, depth + 1) for item in value]
        if isinstance(value, (set, frozenset)) and len(value) <= ITEMS:
            return sorted((to_json(item, depth + 1) for item in value), key=repr)
        if type(value).__name__ in ("NAType", "NaTType"):
            return None
        isoformat = getattr(value, "isoformat", None)
        if callable(isoformat):
            return str(isoformat())
        # arrays, tensors and series of any library: one element is a number, few are a list
        count, item, tolist = getattr(value, "numel", None), getattr(value, "item", None), getattr(value, "tolist", None)
        size = count() if callable(count) else getattr(value, "size", None)
        if callable(item) and not getattr(value, "shape", None):
            return to_json(item(), depth + 1)
        if callable(tolist) and isinstance(size, int) and size <= ITEMS:
            return to_json(tolist(), depth + 1)
    return repr(value).encode("utf-8", "replace").decode("utf-8")[:ITEMS]


def to_key(key: object) -> str:
    """A dict's key as JSON has it."""
    plain = key is None or isinstance(key, (bool, int, float))
    return json.dumps(key) if plain else str(key).encode("utf-8", "replace").decode("utf-8")


def dump(value: object) -> str:
    """`to_json(value)` as JSON text; the repr's beginning where that would be more than 64 KiB."""
    text = json.dumps(to_json(value), allow_nan=False)
    return text if len(text) <= LIMIT else json.dumps(repr(value)[:ITEMS])
