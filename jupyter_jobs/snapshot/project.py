"""Which directory is a notebook's project, and the rules in its `.jobs.toml`."""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import NamedTuple

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import LivePath, ProjectChoice
from jupyter_jobs.snapshot.names import os_name, safe_text, shown
from jupyter_jobs.snapshot.references import code_cells, expand, reach

RULES_FILE = ".jobs.toml"
MARKERS = (RULES_FILE, ".git", "pyproject.toml")
NAMED_FILES = 2000
RULES_BYTES = 1 << 20


class ProjectRules(NamedTuple):
    """What `.jobs.toml` says: what is read live, and paths relative to the project that are left out or taken back."""

    live: tuple[LivePath, ...] = ()
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()


def choose_project(notebook: Path, *, root: Path | None, data_dir: Path, asked: str = "", home: Path | None = None) -> ProjectChoice:
    """The directory to freeze with a notebook, and why.

    It is the nearest directory that holds `.jobs.toml`, `.git` or `pyproject.toml`, at or below `root` (None: anywhere). The home directory, the
    server's root, `/` and a directory that holds our store are never chosen silently: then only the notebook, the local modules it imports and what
    it names are frozen (mode `files`). `asked` is a directory that the person chose (absolute, or relative to `root` or the current directory); it
    may be any that holds the notebook, else BadInput.
    """
    notebook = Path(os.path.abspath(notebook))
    folder = notebook.parent
    if asked:
        return _asked(notebook, asked, root)
    limit = None if root is None else Path(os.path.abspath(root))
    if limit is not None and not folder.is_relative_to(limit):
        folder_seen, limit = Path(os.path.realpath(folder)), Path(os.path.realpath(limit))
    else:
        folder_seen = folder
    forbidden = _forbidden(root, data_dir, Path.home() if home is None else home)
    marked: list[tuple[Path, str]] = []
    for directory in (folder_seen, *folder_seen.parents):
        if limit is not None and not directory.is_relative_to(limit):
            break
        marker = next((name for name in MARKERS if os.path.lexists(directory / name)), "")
        if marker:
            marked.append((directory, marker))
    others = [str(directory) for directory, _ in marked]
    if str(folder) not in others:
        others.append(str(folder))
    if marked and os.path.realpath(marked[0][0]) not in forbidden:
        chosen, marker = marked[0]
        alternatives = [safe_text(each) for each in others if each != str(chosen) and os.path.realpath(each) not in forbidden]
        return ProjectChoice(
            directory=safe_text(str(chosen)),
            mode="directory",
            why=f"It is the nearest directory with {marker}.",
            alternatives=alternatives,
            files=_itself(folder_seen / notebook.name, chosen),
        )
    if marked:
        nearest = os.path.realpath(marked[0][0])
        why = (
            f"The nearest directory with {marked[0][1]}, {shown(nearest)}, is {forbidden[nearest]}, which is frozen as a whole only if you choose it"
        )
    else:
        why = f"No directory {'above the notebook' if limit is None else 'up to the server root'} has {', '.join(MARKERS[:-1])} or {MARKERS[-1]}"
    return ProjectChoice(
        directory=safe_text(str(folder)),
        mode="files",
        why=f"{why}: only the notebook, local modules and what it names are frozen.",
        alternatives=[safe_text(each) for each in sorted(others, key=lambda each: -len(each))],
        files=[safe_text(path) for path in named_files(notebook)],
    )


def _forbidden(root: Path | None, data_dir: Path, home: Path) -> dict[str, str]:
    """Directories that are never chosen silently, by real path, and what each is."""
    store = Path(os.path.realpath(data_dir))
    found = {str(above): "a directory that holds the store" for above in (store, *store.parents)}
    found[os.path.realpath(home)] = "your home directory"
    if root is not None:
        found[os.path.realpath(root)] = "the server's root directory"
    return found | {"/": "the root of the file system"}


def _asked(notebook: Path, asked: str, root: Path | None) -> ProjectChoice:
    base = Path.cwd() if root is None else Path(os.path.abspath(root))
    directory = Path(os.path.normpath(base / os.path.expanduser(os_name(asked))))
    if not os.path.isdir(directory):
        raise BadInput(
            f"The project {shown(asked)!r} is no directory.", mend="Choose a directory that holds the notebook.", field="project", path=asked
        )
    if not notebook.is_relative_to(directory) and not Path(os.path.realpath(notebook.parent)).is_relative_to(os.path.realpath(directory)):
        raise BadInput(
            f"The project {shown(str(directory))} does not hold the notebook {shown(str(notebook))}.",
            mend="Choose the notebook's folder or one above it.",
            field="project",
            path=asked,
        )
    if not notebook.is_relative_to(directory):  # another name of the same place
        notebook, directory = Path(os.path.realpath(notebook.parent)) / notebook.name, Path(os.path.realpath(directory))
    return ProjectChoice(
        directory=safe_text(str(directory)),
        mode="directory",
        why="You chose it.",
        alternatives=[safe_text(str(notebook.parent))],
        files=_itself(notebook, directory),
    )


def _itself(notebook: Path, directory: Path) -> list[str]:
    """The notebook relative to its project: it is frozen whatever the rules say."""
    return [safe_text(str(notebook.relative_to(directory)))]


def named_files(notebook: Path) -> list[str]:
    """The notebook, the local modules it imports and what it names below its folder, relative to that, sorted. Folders stand for what is in them."""
    folder = str(notebook.parent)
    found = reach(code_cells(notebook), notebook.parent)
    inside = {notebook.name}
    locations = [location for location, _ in found.modules]
    for reference in found.references:
        locations.extend(expand(reference.location, NAMED_FILES) if reference.pattern else [reference.location])
    for location in locations:
        path = os.path.relpath(location, folder)
        if path != "." and path.split("/")[0] != ".." and os.path.lexists(location):
            inside.add(path)
    return sorted(inside)


def read_project_rules(directory: Path) -> ProjectRules:
    """Read `.jobs.toml` of a directory; without one there are no rules. Raises BadInput naming file, key and line."""
    file = Path(directory) / RULES_FILE
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            # reading a pipe would wait for ever
            raise _unreadable(file, "it is no file", "Rename it, or make it a file.")
        if facts.st_size > RULES_BYTES:
            raise _unreadable(file, f"it has {facts.st_size} bytes, at most {RULES_BYTES} are read", "Name folders instead of single files.")
        text = file.read_bytes().decode()
        content = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return ProjectRules()
    except OSError as error:
        raise _unreadable(file, str(error.strerror), "Check its permissions, or where it links to.") from None
    except RecursionError:
        raise _unreadable(file, "its values are nested too deeply", "Mend the TOML.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{shown(str(file))}, line {line}: the file is not UTF-8.", code="bad_project_rules", mend="Save it as UTF-8.", file=str(file), line=line
        ) from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        raise BadInput(
            f"{shown(str(file))}, line {line}: {error}.", code="bad_project_rules", mend="Mend the TOML.", file=str(file), line=line
        ) from None
    for key in content:
        if key not in ("live", "exclude", "include"):
            near = difflib.get_close_matches(key, ("live", "exclude", "include"), 1)
            raise _bad(file, text, key, "there is no such key", f"Did you mean {near[0]}?" if near else "Known are live, exclude and include.")
    live = content.get("live", [])
    return ProjectRules(
        tuple(_live(file, text, each) for each in (live if isinstance(live, list) else [live])),
        _paths(file, text, "exclude", content.get("exclude", [])),
        _paths(file, text, "include", content.get("include", [])),
    )


def _unreadable(file: Path, why: str, mend: str) -> BadInput:
    return BadInput(f"{shown(str(file))} cannot be read: {why}.", code="bad_project_rules", mend=mend, file=str(file))


def _live(file: Path, text: str, value: object) -> LivePath:
    table = value if isinstance(value, dict) else {"path": value}
    unknown = [key for key in table if key not in ("path", "writable")]
    if unknown:
        raise _bad(file, text, unknown[0], "there is no such key in live", "Known are path and writable.", within="live")
    path, writable = table.get("path"), table.get("writable", False)
    if not isinstance(path, str) or not path.strip():
        raise _bad(file, text, "live", f"{path!r} is no path", 'Write live = ["data/"] or live = [{path = "data/", writable = true}].')
    if not isinstance(writable, bool):
        raise _bad(file, text, "writable", f"{writable!r} is neither true nor false", "Write writable = true.", within="live")
    return LivePath(path=os.path.expanduser(path) if path.startswith("~") else path, writable=writable)


def _paths(file: Path, text: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _bad(file, text, key, f"{value!r} is no list", f'Write {key} = ["folder/"].')
    for each in value:
        if not isinstance(each, str):
            raise _bad(file, text, key, f"{each!r} is no path", f'Write {key} = ["folder/"].')
        inside = os.path.normpath(each)
        if not each.strip() or inside.startswith("/") or inside.split("/")[0] in ("..", "."):
            raise _bad(file, text, key, f"{each!r} is no path inside the project", "Name a file or folder relative to this file's folder.")
    return tuple(value)


def _bad(file: Path, text: str, key: str, what: str, mend: str, within: str = "") -> BadInput:
    found = re.search(rf"(?m)^[^#\n]*?(?<![\w-])[\"']?{re.escape(key)}[\"']?\s*(=|\]|\.)", text)
    line = text[: found.start()].count("\n") + 1 if found else 1
    named = f"{within}.{key}" if within else key
    return BadInput(f"{shown(str(file))}, line {line}, {named}: {what}.", code="bad_project_rules", mend=mend, file=str(file), line=line, key=named)
