"""The committed document is the one that the code makes, and says of every route what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jupyter_jobs.api.openapi import document_text
from jupyter_jobs.api.routes import ROUTES

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_committed_document_is_up_to_date() -> None:
    assert COMMITTED.read_text() == document_text(ROUTES), "python -m jupyter_jobs.api > docs/openapi.json"


def test_every_reference_leads_somewhere() -> None:
    text = document_text(ROUTES)
    schemas = json.loads(text)["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) == set(schemas)


def test_every_route_is_in_it_with_its_parameters() -> None:
    paths = json.loads(document_text(ROUTES))["paths"]
    assert sum(len(operations) for operations in paths.values()) == len(ROUTES)
    for route in ROUTES:
        operation = paths[f"/{route.path}"][route.method.lower()]
        assert [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"] == route.path_fields
        assert ("requestBody" in operation) == (route.body is not None)
        assert set(operation["responses"]) == {str(route.status), "default"}


def test_names_are_unique() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
