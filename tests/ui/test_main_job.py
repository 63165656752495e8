"""The main job in a real JupyterLab: one click, one combination less, states that change by themselves, a page that cannot do harm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import BrowserContext, FrameLocator, Locator, Page, expect

from tests.ui.conftest import ROOT, TOKEN, Lab

# one run imports papermill and the notebook's libraries, two at a time, on a machine that does other things too
PATIENCE = 240_000


def run_as_job(page: Page) -> Locator:
    """Click the toolbar's button; the form."""
    page.get_by_role("button", name="Run as job").first.click()
    form = page.locator(".jobs-Form")
    expect(form).to_be_visible()
    return form


def page_of(page: Page) -> FrameLocator:
    """The executed notebook of the run in front."""
    return page.frame_locator(".jobs-Page iframe")


def picture(page: Page, name: str) -> None:
    """Keep a screenshot where the documentation wants it, when asked."""
    if folder := os.environ.get("JOBS_PICTURES"):
        page.screenshot(path=str(Path(folder) / name))


@pytest.fixture
def requests(context: BrowserContext, lab: Lab) -> list[str]:
    """Every address that this browser asks."""
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    return asked


def test_run_as_job(page: Page, lab: Lab, requests: list[str]) -> None:
    page.evaluate("window.notReloaded = true")
    form = run_as_job(page)
    combinations = form.locator(".jobs-Combinations")
    expect(combinations.get_by_role("row")).to_have_count(7)
    expect(form).to_contain_text("5 files")
    submit = page.get_by_role("button", name=re.compile(r"^Run \d"))
    expect(submit).to_have_text("Run 6")
    picture(page, "form.png")

    combinations.get_by_role("row", name=re.compile("contract.*0.5")).get_by_role("checkbox").uncheck()
    expect(submit).to_have_text("Run 5")
    page.get_by_label(re.compile("Record")).first.fill("auc, loss")
    submit.click()

    view = page.locator(".jobs-Table").last
    rows = view.get_by_role("row")
    # the first job freezes an environment that nobody has frozen before
    expect(rows).to_have_count(6, timeout=PATIENCE)
    # seen while it happens: runs that wait and a run that runs, then none of them
    expect(view.get_by_text("queued").first).to_be_visible()
    expect(view.get_by_text("running").first).to_be_visible(timeout=PATIENCE)
    expect(view.get_by_text("complete", exact=True)).to_have_count(5, timeout=PATIENCE)
    assert page.evaluate("window.notReloaded") is True
    headers = view.get_by_role("columnheader").all_inner_texts()
    assert {"features", "learning_rate", "auc", "loss"} <= {header.strip() for header in headers}
    picture(page, "job.png")

    rows.filter(has_text=re.compile("usage.*0.5")).last.click()
    banner = page.locator(".jobs-Banner:visible")
    expect(banner).to_contain_text("read-only")
    expect(banner).to_contain_text("learning_rate=0.5")
    expect(banner).to_contain_text("snapshot")
    shown = page_of(page)
    expect(shown.get_by_role("heading", name="Who leaves?")).to_be_visible()
    expect(shown.get_by_text(re.compile(r"AUC 0\.\d+, loss")).first).to_be_visible()
    expect(shown.locator("img").first).to_be_visible()
    # the formula is typeset, without anybody outside being asked
    expect(shown.locator("mjx-container svg").first).to_be_visible()
    picture(page, "run.png")

    page.get_by_role("tab", name="Files").last.click()
    expect(page.get_by_role("grid", name="Files of run 2")).to_contain_text("most_likely_to_leave.csv")
    page.get_by_role("tab", name="Logs").last.click()
    expect(page.locator(".jobs-Log:visible")).to_contain_text("280 customers to learn from")

    assert not (lab.project / "most_likely_to_leave.csv").exists()
    outside = [url for url in requests if not url.startswith((lab.url, lab.url.replace("http", "ws", 1), "data:", "blob:"))]
    assert outside == []
    # a token may be in the address that the person opened, nowhere else, and never in a frame's
    assert [url for url in requests if "/jupyter-jobs/" in url and TOKEN in url] == []


HOSTILE = """
from IPython.display import HTML
HTML('''<p id="verdict">untried</p><script>
(async () => {
  const found = [];
  const attempt = async (name, action) => {
    try { const value = await action(); if (value) found.push(name + ': ' + value); } catch (error) { }
  };
  await attempt('cookie', () => document.cookie);
  await attempt('storage', () => localStorage.length + 1);
  await attempt('parent', () => parent.document.title || 'reached');
  await attempt('config', () => parent.document.getElementById('jupyter-config-data').textContent);
  await attempt('token', () => /token/.test(location.href) && location.href);
  for (const path of ['/jupyter-jobs/api/jobs', '/api/contents', '/api/status']) {
    await attempt(path, async () => { const answer = await fetch(path, {credentials: 'include'}); return answer.ok && await answer.text(); });
    await attempt('absolute ' + path, async () => {
      const answer = await fetch(new URL(path, document.baseURI), {credentials: 'include'}); return answer.ok && await answer.text();
    });
  }
  document.getElementById('verdict').textContent = found.length ? 'BREACH ' + found.join(' | ') : 'nothing reached';
})();
</script>''')
"""


def test_a_script_in_an_output_reaches_nothing(context: BrowserContext, lab: Lab) -> None:
    cells = [nbformat.v4.new_code_cell(HOSTILE)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), lab.project / "hostile.ipynb")
    page = context.new_page()
    page.goto(f"{lab.url}lab/workspaces/{os.urandom(4).hex()}/tree/churn/hostile.ipynb?token={TOKEN}")
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook")
    run_as_job(page)
    page.get_by_role("button", name=re.compile(r"^Run")).last.click()
    page.locator(".jobs-Table").last.get_by_role("row").last.click(timeout=PATIENCE)
    expect(page_of(page).locator("#verdict")).to_have_text("nothing reached", timeout=PATIENCE)


def test_the_panel_lists_jobs_and_says_when_the_server_part_is_missing(page: Page, lab: Lab) -> None:
    # made beside the server: the panel hears of it all the same
    command = [sys.executable, "-m", "jupyter_jobs.cli", "run", str(lab.project / "report.ipynb"), "--only", "1", "--name", "from the shell"]
    subprocess.run(command, env=lab.environment, check=True, timeout=240)
    page.get_by_role("tab", name=re.compile("Jobs")).first.click()
    panel = page.locator(".jobs-Panel")
    expect(panel).to_be_visible()
    expect(panel.get_by_text("from the shell").first).to_be_visible()

    page.route("**/jupyter-jobs/api/**", lambda route: route.fulfill(status=404, body="<html>no such page</html>"))
    page.reload()
    page.wait_for_function("window.jupyterapp && window.jupyterapp.restored.then(() => true)")
    if not panel.is_visible():
        page.get_by_role("tab", name=re.compile("Jobs")).first.click()
    expect(panel).to_contain_text("jupyter server extension enable jupyter_jobs")


def test_pictures_for_the_readme_are_there() -> None:
    assert (ROOT / "docs" / "images" / "job.png").is_file()
