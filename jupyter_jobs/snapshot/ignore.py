"""Git's ignore rules, for trees where git cannot be asked and for `.jobsignore` and `.jobsinclude`.

The meaning is git's to the letter (a property test compares the two): the last matching line of the nearest file decides, `!` takes back,
and what lies in a directory that is left out stays out. pathspec is not used because it also matches everything *below* a matched directory,
which gives another answer as soon as a directory is taken back after a line that concerns its files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from typing import NamedTuple

CLASSES = {
    b"alnum": b"0-9A-Za-z", b"alpha": b"A-Za-z", b"blank": b" \\t", b"cntrl": b"\\x00-\\x1f\\x7f", b"digit": b"0-9", b"graph": b"!-~",
    b"lower": b"a-z", b"print": b" -~", b"punct": b"!-/:-@\\[-`{-~", b"space": b" \\t\\n\\r\\f\\v", b"upper": b"A-Z", b"xdigit": b"0-9A-Fa-f",
}  # fmt: skip
MAX_RULE_FILE = 100 * 1024 * 1024


class Pattern(NamedTuple):
    """One line of a rule file. `regex` matches the base name (`by_name`) or the path relative to the rule file."""

    regex: re.Pattern[bytes]
    negated: bool
    directory_only: bool
    by_name: bool
    line: int
    text: str


class RuleFile(NamedTuple):
    """The patterns of one file. `base` is the length of its folder's path (with slash); the regexes match whatever any pattern matches."""

    source: str
    base: int
    patterns: tuple[Pattern, ...]
    any_name: re.Pattern[bytes] | None
    any_path: re.Pattern[bytes] | None


class Hit(NamedTuple):
    """What leaves a path out: `path` is the path itself or the directory above it that is meant, `rule` reads `.gitignore:3: data/`."""

    path: str
    rule: str


def _bracket(pattern: bytes, start: int) -> tuple[bytes, int] | None:
    """Regex of the bracket expression whose `[` is at `start`, and where it ends. None: malformed, so the whole pattern matches nothing."""
    at = start + 1
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    members: set[int] = set()
    previous = -1
    first = True
    while first or pattern[at : at + 1] != b"]":
        first = False
        char = pattern[at : at + 1]
        if not char:
            return None
        if char == b"[" and pattern[at + 1 : at + 2] == b":":
            end = pattern.find(b"]", at + 2)
            if end < 0:
                return None
            if end > at + 2 and pattern[end - 1 : end] == b":":
                inner = CLASSES.get(pattern[at + 2 : end - 1])
                if inner is None:
                    return None
                members.update(byte for byte in range(256) if re.fullmatch(b"[" + inner + b"]", bytes([byte]), re.DOTALL))
                previous, at = -1, end + 1
                continue
        if char == b"-" and previous > 0 and pattern[at + 1 : at + 2] not in (b"", b"]"):
            at += 1 + (pattern[at + 1 : at + 2] == b"\\")
            if at >= len(pattern):
                return None
            members.update(range(previous, pattern[at] + 1))
            previous, at = -1, at + 1
            continue
        if char == b"\\":
            at += 1
            if at >= len(pattern):
                return None
        previous = pattern[at]
        members.add(previous)
        at += 1
    wanted = sorted(({*range(1, 256)} - members if negated else members) - {0x2F})
    return (b"[" + b"".join(b"\\x%02x" % byte for byte in wanted) + b"]" if wanted else b"(?!)"), at + 1


def _regex(pattern: bytes) -> bytes | None:
    """The regex of a glob in git's sense (`*` and `?` stop at a slash, `**` as a whole component does not). None: it matches nothing."""
    out: list[bytes] = []
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"*":
            end = at
            while pattern[end : end + 1] == b"*":
                end += 1
            component = end - at > 1 and (at == 0 or pattern[at - 1 : at] == b"/")
            if component and end == len(pattern):
                out.append(b".*")
            elif component and pattern[end : end + 1] == b"/":
                out.append(b"(?:.*/)?")
                end += 1
            else:
                out.append(b"[^/]*")
            at = end
        elif char == b"?":
            out.append(b"[^/]")
            at += 1
        elif char == b"[":
            found = _bracket(pattern, at)
            if found is None:
                return None
            out.append(found[0])
            at = found[1]
        else:
            if char == b"\\":
                at += 1
                if at >= len(pattern):
                    return None
            out.append(re.escape(pattern[at : at + 1]))
            at += 1
    return b"".join(out)


def _trim(line: bytes) -> bytes:
    """Without trailing spaces, except those behind a backslash."""
    spaces = -1
    at = 0
    while at < len(line):
        if line[at] == 0x20:
            spaces = at if spaces < 0 else spaces
        else:
            spaces = -1
            if line[at] == 0x5C:
                at += 1
                if at == len(line):
                    return line
        at += 1
    return line if spaces < 0 else line[:spaces]


def _pattern(raw: bytes, number: int) -> Pattern | None:
    body = raw
    negated = body.startswith(b"!")
    body = body[negated:]
    directory_only = body.endswith(b"/")
    body = body[: len(body) - directory_only]
    if not body:
        return None
    by_name = b"/" not in body
    regex = _regex(body.removeprefix(b"/"))
    if regex is None:
        return None
    return Pattern(re.compile(regex, re.DOTALL), negated, directory_only, by_name, number, raw.decode("utf-8", "backslashreplace"))


def _either(patterns: list[Pattern]) -> re.Pattern[bytes] | None:
    return re.compile(b"|".join(b"(?:" + each.regex.pattern + b")" for each in patterns), re.DOTALL) if patterns else None


def parse_rules(text: bytes, source: str, base: int = 0) -> RuleFile:
    """The rules of a file in gitignore's syntax. A line that git would not understand matches nothing, as it does in git."""
    patterns: list[Pattern] = []
    for number, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line or line.startswith(b"#"):
            continue
        pattern = _pattern(_trim(line.removesuffix(b"\r")), number)
        if pattern is not None:
            patterns.append(pattern)
    named = [each for each in patterns if each.by_name]
    return RuleFile(source, base, tuple(patterns), _either(named), _either([each for each in patterns if not each.by_name]))


def read_rules(file: str, source: str, base: int = 0) -> RuleFile | None:
    """The rules of a file, or None where there is none. Links are not followed, as in git."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as stream:
        return parse_rules(stream.read(MAX_RULE_FILE), source, base)


def last_match(chain: tuple[RuleFile, ...], path: bytes, is_directory: bool) -> tuple[RuleFile, Pattern] | None:
    """The line that decides about a path, nearest file first, last line first; its `negated` says which way."""
    name = path[path.rfind(b"/") + 1 :]
    for rules in reversed(chain):
        below = path[rules.base :]
        if not ((rules.any_name and rules.any_name.fullmatch(name)) or (rules.any_path and rules.any_path.fullmatch(below))):
            continue
        for pattern in reversed(rules.patterns):
            if (is_directory or not pattern.directory_only) and pattern.regex.fullmatch(name if pattern.by_name else below):
                return rules, pattern
    return None


class IgnoreRules:
    """The rule files of a tree, read when they are first needed.

    `directory` is the tree, `file_name` what its rule files are called, `shown` goes before their names in what is said. `above` are rule files
    from farther out, where the tree is a folder of theirs: then `lead` is the tree's path (with slash) seen from the outermost.
    """

    def __init__(self, directory: str, file_name: str, above: tuple[RuleFile, ...] = (), lead: bytes = b"", shown: str = "") -> None:
        self.directory = directory
        self.file_name = file_name
        self.lead = lead
        self.shown = shown
        self._chains: dict[str, tuple[RuleFile, ...]] = {}
        self._above = above
        self.only: frozenset[str] | None = None
        """The folders that have a rule file, where that is known."""
        self._hits: dict[str, Hit | None] = {"": None}

    def chain(self, folder: str) -> tuple[RuleFile, ...]:
        """The rule files that speak about what lies directly in `folder`, outermost first."""
        known = self._chains.get(folder)
        if known is None:
            outer = self.chain(folder.rpartition("/")[0]) if folder else self._above
            inside = f"{folder}/" if folder else ""
            base = len(self.lead) + len(os.fsencode(inside))
            here = self.only is None or folder in self.only
            own = None if not here else read_rules(f"{self.directory}/{inside}{self.file_name}", f"{self.shown}{inside}{self.file_name}", base)
            known = self._chains[folder] = (*outer, own) if own and own.patterns else outer
        return known

    def own_hit(self, path: str, is_directory: bool) -> Hit | None:
        """The rule that leaves out this very path, its directories not considered."""
        chain = self.chain(path.rpartition("/")[0])
        found = last_match(chain, self.lead + os.fsencode(path), is_directory) if chain else None
        if found is None or found[1].negated:
            return None
        return Hit(path, f"{found[0].source}:{found[1].line}: {found[1].text}")

    def hit(self, path: str, is_directory: bool) -> Hit | None:
        """The rule that leaves out this path or a directory above it; None if it stays."""
        if path in self._hits and is_directory:
            return self._hits[path]
        above = self.hit(path.rpartition("/")[0], True)
        found = above or self.own_hit(path, is_directory)
        if is_directory:
            self._hits[path] = found
        return found


class Walked(NamedTuple):
    """What a walk found, as paths relative to where it began: kept `names` (files and links) and `directories`; whole `left_out` entries with
    whether each is a directory; nested work trees; files that are neither file, link nor directory; directories that could not be read."""

    names: list[str]
    directories: list[str]
    left_out: list[tuple[str, bool]]
    nested: list[str]
    special: list[str]
    unreadable: list[str]


def walk(rules: IgnoreRules | None, directory: str, start: str, never: Callable[[str, str, bool], bool], enough: int = 0) -> Walked:
    """Walk a tree from its folder `start` by the rules (None: everything), not following links and not entering nested work trees.

    `never(path, name, is_directory)` says what is not even looked at. `enough` bounds the number of names: the walk stops there (0: no bound).
    """
    found = Walked([], [], [], [], [], [])
    folders = [start]
    while folders:
        folder = folders.pop()
        inside = f"{folder}/" if folder else ""
        try:
            with os.scandir(f"{directory}/{folder}" if folder else directory) as stream:
                entries = list(stream)
        except PermissionError:
            found.unreadable.append(folder)
            continue
        except (FileNotFoundError, NotADirectoryError):
            continue
        if folder:
            found.directories.append(folder)
        ruled = rules is not None and bool(rules.chain(folder))
        for entry in entries:
            path = inside + entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            if never(path, entry.name, is_directory):
                continue
            if ruled and rules is not None and rules.own_hit(path, is_directory):
                found.left_out.append((path, is_directory))
            elif is_directory:
                if rules is not None and os.path.lexists(f"{directory}/{path}/.git"):
                    found.nested.append(path)
                else:
                    folders.append(path)
            elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                found.names.append(path)
            else:
                found.special.append(path)
        if enough and len(found.names) > enough:
            break
    return found
