"""The paths and local modules that source code names, read without running it.

Constant parts are followed through assignments, `/`, `os.path.join`, `Path(…)` and f-strings; where the rest is not known, the directory that is
known counts. Magics (`%run`, `!cat`, `%%bash`) are read word by word, other languages by their string literals.
"""

from __future__ import annotations

import ast
import json
import os
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Use = Literal["read", "write", "named"]

SOURCE_BYTES = 2_000_000
PACKAGE_FILES = 300
_READS = re.compile(
    r"(read_\w+|load|loads?_\w+|loadtxt|genfromtxt|imread|fromfile|memmap|listdir|scandir|walk|iterdir|File|ZipFile|run_path|open_dataset|read)\Z"
)
_WRITES = re.compile(
    r"(to_\w+|save|savefig|savetxt|savez\w*|save_\w+|imsave|imwrite|dump|write_\w+|mkdir|makedirs|touch|unlink|remove|rmtree|rmdir|rename|replace|copytree)\Z"
)
_NO_PATHS = frozenset({"to_datetime", "to_numeric", "to_timedelta", "to_dict", "to_list", "to_numpy", "to_frame", "replace", "rename", "remove"})
_RECEIVER_READS = frozenset({"read_text", "read_bytes", "iterdir", "glob", "rglob", "open"})
_RECEIVER_WRITES = frozenset({"write_text", "write_bytes", "mkdir", "touch", "unlink", "rmdir"})
_PATH_WORDS = re.compile(r"(dir|path|file|folder|root)s?\Z", re.IGNORECASE)
_STRING = re.compile(r"""(["'])((?:(?!\1)[^\\\n]|\\.)+)\1""")
_WILD = re.compile(r"[*?\[]")
_MAGIC = re.compile(r"^(?P<indent>\s*)(?:[\w, .\[\]]+=\s*)?(?P<magic>[!%])(?P<rest>.*)$")
_SHELL_CELL = re.compile(r"%%(bash|sh|script|!|system|sx|cmd)\b")
_PYTHON_CELL = re.compile(r"%%(time|timeit|capture|prun|memit|mprun|px|py\w*)\b")


class Reference(NamedTuple):
    """A path that a cell names. `path` as it is written, `location` absolute and normal; `pattern`: `location` holds wildcards."""

    path: str
    location: str
    cell: int
    use: Use
    pattern: bool = False


class Reach(NamedTuple):
    """What cells name: `references` in order, and the local `modules` they import, with the modules that those import (location, cell)."""

    references: list[Reference]
    modules: list[tuple[str, int]]


class _Piece(NamedTuple):
    """A string as far as it is known: `complete` or only its beginning; `pathlike`: made by Path, `/` or os.path."""

    text: str
    complete: bool
    pathlike: bool


def code_cells(notebook: Path) -> list[tuple[int, str]]:
    """Number (from 1, over all cells) and source of a notebook's code cells; empty where the file is no notebook."""
    try:
        content = json.loads(notebook.read_bytes())
    except (OSError, ValueError):
        return []
    if not isinstance(content, dict):
        return []
    cells = content.get("cells")
    if cells is None:
        cells = [cell for sheet in content.get("worksheets") or [] if isinstance(sheet, dict) for cell in sheet.get("cells") or []]
    found: list[tuple[int, str]] = []
    for number, cell in enumerate(cells if isinstance(cells, list) else [], 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            found.append((number, "".join(map(str, source)) if isinstance(source, list) else str(source)))
    return found


def reach(cells: Sequence[tuple[int, str]], folder: Path) -> Reach:
    """What code cells that run in `folder` name, local modules and what these name included."""
    scan = _Scan(str(folder))
    for number, source in cells:
        scan.cell = number
        scan.read(source)
    return Reach(list(dict.fromkeys(scan.references)), list(dict.fromkeys(scan.modules)))


class _Scan(ast.NodeVisitor):
    def __init__(self, folder: str) -> None:
        self.base = folder
        self.places = [folder]
        self.names: dict[str, _Piece | None] = {}
        self.cell = 0
        self.references: list[Reference] = []
        self.modules: list[tuple[str, int]] = []
        self.seen: set[str] = set()

    # -- cells -----------------------------------------------------------------------------------------------------

    def read(self, source: str) -> None:
        if _SHELL_CELL.match(source):
            for line in source.splitlines()[1:]:
                self._shell(line)
            return
        first, _, rest = source.partition("\n")
        if first.startswith("%%"):
            words = _words(first)
            if words[0] == "%%writefile" and len(words) > 1:
                self._add(words[-1], "write")
            if not _PYTHON_CELL.match(first):
                return
            source = rest
        plain: list[str] = []
        for line in source.split("\n"):
            magic = _MAGIC.match(line)
            if magic and not (magic["magic"] == "%" and not re.match(r"\w", magic["rest"])):
                self._magic(magic["magic"], magic["rest"])
                plain.append(f"{magic['indent']}pass")
            else:
                plain.append(line if not line.rstrip().endswith("?") else "pass")
        self.parse("\n".join(plain))

    def parse(self, source: str) -> None:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            for found in _STRING.finditer(source):
                self._add(found[2], "named")
            return
        self.visit(tree)

    def _magic(self, kind: str, rest: str) -> None:
        words = _words(rest)
        if kind == "!":
            self._shell(rest)
        elif words and words[0] in ("cd", "pushd") and len(words) > 1:
            self._change(words[1])
        elif words and words[0] == "run":
            script = next((word for word in words[1:] if not word.startswith("-")), "")
            self._add(script, "read")
            location = self._locate(script if script.endswith((".py", ".ipynb")) else f"{script}.py")
            if location.endswith(".py"):
                self._module_file(location)
        elif words and words[0] in ("load", "loadpy", "pycat"):
            self._add(words[-1], "read")
        else:
            for word in words[1:]:
                self._add(word, "named")

    def _shell(self, line: str) -> None:
        into = False
        for word in _words(line):
            if re.fullmatch(r"\d?>{1,2}", word):
                into = True
                continue
            self._add(word.lstrip("<>"), "write" if into or word.startswith(">") else "named")
            into = False

    # -- paths -----------------------------------------------------------------------------------------------------

    def _locate(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.base, os.path.expanduser(path)))

    def _change(self, path: str) -> None:
        self.base = self._locate(path)

    def _add(self, path: str, use: Use, complete: bool = True) -> None:
        if not path or len(path) > 1000 or "\n" in path or "\0" in path or "://" in path:
            return
        wild = _WILD.search(path)
        if not complete:
            path = path.rpartition("/")[0] if wild is None else path[: wild.start()].rpartition("/")[0]
            use = "named" if use == "read" else use
            wild = None
        if path.strip("./ ") or path.startswith("../") or path == "..":
            self.references.append(Reference(path, self._locate(path), self.cell, use, wild is not None and not os.path.lexists(self._locate(path))))

    # -- what an expression is -------------------------------------------------------------------------------------

    def piece(self, node: ast.AST | None) -> _Piece | None:
        """The string that an expression gives, as far as it is known."""
        if isinstance(node, ast.Constant):
            return _Piece(node.value, True, False) if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.JoinedStr):
            text = ""
            for part in node.values:
                known = self.piece(part.value if isinstance(part, ast.FormattedValue) else part)
                if known is None or not known.complete:
                    return _Piece(text + (known.text if known else ""), False, False)
                text += known.text
            return _Piece(text, True, False)
        if isinstance(node, ast.BinOp):
            left = self.piece(node.left)
            if left is None or not left.complete:
                return left
            if isinstance(node.op, ast.Mod):
                return _Piece(left.text.partition("%")[0], False, False)
            right = self.piece(node.right)
            if isinstance(node.op, ast.Div):
                return self._join([left, right])
            if isinstance(node.op, ast.Add):
                return _Piece(left.text + (right.text if right else ""), bool(right and right.complete), left.pathlike)
            return None
        if isinstance(node, ast.Attribute) and node.attr == "parent":
            known = self.piece(node.value)
            return _Piece(posixpath.dirname(known.text) or ".", known.complete, True) if known and known.pathlike else None
        return self._call_piece(node) if isinstance(node, ast.Call) else None

    def _call_piece(self, node: ast.Call) -> _Piece | None:
        name = _dotted(node.func)
        last = name.rpartition(".")[2]
        arguments = [self.piece(each) for each in node.args]
        if name in ("Path.cwd", "pathlib.Path.cwd", "os.getcwd"):
            return _Piece(".", True, True)
        if name in ("Path.home", "pathlib.Path.home"):
            return _Piece("~", True, True)
        if last in ("Path", "PurePath", "PosixPath") or name in ("os.path.join", "path.join"):
            return self._join(arguments) if arguments else _Piece(".", True, True)
        if name in ("os.path.dirname", "path.dirname") and arguments and arguments[0]:
            return _Piece(posixpath.dirname(arguments[0].text) or ".", arguments[0].complete, True)
        if last in ("expanduser", "abspath", "realpath", "normpath", "fspath", "str") and arguments and arguments[0]:
            return arguments[0]._replace(pathlike=True) if last != "str" else arguments[0]
        if isinstance(node.func, ast.Attribute):
            receiver = self.piece(node.func.value)
            if receiver and last in ("resolve", "absolute", "expanduser", "as_posix"):
                return receiver
            if receiver and last == "joinpath":
                return self._join([receiver, *arguments])
            if receiver and last == "format":
                return _Piece(receiver.text.partition("{")[0], False, False)
        return None

    def _join(self, pieces: Sequence[_Piece | None]) -> _Piece | None:
        text = ""
        for each in pieces:
            if each is None or not each.complete:
                return _Piece(posixpath.join(text, each.text if each else ""), False, True) if text or each else None
            text = posixpath.join(text, each.text)
        return _Piece(text, True, True)

    # -- walking the code ------------------------------------------------------------------------------------------

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr) and not isinstance(node, ast.Name | ast.Call):
            known = self.piece(node)
            if known is not None:
                self._mention(known)
                return
        super().generic_visit(node)

    def _mention(self, known: _Piece, use: Use = "named") -> None:
        bare = "/" not in known.text and "." not in known.text and not known.pathlike
        if use == "named" and bare and not Path(self._locate(known.text)).is_file():
            return
        self._add(known.text, use, known.complete)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._assign(node.targets, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign([node.target], node.value)

    def _assign(self, targets: Sequence[ast.expr], value: ast.expr) -> None:
        known = self.piece(value)
        for target in targets:
            if isinstance(target, ast.Name):
                self.names[target.id] = known
                if known is not None and known.complete and _PATH_WORDS.search(target.id):
                    known = known._replace(pathlike=True)
        if known is not None and not isinstance(value, ast.Name):
            self._mention(known)
        else:
            self.visit(value)

    def visit_Call(self, node: ast.Call) -> None:
        name = _dotted(node.func)
        last = name.rpartition(".")[2] or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
        first = (
            self.piece(node.args[0]) if node.args else next((self.piece(each.value) for each in node.keywords if each.arg in _PATH_KEYWORDS), None)
        )
        receiver = self.piece(node.func.value) if isinstance(node.func, ast.Attribute) else None
        if name in ("os.chdir", "chdir") and first and first.complete:
            self._change(first.text)
            return
        if name in ("sys.path.append", "sys.path.insert"):
            place = self.piece(node.args[-1]) if node.args else None
            if place and place.complete:
                self.places.append(self._locate(place.text))
            return
        if last in ("import_module", "__import__") and first and first.complete:
            self._module(first.text)
            return
        whole = self._call_piece(node)
        if whole is not None:
            self._mention(whole)
            return
        if receiver is not None and receiver.pathlike:
            use = _use_on_path(last, self.piece(node.args[0]) if node.args else None, receiver)
            text = (
                receiver.text
                if first is None or last not in ("glob", "rglob")
                else posixpath.join(receiver.text, "**" if last == "rglob" else "", first.text)
            )
            self._add(text, use, receiver.complete)
            rest: Iterable[ast.AST] = [] if last in ("glob", "rglob", "open") else [*node.args, *node.keywords]
        elif first is not None:
            self._mention(first, self._use(name, last, node))
            rest = [*node.args[1:], *(each for each in node.keywords if not (not node.args and each.arg in _PATH_KEYWORDS))]
        else:
            rest = [*node.args, *node.keywords]
        if receiver is None:
            self.visit(node.func)
        copies = last in ("copy", "copy2", "copyfile", "move", "copytree")
        for number, each in enumerate(rest):
            known = self.piece(each) if copies and number == 0 else None
            if known is not None:
                self._mention(known, "write")
            else:
                self.visit(each)

    def _use(self, name: str, last: str, node: ast.Call) -> Use:
        if last == "open":
            given = node.args[1] if len(node.args) > 1 else next((each.value for each in node.keywords if each.arg == "mode"), None)
            mode = self.piece(given)
            return "write" if mode and set(mode.text) & set("wax+") else "read"
        if last in ("copy", "copy2", "copyfile", "move", "copytree") and name.startswith("shutil."):
            return "read"
        if last in ("glob", "iglob"):
            return "named"
        if _WRITES.match(last) and (last not in _NO_PATHS or name.startswith(("os.", "shutil."))):
            return "write"
        return "read" if _READS.match(last) else "named"

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._module(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module:
            self._module(node.module, [alias.name for alias in node.names])

    # -- modules ---------------------------------------------------------------------------------------------------

    def _module(self, name: str, members: Sequence[str] = ()) -> None:
        top = name.partition(".")[0]
        for place in self.places:
            if Path(place, f"{top}.py").is_file():
                self._module_file(f"{place}/{top}.py")
                return
            package = Path(place, top)
            if package.is_dir() and ((package / "__init__.py").is_file() or any(package.glob("*.py"))):
                self.modules.append((str(package), self.cell))
                if str(package) not in self.seen:
                    self.seen.add(str(package))
                    for file in sorted(package.rglob("*.py"))[:PACKAGE_FILES]:
                        self._read_module(file)
                return

    def _module_file(self, location: str) -> None:
        if Path(location).is_file():
            self.modules.append((location, self.cell))
            self._read_module(Path(location))

    def _read_module(self, file: Path) -> None:
        if str(file) in self.seen:
            return
        self.seen.add(str(file))
        outer = self.names
        self.names = {"__file__": _Piece(str(file), True, True)}
        try:
            if file.stat().st_size <= SOURCE_BYTES:
                self.parse(file.read_text("utf-8", "replace"))
        except PermissionError:
            pass  # whoever freezes it says so
        finally:
            self.names = outer


_PATH_KEYWORDS = ("path", "file", "filename", "fname", "filepath", "filepath_or_buffer", "path_or_buf", "io", "fp", "pathname")


def _use_on_path(method: str, mode: _Piece | None, receiver: _Piece) -> Use:
    if method in _RECEIVER_WRITES or (method == "open" and mode is not None and set(mode.text) & set("wax+")):
        return "write"
    return "read" if method in _RECEIVER_READS and receiver.complete and method not in ("glob", "rglob") else "named"


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        outer = _dotted(node.value)
        return f"{outer}.{node.attr}" if outer else node.attr
    return ""


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def expand(pattern: str, most: int) -> Iterator[str]:
    """The files that a pattern means, at most so many."""
    fixed = Path(pattern[: _WILD.search(pattern).start()].rpartition("/")[0] or "/")  # type: ignore[union-attr]
    for number, path in enumerate(fixed.glob(pattern[len(str(fixed)) :].lstrip("/"))):
        if number >= most:
            return
        yield str(path)
