"""Fixtures of the browser tests."""

from sandboxed_page import browser as browser
from sandboxed_page import site as site
