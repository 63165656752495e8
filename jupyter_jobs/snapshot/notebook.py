"""Reading a notebook: any nbformat up to 4 becomes 4.5 with fixed, unique cell ids. What its cells say is in `source.py`, offered here too."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import stat
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import Any, NoReturn

from jupyter_jobs.errors import BadInput, NotFound
from jupyter_jobs.snapshot.nodes import Node, join_lines, node_of
from jupyter_jobs.snapshot.source import Import as Import
from jupyter_jobs.snapshot.source import candidate_cells as candidate_cells
from jupyter_jobs.snapshot.source import check_parameters as check_parameters
from jupyter_jobs.snapshot.source import imports_of as imports_of
from jupyter_jobs.snapshot.source import language_of as language_of
from jupyter_jobs.snapshot.source import parameters_cell as parameters_cell
from jupyter_jobs.snapshot.source import parameters_cell_findings as parameters_cell_findings
from jupyter_jobs.snapshot.source import parameters_of as parameters_of
from jupyter_jobs.snapshot.source import reassigned_later as reassigned_later

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# as JSON escapes them: halves of pairs, in pairs or alone
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


def read_notebook(path: Path) -> Node:
    """The notebook as nbformat 4.5, the same each time it is read. Nothing is written.

    `NotFound` (`notebook_not_found`) where there is no such file, else `BadInput` (`notebook_invalid`) with file, and line or cell.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            # reading a pipe would wait for ever
            _invalid(path, "is no file", "Name a notebook.")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no notebook {path}.", code="notebook_not_found", mend="Save it first, or check the path.", path=str(path)
        ) from error
    except IsADirectoryError:
        _invalid(path, "is a folder", "Name the notebook inside it.")
    except OSError as error:
        _invalid(path, f"cannot be read: {error.strerror}", "Check its permissions.")
    return parse_notebook(raw, path)


def parse_notebook(raw: bytes, path: Path) -> Node:
    """`read_notebook` of bytes that were read already; `path` is named in errors."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _invalid(path, f"is not UTF-8 text (byte {error.start})", "Save it as UTF-8.", line=raw.count(b"\n", 0, error.start) + 1)
    if not text.strip():
        _invalid(path, "is empty", "Open it in JupyterLab and save it once.", line=1)
    try:
        data: object = json.loads(text)
    except JSONDecodeError as error:
        conflict = _CONFLICT.search(text)
        if conflict:
            line = text.count("\n", 0, conflict.start()) + 1
            _invalid(path, f"holds git's conflict markers, the first in line {line}", "Resolve the merge (nbdime helps), then save it.", line=line)
        _invalid(
            path,
            f"is not JSON: {error.msg}, line {error.lineno}, column {error.colno}",
            "Restore it from a checkpoint or from git.",
            line=error.lineno,
        )
    except (RecursionError, ValueError) as error:
        _invalid(path, f"is not JSON that can be read: {error}", "Restore it from a checkpoint or from git.")
    if not isinstance(data, dict) or not ("cells" in data or "worksheets" in data):
        _invalid(path, "is JSON, but no notebook", "Choose a file made by Jupyter.")
    major = data.get("nbformat")
    if not isinstance(major, int) or isinstance(major, bool) or major < 1:
        _invalid(path, "does not say which nbformat it has", "Open it in JupyterLab and save it once.")
    if major > 4:
        _invalid(path, f"has nbformat {major}; this version reads up to 4", "Update nbformat, or save it as nbformat 4.")
    try:
        content: dict[str, object] = _without_halves(data) if _SURROGATE.search(text) else data
        if major < 4:
            content = _upgraded(path, content, major)
        return _with_ids(_complete(path, content))
    except RecursionError:
        _invalid(path, "holds values that are nested too deeply", "Clear its outputs and save it again.")


def tag_cell(notebook: Node, cell_id: str) -> Node:
    """A copy of the notebook in which this code cell has the tag `parameters`."""
    tagged = copy.deepcopy(notebook)
    cell = next((cell for cell in tagged.cells if cell.id == cell_id and cell.cell_type == "code"), None)
    if cell is None:
        raise NotFound(f"The notebook has no code cell {cell_id}.", code="no_such_cell", mend="Inspect the notebook again.", cell=cell_id)
    tags = list(cell.metadata.get("tags", []))
    cell.metadata["tags"] = tags if "parameters" in tags else [*tags, "parameters"]
    return tagged


def _without_halves(value: Any) -> Any:
    """The value with a replacement character for every half of a surrogate pair: browsers write such text, but it cannot be stored."""
    if isinstance(value, str):
        return value if value.isascii() else _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_halves(each) for each in value]
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(each) for key, each in value.items()}
    return value


def _upgraded(path: Path, data: dict[str, object], major: int) -> dict[str, object]:
    """nbformat 1 to 3 as 4; the random ids that the conversion draws are taken off again."""
    # takes a second or more: only for what JupyterLab has not written for years
    import nbformat

    try:
        notebook = nbformat.convert(nbformat.reader.reads(json.dumps(data)), 4)  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001  (the converters raise whatever a malformed file makes them raise)
        _invalid(path, f"has nbformat {major} and cannot be converted: {error!r}", "Open it in JupyterLab and save it once.")
    for cell in notebook.cells:
        cell.pop("id", None)
    return dict(notebook)


def _complete(path: Path, data: dict[str, object]) -> Node:
    """Check what every later step relies on, and fill in what may be left out."""
    cells = data["cells"]
    if not isinstance(cells, list):
        _invalid(path, "has no list of cells", "Restore it from a checkpoint or from git.")
    data.setdefault("metadata", {})
    if not isinstance(data["metadata"], dict):
        _invalid(path, "has metadata that are no object", "Restore it from a checkpoint or from git.")
    for number, cell in enumerate(cells, start=1):
        problem = _cell_problem(cell)
        if problem:
            _invalid(path, f"has a cell {number} {problem}", "Delete or mend that cell in a text editor.", cell=number)
        cell.setdefault("metadata", {})
        if cell["cell_type"] == "code":
            cell["outputs"] = cell.get("outputs") or []
            cell.setdefault("execution_count", None)
    data["nbformat"], data["nbformat_minor"] = 4, 5
    notebook: Node = node_of(data)
    join_lines(notebook)
    return notebook


def _cell_problem(cell: object) -> str:
    if not isinstance(cell, dict):
        return "that is no object"
    if cell.get("cell_type") not in ("code", "markdown", "raw"):
        return f"of the unknown type {cell.get('cell_type')!r}"
    source = cell.get("source")
    if not isinstance(source, str) and not (isinstance(source, list) and all(isinstance(line, str) for line in source)):
        return "without source text"
    metadata = cell.get("metadata", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get("tags", []), list):
        return "whose metadata cannot be read"
    attachments = cell.get("attachments", {})
    if not isinstance(attachments, dict) or not all(isinstance(each, dict) for each in attachments.values()):
        return "whose attachments cannot be read"
    outputs = cell.get("outputs") or []
    if not isinstance(outputs, list) or not all(_is_output(output) for output in outputs):
        return "whose outputs cannot be read"
    return ""


def _is_output(output: object) -> bool:
    """Whether reading and writing again gets along with it; nbformat's schema asks for more."""
    if not isinstance(output, dict) or not isinstance(output.get("output_type"), str):
        return False
    text = output.get("text", "")
    lines = isinstance(text, str) or (isinstance(text, list) and all(isinstance(line, str) for line in text))
    return lines and isinstance(output.get("data", {}), dict) and ("text" in output or output["output_type"] != "stream")


def _with_ids(notebook: Node) -> Node:
    """Valid unique ids stay; the others are derived from position and source, so that they are the same each time."""
    kept: set[str] = set()
    without: list[tuple[int, Node]] = []
    for position, cell in enumerate(notebook.cells):
        own = cell.get("id")
        if isinstance(own, str) and _ID.fullmatch(own) and own not in kept:
            kept.add(own)
        else:
            without.append((position, cell))
    for position, cell in without:
        digest = hashlib.sha256(f"{position}\0{cell.source}".encode("utf-8", "surrogatepass")).hexdigest()
        cell["id"] = next(digest[:length] for length in range(8, 65) if digest[:length] not in kept)
        kept.add(cell["id"])
    return notebook


def _invalid(path: Path, what: str, mend: str, **detail: object) -> NoReturn:
    raise BadInput(f"{path.name} {what}.", code="notebook_invalid", mend=mend, file=path.name, **detail)
