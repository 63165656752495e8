"""The notebooks that every contender executes: each in a folder of its own, which is its project."""

from __future__ import annotations

from pathlib import Path

import nbformat

TRIVIAL = ["n = 0", "total = sum(range(n))", "print(total)"]
PANDAS = [
    "n = 0",
    "import matplotlib.pyplot as plt\nimport numpy as np\nimport pandas as pd",
    "chance = np.random.default_rng(n)\n"
    "frame = pd.DataFrame({'x': np.arange(5000), 'y': chance.normal(size=5000).cumsum(), 'group': chance.integers(0, 5, 5000)})\n"
    "frame.groupby('group').y.agg(['mean', 'std'])",
    "frame.plot.scatter('x', 'y', c='group', colormap='viridis')\nplt.show()",
]
# 5,000 outputs as print makes them, ten kilobytes each
OUTPUT = ["n = 0", *["for number in range(1000):\n    print(f'{number:9}', 'x' * 9989)"] * 5]
CELLS = ["n = 0", *[f"n += {number}\nprint(n)" if number % 10 == 0 else f"n += {number}" for number in range(1, 200)]]
NOTEBOOKS = {"trivial": TRIVIAL, "pandas": PANDAS, "output": OUTPUT, "cells": CELLS}
TITLES = {"trivial": "three trivial cells", "pandas": "pandas + matplotlib", "output": "50 MB of output", "cells": "200 short cells"}


def write(place: Path) -> None:
    """`place/NAME/NAME.ipynb` for each; the first cell holds the parameter `n`."""
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
    for name, sources in NOTEBOOKS.items():
        folder = place / name
        folder.mkdir(parents=True)
        (folder / ".jobs.toml").touch()
        cells = [nbformat.v4.new_code_cell(source, id=f"cell{number}") for number, source in enumerate(sources)]
        cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")
