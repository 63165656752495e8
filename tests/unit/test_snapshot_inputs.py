"""What a notebook's cells name, and whether a run would find it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_jobs.model import LivePath, NamedInput, ProjectChoice
from jupyter_jobs.snapshot.inputs import escaping_paths, live_facts, named_inputs
from jupyter_jobs.snapshot.references import reach
from jupyter_jobs.snapshot.select import list_project


def put(file: Path, text: str = "12345") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    put(place / ".gitignore", "data/\nsecrets.py\n/out/\n")
    for path in ("data/train.csv", "data/sub/x.csv", "kept.csv", "notebooks/near.csv", "out/old.txt", "models/m.pkl", "secrets.py", "live/a.csv"):
        put(place / path)
    put(tmp_path / "shared.csv")
    return place


def inputs(project: Path, *cells: str, folder: str = "", live: tuple[LivePath, ...] = (), also: tuple[str, ...] = ()) -> list[NamedInput]:
    choice = ProjectChoice(directory=str(project), mode="directory", why="")
    listing = list_project(project.parent / "store", choice, live=live)
    return named_inputs(list(enumerate(cells, 1)), project / folder, choice, listing, live=live, also=also)


def states(found: list[NamedInput]) -> dict[str, str]:
    return {each.path: each.state for each in found}


def test_an_ignored_input_is_found_with_its_rule(project: Path) -> None:
    found = inputs(project, "import pandas as pd", "df = pd.read_csv('data/train.csv')\nmore = open('kept.csv')")
    assert found == [
        NamedInput(path="data/train.csv", cell=2, state="ignored", rule=".gitignore:1: data/", bytes=5),
        NamedInput(path="kept.csv", cell=2, state="frozen", bytes=5),
    ]


@pytest.mark.parametrize(
    "cell",
    [
        "pd.read_csv('data/train.csv')",
        "pd.read_csv(filepath_or_buffer='data/train.csv')",
        "p = Path('data') / 'train.csv'",
        "D = 'data'\nopen(D + '/train.csv')",
        "D = 'data'\nopen(f'{D}/train.csv')",
        "D = 'data'\nopen(os.path.join(D, 'train.csv'))",
        "Path('data').joinpath('train.csv').read_text()",
        "Path.cwd() / 'data' / 'train.csv'",
        "def load():\n    return np.load(os.path.abspath('data/train.csv'))",
        "paths = {'train': './data/train.csv'}",
        "!head -2 data/train.csv",
        "lines = !cat data/train.csv",
        "%%bash\nset -e\ncat data/train.csv | wc",
        "%%time\nx = open('data/train.csv')",
        "with open('data/train.csv') as f:\n    %timeit f.read()",
        "x <- read.csv('data/train.csv')",
        "%cd data\nopen('train.csv')",
        "import os\nos.chdir('data')\nopen('train.csv')",
        "import shutil\nshutil.copy('data/train.csv', 'copy.csv')",
        "pd.read_csv('data/%s.csv' % 'train') if False else open('data/train.csv')",
        "glob.glob('data/*.csv')",
        "list(Path('data').glob('tr*.csv'))",
    ],
)
def test_ways_to_name_a_file(project: Path, cell: str) -> None:
    found = [each for each in inputs(project, cell) if each.state == "ignored"]
    assert any(os.path.normpath(each.path).endswith("train.csv") and each.rule == ".gitignore:1: data/" for each in found), found


@pytest.mark.parametrize(
    "cell", ["open(f'data/{name}.csv')", "open('data/' + name)", "Path('data') / name", "os.listdir('data')", "for p in Path('data').iterdir(): pass"]
)
def test_the_known_part_of_a_path_counts(project: Path, cell: str) -> None:
    assert states(inputs(project, cell)) == {"data": "ignored"}


def test_writing_where_the_folder_is_left_out(project: Path) -> None:
    found = inputs(project, "df.to_csv('out/new.csv')\nplt.savefig('models/plot.png')\ndf.to_csv('fresh.csv')")
    assert found == [NamedInput(path="out", cell=1, state="ignored", rule=".gitignore:3: /out/")]


def test_outside_missing_live(project: Path) -> None:
    cell = (
        "open('../shared.csv')\nopen('nowhere.csv')\nopen('live/a.csv')\nopen('made.csv', 'w')\nopen('made.csv')\nopen('http://x/y.csv')\nx = 'kept'"
    )
    found = inputs(project, cell, live=(LivePath(path="live"),))
    assert states(found) == {"../shared.csv": "outside", "nowhere.csv": "missing", "live/a.csv": "live"}
    away = inputs(project, f"open({str(project.parent / 'shared.csv')!r})", live=(LivePath(path="../shared.csv"),))
    assert [each.state for each in away] == ["live"]


def test_paths_are_seen_from_the_notebooks_folder(project: Path) -> None:
    found = inputs(project, "open('near.csv')\nopen('../data/train.csv')\nopen('../kept.csv')\nopen('kept.csv')", folder="notebooks")
    assert states(found) == {"notebooks/near.csv": "frozen", "data/train.csv": "ignored", "kept.csv": "frozen", "notebooks/kept.csv": "missing"}
    assert states(inputs(project, "open('../../shared.csv')", folder="notebooks")) == {"../shared.csv": "outside"}


def test_behind_a_link(project: Path, tmp_path: Path) -> None:
    put(tmp_path / "disk/a.csv")
    (project / "disk").symlink_to(tmp_path / "disk")
    (project / "again").symlink_to("models")
    assert states(inputs(project, "open('disk/a.csv')\nopen('again/m.pkl')")) == {"disk/a.csv": "outside", "again/m.pkl": "frozen"}


def test_local_modules_count_with_what_they_name(project: Path) -> None:
    put(project / "helper.py", "from secrets import x\nimport pandas\nT = pandas.read_csv('data/train.csv')\n")
    put(project / "pkg/__init__.py", "")
    put(project / "pkg/a.py", "from pathlib import Path\nHERE = Path(__file__).parent / 'table.csv'\n")
    put(project / "pkg/table.csv", "")
    found = inputs(project, "x = 1", "import helper\nimport pkg.a")
    assert states(found) == {
        "helper.py": "frozen",
        "secrets.py": "ignored",
        "pkg": "frozen",
        "data/train.csv": "ignored",
        "pkg/table.csv": "frozen",
    }
    assert {each.cell for each in found} == {2}


def test_parameter_values_count(project: Path) -> None:
    assert states(inputs(project, "x = 1", also=("data/train.csv", "data", "0.5", "kept.csv", "a\nb"))) == {
        "data/train.csv": "ignored",
        "kept.csv": "frozen",
    }


def test_plain_words_are_no_paths(project: Path) -> None:
    assert inputs(project, "df['data']\nx = 'models'\nprint('.')\n'''kept.csv'''\ny = '/'\nz = ''", "df.groupby('live')") == []


def test_what_leads_out(project: Path) -> None:
    absolute = str(project / "kept.csv")
    cells = [
        (1, f"open({absolute!r})\nopen('../shared.csv')\nopen('../new.csv', 'w')\nopen('kept.csv')\nopen('/dev/null')\nx = '/api/v1'"),
        (4, "open('../shared.csv')"),
    ]
    choice = ProjectChoice(directory=str(project), mode="directory", why="")
    found = escaping_paths(cells, project, choice)
    assert [(each.code, each.path, each.cell, each.level) for each in found] == [
        ("absolute_path", absolute, 1, "warning"),
        ("outside_path", "../shared.csv", 1, "warning"),
        ("outside_path", "../new.csv", 1, "warning"),
    ]
    assert [each.path for each in escaping_paths(cells, project, choice, live=[LivePath(path="..")])] == []


def test_live_facts(project: Path) -> None:
    os.utime(project / "data/sub/x.csv", (2e9, 2e9))
    facts = live_facts(LivePath(path="data", writable=True), project=project)
    assert (facts.path, facts.writable, facts.files, facts.bytes) == ("data", True, 2, 10)
    assert facts.modified is not None
    assert facts.modified.isoformat() == "2033-05-18T03:33:20+00:00"
    one = live_facts(project / "kept.csv")
    assert (one.path, one.files, one.bytes) == (str(project / "kept.csv"), 1, 5)
    assert live_facts(project / "nothing") == LivePath(path=str(project / "nothing"))


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            ["open(", "'a/b'", ")", "%", "!", "x", "=", "/", "f'{x}/y'", "\n", " ", "Path(", ".parent", "+", "import a", "%%bash", "%run"]
        )
    ).map("".join)
)
def test_any_source_is_read(source: str) -> None:
    reach([(1, source)], Path("/nonexistent"))
