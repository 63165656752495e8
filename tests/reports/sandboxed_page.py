"""A page as a person gets it: served with its header, in a sandboxed frame of a page that has a cookie, in a real browser without any other host."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Frame, Page, Route, async_playwright

from jupyter_jobs.reports.html import VENDOR

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OUTER = """<!doctype html><title>outer</title><script>
document.cookie = 'secret=cookie'; localStorage.setItem('token', 'stored'); window.token = 'in the parent'; window.messages = [];
addEventListener('message', event => messages.push(event.data));
</script><iframe sandbox="allow-scripts" src="/page" style="width: 1000px; height: 1600px"></iframe>"""


@dataclass
class Site:
    """A server on this machine: `/page` is what `page` holds, `/outer` frames it, `/vendor/` are our libraries, `/api` wants the cookie."""

    url: str
    page: str = ""
    api_calls: list[bool] = field(default_factory=list)


@dataclass
class Shown:
    """What a browser made of the page: the frame's content, the requests to other hosts (there must be none) and the page's errors."""

    outer: Page
    frame: Frame
    foreign: list[str]
    errors: list[str]


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/page":
                self.answer(
                    served.page.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": "sandbox allow-scripts; frame-ancestors 'self'"}
                )
            elif path == "/outer":
                self.answer(OUTER.encode(), "text/html; charset=utf-8")
            elif path.startswith("/vendor/") and (VENDOR / path.rpartition("/")[2]).is_file():
                self.answer((VENDOR / path.rpartition("/")[2]).read_bytes(), "text/javascript")
            elif path == "/api":
                served.api_calls.append("secret=cookie" in self.headers.get("Cookie", ""))
                self.answer(b"secret", "application/json")
            else:
                self.send_error(404)

        def answer(self, body: bytes, media_type: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(200)
            for name, value in {"Content-Type": media_type, "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if not (VENDOR / "versions.json").is_file():
        pytest.fail("The vendored libraries are not built: run `make build`, or `npm install` and `node vendor.mjs` in labextension/.")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        await running.close()


async def show(browser: Browser, site: Site, path: str = "/outer", scheme: str = "light") -> Shown:
    """Open `/outer` (or the page by itself) with every request to another host refused and noted."""
    page = await browser.new_page(color_scheme="dark" if scheme == "dark" else "light", viewport={"width": 1100, "height": 900})
    foreign: list[str] = []
    errors: list[str] = []

    async def refuse(route: Route) -> None:
        if route.request.url.startswith((site.url, "data:", "blob:")):
            await route.continue_()
        else:
            foreign.append(route.request.url)
            await route.abort()

    await page.route("**/*", refuse)
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(site.url + path, wait_until="load")
    return Shown(page, page.frames[-1], foreign, errors)
