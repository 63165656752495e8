"""What the documents say of the code is so: states, transitions, error codes, commands and options."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from jupyter_jobs.cli import build_parser
from jupyter_jobs.lifecycle import JOB_TRANSITIONS, TRANSITIONS

ROOT = Path(__file__).parents[2]
LIFECYCLE = (ROOT / "docs" / "lifecycle.md").read_text()
CODE = re.compile(r"[a-z]+(_[a-z]+)*")
CALLS = {"RunError": "run", "Finding": "finding", "Repair": "finding"}
PACKAGE = sorted((ROOT / "jupyter_jobs").rglob("*.py"))


def section(title: str) -> str:
    """A section of the lifecycle's page, without what follows it."""
    found = re.search(rf"(?ms)^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", LIFECYCLE)
    assert found, title
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The cells of a section's table."""
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def codes(title: str) -> list[str]:
    return [row[0].strip("`") for row in rows(title)]


@pytest.mark.parametrize(("title", "transitions"), [("A run", TRANSITIONS), ("A job", JOB_TRANSITIONS)])
def test_the_tables_of_states_are_the_transitions(title: str, transitions: Mapping[str, frozenset[str]]) -> None:
    said = {state.strip("`"): set(re.findall(r"`(\w+)`", ways)) for state, _, ways in rows(title)}
    assert said == {str(state): {str(each) for each in ways} for state, ways in transitions.items()}


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def used(tree: ast.Module, file: Path) -> Iterator[tuple[str, str]]:
    """Kind (`run`, `finding`, `refused`) and code of every code that a file uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            kind = CALLS.get(ast.unparse(node.func).rpartition(".")[2], "refused")
            yield from ((kind, code) for keyword in node.keywords if keyword.arg == "code" for code in literals(keyword.value))
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "code":
                    yield from (("refused", code) for code in literals(each.value))
    if file.name == "failures.py":
        # explanations are tuples that begin with the code
        tuples = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)]
        yield from (("run", code) for value in tuples if len(value.elts) == 4 for code in literals(value.elts[0]))
    if file.name == "execute.py":
        # by their timers
        yield from (("run", each.value) for each in ast.walk(tree) if isinstance(each, ast.Constant) and str(each.value).endswith("_exceeded"))
    if file.name == "handler.py":
        tables = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
        entries = [value.elts[0] for table in tables for value in table.values if isinstance(value, ast.Tuple)]
        yield from (("refused", code) for entry in entries for code in literals(entry))


def test_every_code_is_in_the_document_and_none_besides() -> None:
    found: dict[str, set[str]] = {"run": set(), "finding": set(), "refused": set()}
    for file in PACKAGE:
        for kind, code in used(ast.parse(file.read_text()), file):
            assert CODE.fullmatch(code), f"{file}: {code}"
            found[kind].add(code)
    # those that other names stand for would make the comparison below pass by finding nothing
    assert {"syntax_error", "cell_time_limit_exceeded", "read_only_data"} <= found["run"]
    assert {"method_not_allowed", "forbidden", "bad_input"} <= found["refused"]
    failed, refused, known = (codes(title) for title in ("A run failed", "A request is refused", "Known beforehand"))
    for title, said in (("failed", failed), ("refused", refused), ("known", known)):
        assert len(said) == len(set(said)), f"{title}: a code stands there twice"
    assert found["run"] - set(failed) == set()
    assert found["refused"] - set(refused) == set()
    assert found["finding"] - set(known) == set()
    # what hinders a start is a run's failure too
    assert set(failed) - found["run"] - found["refused"] - found["finding"] == set()
    assert set(refused) - found["refused"] == set()
    assert set(known) - found["finding"] == set()


def commands(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Every command, as words, with its options."""
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not subparsers:
        yield words, {option for action in parser._actions for option in action.option_strings}
    for action in subparsers:
        for name, sub in action.choices.items():
            yield from commands(sub, *words, name)


COMMANDS = dict(commands(build_parser()))
PAGES = ["README.md", "CONTRIBUTING.md", "docs/lifecycle.md", "docs/design.md"]


def named_commands(text: str) -> Iterator[list[str]]:
    """The words after each `jupyter jobs` or `%job`, also where several commands stand in one line, with ·, and verbs with |."""
    for line in re.findall(r"(?:jupyter jobs|%job) ([a-z][^`\n#()]*)", text):
        for part in re.split(r"\s+·\s+", line.partition(" && ")[0]):
            words = part.removeprefix("jupyter jobs ").removeprefix("%job ").strip().rstrip(",.;:*").split()
            if words and re.fullmatch(r"[a-z|]+", words[0]):
                yield words


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_named_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    for words in named_commands(text):
        first = words[0].split("|")
        # words of a sentence after the command's name are none of its own
        if first[0] == "dispatcher" and len(words) > 1:
            for verb in words[1].split("|"):
                assert ("dispatcher", verb) in COMMANDS, f"{page}: jupyter jobs {' '.join(words)}"
            continue
        if words == ["dispatcher"]:
            continue
        for name in first:
            assert (name,) in COMMANDS, f"{page}: jupyter jobs {' '.join(words)}"
            options = {word for word in words[1:] if re.fullmatch(r"--?[a-z][a-z-]*", word)}
            assert options <= COMMANDS[name,], f"{page}: jupyter jobs {' '.join(words)}"
    if page == "docs/design.md":
        # that page names options of others' commands too
        return
    options = set().union(*COMMANDS.values())
    for option in re.findall(r"`(-[a-z]|--[a-z][a-z-]*)(?![\w-])[^`\n]*`", text):
        assert option in options, f"{page}: {option}"


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    said = {name for words in named_commands(text) for name in words[0].split("|")}
    assert {words[0] for words in COMMANDS} <= said


def test_the_examples_of_the_readme_are_read() -> None:
    text = (ROOT / "README.md").read_text()
    examples = re.findall(r"(?m)^(?:jupyter jobs|%job) ((?:run|list) ?[^#\n]*)", text)
    assert len(examples) >= 5
    for example in examples:
        build_parser().parse_args(shlex.split(example))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_and_file_named_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"(?m)^make ([a-z-]+)", text)) <= targets
    scripts = json.loads((ROOT / "labextension" / "package.json").read_text())["scripts"]
    assert set(re.findall(r"npm run ([\w:]+)", text)) <= set(scripts)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), f"{page}: {link}"
    for path in re.findall(r"`((?:jupyter_jobs|tests|docs|labextension|benchmarks|tools)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"{page}: {path}"
