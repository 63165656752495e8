"""Fixtures of the browser tests."""

from tests.reports.sandboxed_page import browser as browser
from tests.reports.sandboxed_page import site as site
