"""File names as text that is safe in JSON, and back.

A file name is bytes. Where it is no UTF-8, Python's `surrogateescape` gives text that cannot be sent as JSON, so each byte that is no part of
a character becomes one code point of a private plane. For every usual name the text is the name itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

BASE = 0x10F700
"""Byte b (0x80 to 0xff) is written as chr(BASE + b)."""

_STRANGE = re.compile(f"[\ud800-\udfff{chr(BASE + 0x80)}-{chr(BASE + 0xFF)}]")
_ESCAPED = re.compile(f"[{chr(BASE + 0x80)}-{chr(BASE + 0xFF)}]+")


def safe_text(name: str) -> str:
    """A file name as JSON-safe text. `os_name` gives it back, whatever its bytes were."""
    return name if not _STRANGE.search(name) else _STRANGE.sub(lambda match: "".join(chr(BASE + byte) for byte in os.fsencode(match[0])), name)


def all_plain(names: Iterable[str]) -> bool:
    """Whether `safe_text` leaves all these names as they are."""
    return _STRANGE.search("\0".join(names)) is None


def os_name(text: str) -> str:
    """The file name of a text made by `safe_text`, for use with `os` functions."""
    if not _ESCAPED.search(text):
        return text
    raw = _ESCAPED.sub(lambda match: "".join(chr(0xDC00 + ord(char) - BASE) for char in match[0]), text)
    return os.fsdecode(os.fsencode(raw))


def shown(name: str) -> str:
    """A file name for people: one line, odd characters escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in name)
