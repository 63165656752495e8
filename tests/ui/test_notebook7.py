"""The main job in Notebook 7, where a page has one document and no tabs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.conftest import TOKEN, Lab, serving
from tests.ui.test_main_job import PATIENCE, page_of, picture, run_as_job


@pytest.fixture(scope="module")
def notebook_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    options = ["--JupyterNotebookApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with serving(tmp_path_factory.mktemp("notebook"), "notebook", *options) as started:
        tagged = nbformat.v4.new_code_cell("n = 1", metadata={"tags": ["parameters"]})
        cells = [tagged, nbformat.v4.new_code_cell("square = n * n\nprint('the square is', square)")]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), started.project / "tiny.ipynb")
        yield started


@pytest.fixture
def notebook(browser: Browser, notebook_server: Lab) -> Iterator[Page]:
    """Notebook 7 with the tiny notebook open."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(f"{notebook_server.url}notebooks/churn/tiny.ipynb?token={TOKEN}")
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook")
    yield page
    context.close()


def test_run_as_job(notebook: Page) -> None:
    form = run_as_job(notebook)
    # the button that runs is in sight without scrolling the page
    submit = notebook.get_by_role("button", name=re.compile(r"^Run( \d+)?$")).last
    expect(submit).to_be_in_viewport()
    expect(form).to_contain_text("n")
    notebook.get_by_label(re.compile("Record")).first.fill("square")
    picture(notebook, "notebook7-form.png")
    submit.click()

    table = notebook.locator(".jobs-Table").last
    expect(table.get_by_text("complete", exact=True)).to_have_count(1, timeout=PATIENCE)
    expect(table).to_contain_text("square")
    picture(notebook, "notebook7-job.png")
    table.get_by_role("row").last.click()
    expect(page_of(notebook).get_by_text("the square is 1")).to_be_visible()
    picture(notebook, "notebook7-run.png")
    # the notebook itself is still there
    expect(notebook.locator(".jp-NotebookPanel .jp-Notebook")).to_be_visible()


def test_the_file_list_offers_it_too(notebook: Page, notebook_server: Lab) -> None:
    notebook.goto(f"{notebook_server.url}tree/churn")
    notebook.get_by_role("listitem", name=re.compile("tiny.ipynb")).click(button="right")
    notebook.get_by_role("menuitem", name=re.compile("Run as Job")).click()
    form = notebook.locator(".jobs-Form")
    expect(form).to_be_visible()
    expect(form.get_by_label("Name", exact=True)).to_have_value("tiny")
    picture(notebook, "notebook7-tree.png")
