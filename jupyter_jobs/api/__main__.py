"""`python -m jupyter_jobs.api`: print the OpenAPI document."""

from __future__ import annotations

import sys

from jupyter_jobs.api.openapi import document_text
from jupyter_jobs.api.routes import ROUTES

if __name__ == "__main__":
    sys.stdout.write(document_text(ROUTES))
