"""nbconvert's HTML exporter, less what takes long in a large notebook. Made once a process: compiling its templates takes a while."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nbconvert.exporters import HTMLExporter
from nbconvert.filters.ansi import ansi2html
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
from nbformat import NotebookNode
from traitlets.config import Config

from jupyter_jobs.reports.length import CUT, WIDGET_VIEW
from jupyter_jobs.reports.media import PLOTLY

PRIORITY = (
    WIDGET_VIEW,
    PLOTLY,
    "application/javascript",
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "text/vnd.mermaid",
    "text/latex",
    "image/png",
    "image/jpeg",
    "image/gif",
    "text/plain",
    CUT,
)
_ESCAPE = re.compile(r"\x1b\[([^\n@-~]*)([@-~])")
_STEP = 200
"""Colour changes that nbconvert gets at once: it copies the rest of the text at each."""
_KEPT_CODES = 20


class Exporter(HTMLExporter):
    """What nbconvert does with a notebook that we have read and cut ourselves."""

    def from_notebook_node(self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any) -> tuple[Any, dict[str, Any]]:
        """As nbconvert's, but the page is not parsed again for two attributes, which `page.js` sets, and no notebook is kept."""
        language = nb.metadata.get("language_info", {})
        lexer = language.get("pygments_lexer", language.get("name"))
        self._nb_metadata.clear()
        resources = self._init_resources(resources)  # type: ignore[no-untyped-call]
        self.register_filter("ansi2html", coloured)  # type: ignore[no-untyped-call]
        self.register_filter("highlight_code", Highlight2HTML(pygments_lexer=lexer, parent=self))  # type: ignore[no-untyped-call]
        available = WidgetsDataTypeFilter(notebook_metadata=self._nb_metadata, parent=self, resources=resources)  # type: ignore[no-untyped-call]
        self.register_filter("filter_data_type", available)  # type: ignore[no-untyped-call]
        page, resources = super(HTMLExporter, self).from_notebook_node(nb, resources, **kw)
        return page, resources

    def _validate_preprocessor(self, nbc: NotebookNode, preprocessor: Any) -> None:
        """Not at all: an executed notebook is as we write it."""


def make_exporter(templates: Path) -> Exporter:
    """An exporter with our template."""
    config = Config()
    config.NbConvertBase.display_data_priority = list(PRIORITY)
    return Exporter(  # type: ignore[no-untyped-call]
        config=config,
        template_name="jobs",
        extra_template_basedirs=[str(templates)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )


def coloured(text: str) -> str:
    """A text with a terminal's colours as HTML, in pieces, each of which begins with the colours that the last one ended with."""
    pieces: list[str] = []
    codes: list[str] = []
    before, at = "", 0
    for number, escape in enumerate(_ESCAPE.finditer(text), start=1):
        if number % _STEP == 0:
            pieces.append(ansi2html(before + text[at : escape.start()]))  # type: ignore[no-untyped-call]
            before, at = "".join(codes), escape.start()
        if escape[2] == "m":
            codes = [] if escape[1] in ("", "0") else [*codes[-_KEPT_CODES:], escape[0]]
    pieces.append(ansi2html(before + text[at:]))  # type: ignore[no-untyped-call]
    return "".join(pieces)
