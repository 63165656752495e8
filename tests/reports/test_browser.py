"""The page in Chromium: everything works without another host, and a script in an output reaches nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode, v4, write
from PIL import Image
from playwright.async_api import Browser

from jupyter_jobs.reports import length
from jupyter_jobs.reports.html import render_html
from tests.reports.sandboxed_page import Shown, Site, show

SPY = """<script>
(async () => {
  const found = {};
  const attempt = async (name, look) => { try { found[name] = String(await look()); } catch (error) { found[name] = 'refused'; } };
  await attempt('cookie', () => document.cookie);
  await attempt('storage', () => localStorage.getItem('token'));
  await attempt('parent', () => parent.token);
  await attempt('document', () => parent.document.cookie);
  await attempt('top', () => { top.location.href = '/api?top'; return 'gone'; });
  await attempt('fetch', async () => (await fetch('/api', {credentials: 'include'})).text());
  await attempt('url', () => location.search + location.hash);
  await attempt('opened', () => window.open('/api?popup') ? 'opened' : 'refused');
  document.body.dataset.spy = JSON.stringify(found);
})();
</script>"""
OLD_PLOTLY = """<script>require.undef("plotly"); requirejs.config({paths: {'plotly': ['https://cdn.plot.ly/plotly-2.35.2.min']}});</script>"""
OLD_FIGURE = """<div id="old" class="plotly-graph-div" style="height:200px"></div>
<script>require(["plotly"], function (Plotly) { Plotly.newPlot("old", [{"y": [1, 2]}], {"title": {"text": "old"}}); });</script>"""
CDN_FIGURE = """<script src="https://cdnjs.cloudflare.com/ajax/libs/mathjax/3.2.2/es5/tex-svg.min.js"></script>
<script charset="utf-8" src="https://cdn.plot.ly/plotly-4.1.1.min.js" integrity="sha256-x" crossorigin="anonymous"></script>
<div id="connected" class="plotly-graph-div" style="height:200px"></div><script>Plotly.newPlot("connected", [{"y": [3, 1]}]);</script>"""


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that a real kernel has run, with a slider whose state is saved in it."""
    folder = tmp_path_factory.mktemp("executed")
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    (folder / "img").mkdir()
    Image.new("RGB", (40, 20), "red").save(folder / "img" / "red dot.png")
    prose = "# Report\n\nInline $e^{i\\pi}$ and\n\n$$\\int_0^1 x\\,dx$$\n\n![dot](img/red%20dot.png)\n\n```mermaid\ngraph LR; A-->B\n```"
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell(prose),
            v4.new_code_cell("import ipywidgets\nipywidgets.IntSlider(value=42, description='$x^2$ n')"),
            v4.new_code_cell("from IPython.display import HTML\nHTML('<b id=bold>hi</b>')"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    figure = {"data": [{"type": "scatter", "y": [1, 3, 2]}], "layout": {"height": 300}}
    notebook.cells[3:3] = [
        displayed({"application/vnd.plotly.v1+json": figure, "text/html": CDN_FIGURE, "text/plain": "Figure"}),
        displayed({"text/html": OLD_PLOTLY}),
        displayed({"text/html": OLD_FIGURE}),
        displayed({"text/html": CDN_FIGURE.replace("Plotly.newPlot", "window.Plotly.newPlot")}),
        displayed({"text/html": SPY}),
        displayed({"application/javascript": "element.textContent = 'from javascript'"}),
    ]
    crafted = [(cell.source, cell.outputs) for cell in notebook.cells[3:9]]
    NotebookClient(notebook, allow_errors=True, store_widget_state=True, timeout=120).execute()
    for cell, (_, outputs) in zip(notebook.cells[3:9], crafted, strict=True):
        cell["outputs"] = outputs
    path = folder / "executed.ipynb"
    write(notebook, path)
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A notebook that needs no library, whose second cell has failed."""
    error = v4.new_output(
        "error", ename="ZeroDivisionError", evalue="division by zero", traceback=["\x1b[31mZeroDivisionError\x1b[0m: division by zero"]
    )
    links = "# Links\n\n[table](out/my%20table.csv#rows) [site](https://example.org/a) [up](../other.txt)"
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(links), v4.new_code_cell("1/0", id="failing", outputs=[error])])
    write(notebook, tmp_path / "plain.ipynb")
    return tmp_path / "plain.ipynb"


def displayed(data: dict[str, object]) -> NotebookNode:
    return v4.new_code_cell("pass", outputs=[v4.new_output("display_data", data)])


async def settle(shown: Shown) -> None:
    """Wait for what is drawn after loading."""
    for selector in ("mjx-container svg", ".jj-plotly .main-svg", "#old .main-svg", "#connected .main-svg", ".widget-slider", ".jp-Mermaid svg"):
        await shown.frame.wait_for_selector(selector, timeout=60_000)
    await shown.frame.wait_for_function("document.body.dataset.spy !== undefined", timeout=60_000)


@pytest.mark.parametrize("assets", ["/vendor", "inline"])
async def test_formulas_figures_widgets_diagrams_and_images_need_no_other_host(browser: Browser, site: Site, executed: Path, assets: str) -> None:
    site.page = render_html(executed, assets=assets, files_root=executed.parent)
    shown = await show(browser, site)
    await settle(shown)
    frame = shown.frame
    assert await frame.locator("mjx-container").count() >= 2
    assert await frame.locator(".widget-readout").inner_text() == "42"
    await frame.wait_for_selector(".widget-label mjx-container")
    image = frame.locator("img[alt=dot]")
    assert await image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [40, 20]
    assert await frame.locator("text=from javascript").count() == 1
    assert await frame.locator("#bold").count() == 1
    assert shown.foreign == []
    assert shown.errors == []


async def test_a_script_in_an_output_reaches_nothing(browser: Browser, site: Site, executed: Path) -> None:
    site.page = render_html(executed, assets="/vendor", files_root=executed.parent)
    shown = await show(browser, site)
    await settle(shown)
    found = await shown.frame.evaluate("JSON.parse(document.body.dataset.spy)")
    assert found == {
        "cookie": "refused",
        "storage": "refused",
        "parent": "refused",
        "document": "refused",
        "top": "refused",
        "fetch": "refused",
        "url": "",
        "opened": "refused",
    }
    assert not any(site.api_calls)
    assert shown.outer.url == f"{site.url}/outer"
    assert await shown.outer.evaluate("document.cookie") == "secret=cookie"


async def test_a_click_on_a_link_tells_the_parent_and_goes_nowhere(browser: Browser, site: Site, plain: Path) -> None:
    site.page = render_html(plain, assets="/vendor", folder="reports/weekly")
    shown = await show(browser, site)
    for text in ("table", "site", "up"):
        await shown.frame.get_by_role("link", name=text, exact=True).click()
    await shown.outer.wait_for_function("messages.length >= 3")
    assert await shown.outer.evaluate("messages") == [
        {"jupyter-jobs": "open", "path": "reports/weekly/out/my table.csv", "fragment": "rows"},
        {"jupyter-jobs": "external", "url": "https://example.org/a"},
        {"jupyter-jobs": "open", "path": "reports/other.txt", "fragment": ""},
    ]
    assert await shown.frame.get_by_role("link", name="site").get_attribute("rel") == "noopener noreferrer"
    assert shown.frame.url == f"{site.url}/page"


async def test_what_is_left_out_is_had_by_a_click(browser: Browser, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length, "MAX_OUTPUT", 10)
    write(v4.new_notebook(cells=[displayed({"text/html": "x" * 11})]), tmp_path / "n.ipynb")
    site.page = render_html(tmp_path / "n.ipynb", assets="/vendor", download="notebook")
    shown = await show(browser, site)
    assert await shown.frame.locator(".jj-cut").inner_text() == "11 characters of this output are not shown here. Download the notebook"
    await shown.frame.get_by_role("link", name="Download the notebook").click()
    await shown.outer.wait_for_function("messages.length >= 1")
    assert await shown.outer.evaluate("messages") == [{"jupyter-jobs": "notebook"}]
    assert shown.frame.url == f"{site.url}/page"


async def test_the_banner_names_the_run_and_leads_to_the_failing_cell(browser: Browser, site: Site, plain: Path) -> None:
    banner = {
        "run": 3,
        "job": "sweep <img src=x onerror='document.body.dataset.owned=1'>",
        "label": "lr=<b>0.1</b>",
        "snapshot": "4f1c9a2b" * 8,
        "state": "failed",
        "at": "2026-11-22T14:02:00+00:00",
        "error": "ZeroDivisionError in cell 2: <script>document.body.dataset.owned=1</script>",
        "cell": "failing",
    }
    site.page = render_html(plain, assets="/vendor", banner=banner, title="</title><script>document.body.dataset.owned=1</script>")
    framed = await show(browser, site)
    assert await framed.frame.locator(".jj-banner").is_hidden()
    shown = await show(browser, site, "/page")
    text = await shown.frame.locator(".jj-banner").inner_text()
    assert "run 3 of sweep <img" in text
    assert "lr=<b>0.1</b>" in text
    assert "snapshot 4f1c" in text
    assert await shown.frame.locator(".jj-banner b, .jj-banner img").count() == 1
    assert await shown.frame.evaluate("document.body.dataset.owned") is None
    await shown.frame.get_by_role("link", name="Go to the cell").click()
    failing = shown.frame.locator("[id='cell=failing']")
    assert await failing.evaluate("cell => cell.matches(':target') && cell.parentElement.classList.contains('jj-failed')")
    assert await shown.frame.locator(".jj-failed").count() == 1


@pytest.mark.parametrize(
    ("theme", "scheme", "dark"), [("auto", "light", False), ("auto", "dark", True), ("light", "dark", False), ("dark", "light", True)]
)
async def test_light_and_dark(browser: Browser, site: Site, plain: Path, theme: str, scheme: str, dark: bool) -> None:
    site.page = render_html(plain, assets="/vendor", theme=theme)  # type: ignore[arg-type]
    shown = await show(browser, site, scheme=scheme)
    ink, paper = await shown.frame.evaluate(
        "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0))"
    )
    assert (paper < ink) is dark
    assert abs(ink - paper) > 400


async def test_a_page_by_itself_opens_links_in_new_tabs(browser: Browser, plain: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(plain), encoding="utf-8")
    shown = await show(browser, Site("file://"), str(page))
    link = shown.frame.get_by_role("link", name="site", exact=True)
    assert await link.get_attribute("target") == "_blank"
    assert await link.get_attribute("rel") == "noopener noreferrer"
    await shown.frame.get_by_role("link", name="table").click()
    assert shown.outer.url == page.as_uri()
    assert shown.errors == []
