"""What a notebook's cells say, read without running them: its parameters, imports, and assignments that would undo a parameter.

Python is read with `ast`, other languages by simple assignments only. Cells that are no valid source are passed over: they fail when they run.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_jobs.grid_values import value_problem
from jupyter_jobs.model import CellCandidate, CellRef, Finding, Parameter

if TYPE_CHECKING:
    from jupyter_jobs.snapshot.nodes import Node

CANDIDATE_CELLS = 8

_SKIPPED_MAGICS = ("time", "timeit", "capture", "prun")
_LINE_MAGIC = re.compile(r"\s*[%!?]|.*\?\s*$")
_MAGIC_VALUE = re.compile(r"^(\s*[\w, .]+=\s*)[%!].*$")
_ASSIGNMENT = re.compile(
    r"^(?:(?:let|const|var|val|global)\s+)?(?P<name>[A-Za-z.][\w.]*)\s*(?:::\s*(?P<type>[\w{}]+)\s*)?(?:<-|=)(?!=)\s*(?P<value>.+?);?\s*$"
)
_TYPE_COMMENT = re.compile(r"type:\s*(?P<type>[^\s#]+)\s*(?P<rest>.*)")
_WORDS = {
    "TRUE": "true",
    "FALSE": "false",
    "T": "true",
    "F": "false",
    "NULL": "null",
    "nothing": "null",
    "true": "true",
    "false": "false",
    "null": "null",
}


@dataclass(frozen=True)
class Import:
    """An import: dotted module, the cell's number, and whether its absence is provided for (`try: … except ImportError`)."""

    module: str
    cell: int
    optional: bool = False


def language_of(notebook: Node) -> str:
    """The notebook's language in lower case, as its metadata have it; `python` where they say nothing."""
    metadata = notebook.metadata
    for section, key in (("kernelspec", "language"), ("language_info", "name")):
        value = metadata.get(section)
        if isinstance(value, dict) and isinstance(value.get(key), str) and value[key]:
            return str(value[key]).lower()
    return "python"


def parameters_cell(notebook: Node) -> tuple[CellRef, str] | None:
    """The first code cell tagged `parameters`, where papermill looks, and its source."""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
            return CellRef(id=cell.id, number=number), cell.source
    return None


def parameters_of(notebook: Node) -> list[Parameter]:
    """Variables of the `parameters` cell with type, default and help; empty where there is no such cell."""
    found = parameters_cell(notebook)
    return _read(found[1], language_of(notebook)) if found else []


def candidate_cells(notebook: Node) -> list[CellCandidate]:
    """Of the first code cells, those that could be tagged `parameters`: nothing but imports and assignments, and a literal among them."""
    language = language_of(notebook)
    code = [(number, cell) for number, cell in enumerate(notebook.cells, start=1) if cell.cell_type == "code" and cell.source.strip()]
    found = []
    for number, cell in code[:CANDIDATE_CELLS]:
        literal = [parameter for parameter in _read(cell.source, language) if parameter.is_json and not parameter.name.startswith("_")]
        if literal and _only_assigns(cell.source, language):
            found.append(CellCandidate(cell=CellRef(id=cell.id, number=number), source=cell.source, parameters=literal))
    return found


def imports_of(notebook: Node) -> list[Import]:
    """Absolute imports of a Python notebook in order, each module once; a required one wins over an optional one."""
    found: dict[str, Import] = {}
    for number, tree in _trees(notebook):
        guarded = {
            id(node)
            for attempt in ast.walk(tree)
            if isinstance(attempt, ast.Try) and _catches_import(attempt)
            for part in attempt.body
            for node in ast.walk(part)
        }
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                if name not in found or (found[name].optional and id(node) not in guarded):
                    found[name] = Import(name, number, optional=id(node) in guarded)
    return list(found.values())


def parameters_cell_findings(notebook: Node) -> list[Finding]:
    """What is wrong with the `parameters` cell itself: it cannot be read, or there are several (papermill takes the first)."""
    tagged = parameters_cell(notebook)
    if tagged is None:
        return []
    cell, source = tagged
    findings = []
    if language_of(notebook) == "python" and _tree(source) is None:
        message = f"The parameters cell (cell {cell.number}) is not Python that can be read, so its defaults are unknown."
        findings.append(Finding(code="parameters_unreadable", level="warning", message=message, mend="Keep magics out of it.", cell=cell.number))
    others = [
        number
        for number, other in enumerate(notebook.cells, start=1)
        if number > cell.number and other.cell_type == "code" and "parameters" in other.metadata.get("tags", [])
    ]
    if others:
        message = f"Cell {others[0]} is tagged “parameters” too; only cell {cell.number} counts."
        findings.append(Finding(code="parameters_twice", level="warning", message=message, mend="Remove the tag there.", cell=others[0]))
    return findings


def check_parameters(notebook: Node, names: Collection[str]) -> list[Finding]:
    """What would keep the job's values of these parameters from counting: no such parameter, assigned again, used before they are injected."""
    if not names:
        return []
    tagged = parameters_cell(notebook)
    if tagged is None:
        message = "The notebook has no cell tagged “parameters”: the job's values are set before its first cell."
        absent = Finding(code="no_parameters_cell", level="note", message=message, mend="Tag the cell that assigns the defaults.", field="parameters")
        return [absent, *reassigned_later(notebook, names)]
    known = {parameter.name for parameter in parameters_of(notebook)}
    findings = [
        Finding(
            code="parameter_unknown",
            level="warning",
            message=f"{name} is not assigned in the parameters cell (cell {tagged[0].number}).",
            mend=f"Known are {', '.join(sorted(known)[:20])}." if known else "That cell assigns nothing.",
            field=f"parameters.{name}",
            cell=tagged[0].number,
        )
        for name in names
        if name not in known
    ]
    return [*findings, *_derived(notebook, names), *reassigned_later(notebook, names)]


def reassigned_later(notebook: Node, names: Collection[str]) -> list[Finding]:
    """A warning per name that a cell after the injected ones sets anew without looking at the job's value."""
    tagged = parameters_cell(notebook)
    after = tagged[0].number if tagged else 0
    findings: dict[str, Finding] = {}
    for number, tree in _trees(notebook):
        if number <= after:
            continue
        for name, certain in _bindings(tree.body):
            if name in names and name not in findings:
                findings[name] = Finding(
                    code="parameter_reassigned",
                    level="warning",
                    message=f"{name} is assigned again in cell {number}: the job's value {'would' if certain else 'could'} be lost.",
                    mend="Remove that assignment, or move it into the parameters cell.",
                    field=f"parameters.{name}",
                    cell=number,
                )
    return list(findings.values())


def _derived(notebook: Node, names: Collection[str]) -> list[Finding]:
    """papermill sets the job's values after the parameters cell, so what that cell computes from a default keeps the default."""
    tagged = parameters_cell(notebook)
    tree = _tree(tagged[1]) if tagged and language_of(notebook) == "python" else None
    if tagged is None or tree is None:
        return []
    findings, assigned = [], set[str]()
    for statement in tree.body:
        for name in sorted(_reads(statement) & assigned & set(names)):
            targets = ", ".join(sorted(_targets(statement)))
            message = f"Cell {tagged[0].number} computes {targets} from {name}" if targets else f"Cell {tagged[0].number} uses {name}"
            findings.append(
                Finding(
                    code="parameter_used_early",
                    level="warning",
                    message=f"{message} before the job's value is set.",
                    mend="Move that line into a later cell.",
                    field=f"parameters.{name}",
                    cell=tagged[0].number,
                )
            )
        assigned |= _targets(statement)
    return findings


# -- Python ------------------------------------------------------------------------------------------------------------


def _trees(notebook: Node) -> Iterator[tuple[int, ast.Module]]:
    if language_of(notebook) != "python":
        return
    for number, cell in enumerate(notebook.cells, start=1):
        tree = _tree(cell.source) if cell.cell_type == "code" else None
        if tree is not None:
            yield number, tree


def _plain(source: str) -> str | None:
    """The source without IPython's own syntax, line for line; None where a cell magic hands it to something else."""
    lines = source.splitlines()
    first = next((index for index, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[first].lstrip().startswith("%%"):
        if lines[first].lstrip()[2:].split(" ")[0] not in _SKIPPED_MAGICS:
            return None
        lines[first] = ""
    shown = []
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        line = f"{indent}pass" if _LINE_MAGIC.fullmatch(line) or _LINE_MAGIC.match(line) else line
        shown.append(_MAGIC_VALUE.sub(r"\g<1>...", line))
    return "\n".join(shown)


def _tree(source: str) -> ast.Module | None:
    for text in (source, _plain(source)):
        if text is None:
            return None
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _read(source: str, language: str) -> list[Parameter]:
    if language != "python":
        return _read_simple(source)
    tree = _tree(source)
    if tree is None:
        return []
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for statement in tree.body:
        help_text = comments.get(statement.end_lineno or 0, "")
        typed = _TYPE_COMMENT.fullmatch(help_text)
        stated = typed["type"] if typed else ""
        help_text = typed["rest"].lstrip("# ") if typed else help_text
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value is not None:
            stated = ast.unparse(statement.annotation).strip("'\"")
        for name, value in _assigned(statement):
            found[name] = _parameter(name, value, stated, help_text)
    return list(found.values())


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    targets: list[ast.expr] = []
    value: ast.expr | None = None
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign):
        targets, value = [statement.target], statement.value
    for target in targets:
        if isinstance(target, ast.Name) and value is not None:
            yield target.id, value
        elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List) and len(target.elts) == len(value.elts):
            yield from ((part.id, one) for part, one in zip(target.elts, value.elts, strict=True) if isinstance(part, ast.Name))


def _parameter(name: str, value: ast.expr, stated: str, help_text: str) -> Parameter:
    try:
        literal: object = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return Parameter(name=name, type=stated, default=ast.unparse(value), is_json=False, help=help_text)
    kind = stated or ("None" if literal is None else type(literal).__name__)
    if value_problem(literal):
        return Parameter(name=name, type=kind, default=ast.unparse(value), is_json=False, help=help_text)
    return Parameter(name=name, type=kind, default=json.dumps(literal, ensure_ascii=False), help=help_text)


def _comments(source: str) -> dict[int, str]:
    """Comments by line, without their mark."""
    found = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                found[token.start[0]] = token.string.lstrip("#").strip()
    except (tokenize.TokenError, SyntaxError):
        pass  # the comments before the place that is no Python are all there are
    return found


def _only_assigns(source: str, language: str) -> bool:
    if language != "python":
        lines = [line.split("#")[0].strip() for line in source.splitlines()]
        return all(_ASSIGNMENT.match(line) for line in lines if line)
    tree = _tree(source)
    return tree is not None and all(
        isinstance(statement, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.Pass)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in tree.body
    )


def _catches_import(attempt: ast.Try) -> bool:
    caught = {node.id for handler in attempt.handlers if handler.type for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(caught & {"ImportError", "ModuleNotFoundError", "Exception"}) or any(handler.type is None for handler in attempt.handlers)


def _reads(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)}


def _stores(*nodes: ast.AST | None) -> set[str]:
    return {name.id for node in nodes if node for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}


def _targets(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Assign):
        return _stores(*statement.targets)
    return _stores(statement.target) if isinstance(statement, ast.AnnAssign | ast.AugAssign) else set()


def _bindings(body: list[ast.stmt], certain: bool = True, looked_at: frozenset[str] = frozenset()) -> Iterator[tuple[str, bool]]:
    """Names that statements bind anew without reading them, and whether surely. Functions and classes keep theirs to themselves."""
    for statement in body:
        bound: set[str] = set()
        match statement:
            case ast.Assign() | ast.AnnAssign(value=ast.expr()):
                bound = _targets(statement) - _reads(statement)
            case ast.Import() | ast.ImportFrom():
                bound = {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound = {name}
            case ast.For() | ast.AsyncFor():
                bound = _stores(statement.target) - _reads(statement.iter)
                yield from _bindings([*statement.body, *statement.orelse], False, looked_at)
            case ast.With() | ast.AsyncWith():
                bound = _stores(*(item.optional_vars for item in statement.items)) - {
                    name for item in statement.items for name in _reads(item.context_expr)
                }
                yield from _bindings(statement.body, certain, looked_at)
            case ast.If() | ast.While():
                # `if lr is None: lr = …` gives a default and does not lose the job's value
                yield from _bindings([*statement.body, *statement.orelse], False, looked_at | _reads(statement.test))
            case ast.Try():
                inner = [*statement.body, *statement.orelse, *statement.finalbody, *(part for handler in statement.handlers for part in handler.body)]
                yield from _bindings(inner, False, looked_at)
        yield from ((name, certain) for name in sorted(bound - looked_at))


# -- other languages ---------------------------------------------------------------------------------------------------


def _read_simple(source: str) -> list[Parameter]:
    """`name <- value` and `name = value` with a literal, one a line, as R, Julia and their like write it."""
    found: dict[str, Parameter] = {}
    for line in source.splitlines():
        code, _, help_text = line.partition("#") if line.count('"') % 2 == 0 and '"' not in line.partition("#")[2] else (line, "", "")
        match = _ASSIGNMENT.match(code.strip())
        if not match:
            continue
        text = match["value"].strip()
        as_json = _WORDS.get(text) or re.sub(r"^(-?\d+)L$", r"\1", text)
        if re.fullmatch(r"'[^'\\\"]*'", as_json):
            as_json = f'"{as_json[1:-1]}"'
        try:
            value: object = json.loads(as_json)
        except (ValueError, RecursionError):
            found[match["name"]] = Parameter(name=match["name"], type=match["type"] or "", default=text, is_json=False, help=help_text.strip())
            continue
        kind = "None" if value is None else type(value).__name__
        good = not value_problem(value)
        default = json.dumps(value, ensure_ascii=False) if good else text
        found[match["name"]] = Parameter(name=match["name"], type=match["type"] or kind, default=default, is_json=good, help=help_text.strip())
    return list(found.values())
