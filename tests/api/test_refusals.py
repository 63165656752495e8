"""Who may not ask, and what may not be asked: every route refuses strangers, and no input makes an error of ours."""

from __future__ import annotations

import json

import pytest
from jupyter_server.auth import Authorizer
from traitlets.config import Config

from jupyter_jobs.api.routes import ROUTES
from jupyter_jobs.api.table import Route
from tests.api.running import BASE, Running, error_of

VALUES = {"{job}": "4f1c9a2b", "{run}": "4f1c9a2b-1", "{path}": "out/plot.png"}


def path_of(route: Route) -> str:
    path = route.path
    for name, value in VALUES.items():
        path = path.replace(name, value)
    return path


@pytest.mark.parametrize("authorization", ["", "token wrong", "jobs wrong", "jobs ", "Bearer x", "token "])
async def test_every_route_refuses_a_stranger(server: Running, authorization: str) -> None:
    for route in ROUTES:
        response = await server.ask(route.method, path_of(route), headers={"Authorization": authorization})
        assert response.code in (401, 403), (route.name, response.code)
        assert error_of(response)["code"] in ("not_authenticated", "forbidden"), route.name
        assert not server.jobs._live or b"jobs.sqlite" not in response.body


async def test_what_is_no_route_refuses_a_stranger_too(server: Running) -> None:
    for path in ("", "nothing", "jobs/4f1c9a2b/nothing", "../api/jobs", "%2e%2e"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            response = await server.ask(method, path, headers={"Authorization": ""})
            assert response.code in (401, 403, 404), (method, path, response.code)
            assert response.code != 404 or path == "../api/jobs", (method, path)


class Nobody(Authorizer):
    """Lets nobody do anything, and notes what was asked."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012

    def is_authorized(self, handler: object, user: object, action: str, resource: str) -> bool:
        self.asked.append((action, resource))
        return False


class TestAuthorizer:
    @pytest.fixture
    def server_config(self) -> Config:
        return Config({"ServerApp": {"authorizer_class": Nobody}})

    async def test_every_route_asks_it(self, server: Running) -> None:
        for route in ROUTES:
            Nobody.asked.clear()
            response = await server.ask(route.method, path_of(route))
            assert response.code == 403, route.name
            assert error_of(response)["code"] == "forbidden"
            assert Nobody.asked == [(route.permission, "jupyter_jobs")], route.name

    async def test_also_for_a_kernel(self, server: Running) -> None:
        response = await server.ask("GET", "jobs", headers={"Authorization": f"jobs {server.jobs.secret}"})
        assert response.code == 403


async def test_a_kernel_is_known_by_the_secret(server: Running) -> None:
    secret = {"Authorization": f"jobs {server.jobs.secret}"}
    assert (await server.ask("GET", "jobs", headers=secret)).code == 200
    # no cookie, so nothing that a foreign page could make a browser send
    assert (await server.ask("POST", "combinations", body={}, headers=secret)).code == 400
    for elsewhere in ("api/contents", "api/kernels"):
        response = await server.ask("GET", elsewhere, headers=secret)
        assert response.code in (302, 401, 403), elsewhere


async def test_a_cookie_needs_the_xsrf_token(server: Running) -> None:
    from tornado.httpclient import AsyncHTTPClient

    login = await AsyncHTTPClient().fetch(f"{server.url}login?token=the-token", follow_redirects=False, raise_error=False)
    cookies = "; ".join(value.partition(";")[0] for value in login.headers.get_list("Set-Cookie"))
    assert "username-" in cookies
    cookie = {"Authorization": "", "Cookie": cookies}
    assert (await server.ask("GET", "jobs", headers=cookie)).code == 200
    response = await server.ask("POST", "combinations", body={"path": "a.ipynb"}, headers=cookie)
    assert response.code == 403
    error_of(response)
    foreign = await server.ask("GET", "jobs", headers={**cookie, "Origin": "https://elsewhere.example"})
    assert foreign.code in (403, 404)


HUGE = "9" * 400
BAD = [
    ("GET", "jobs?limit=-1", None, "limit"),
    ("GET", "jobs?limit=0", None, "limit"),
    ("GET", f"jobs?limit={HUGE}", None, "limit"),
    ("GET", "jobs?limit=ten", None, "limit"),
    ("GET", "jobs?limit=1&limit=2", None, "limit"),
    ("GET", "jobs?sort=drop%20table", None, "sort"),
    ("GET", "jobs?status=dancing", None, "status"),
    ("GET", "jobs?after=%00", None, "after"),
    ("GET", "jobs?after=nothing", None, "after"),
    ("GET", "jobs?after=!!!", None, "after"),
    ("GET", f"jobs?search={'x' * 2000}", None, "search"),
    ("GET", "jobs?surprise=1", None, "surprise"),
    ("GET", "jobs?search=%ff", None, None),
    ("GET", "jobs?body=1", None, "body"),
    ("GET", f"jobs?{'&'.join(f'a{n}=1' for n in range(80))}", None, None),
    ("GET", "jobs/..", None, "job"),
    ("GET", "jobs/%2e%2e%2f%2e%2e", None, "job"),
    ("GET", "jobs/a%00b", None, "job"),
    ("GET", "jobs/4f1c9a2b%0a", None, "job"),
    ("GET", "jobs/%ff", None, None),
    ("GET", f"jobs/{'a' * 5000}", None, "job"),
    ("GET", "jobs/4f1c9a2b/runs?state=done", None, None),
    ("GET", "runs/4f1c9a2b", None, "run"),
    ("GET", f"runs/4f1c9a2b-{HUGE}", None, "run"),
    ("GET", "runs/4f1c9a2b--1", None, "run"),
    ("GET", "runs/-1", None, "run"),
    ("GET", "runs/4f1c9a2b-1/files/../../../../etc/passwd", None, None),
    ("GET", "runs/4f1c9a2b-1/files/%2e%2e/%2e%2e/jobs.sqlite", None, None),
    ("GET", "runs/4f1c9a2b-1/files//etc/passwd", None, None),
    ("GET", "runs/4f1c9a2b-1/files/a%00b", None, "path"),
    ("GET", "runs/4f1c9a2b-1/logs?last=x", None, None),
    ("GET", "events?after=-1", None, "after"),
    ("GET", f"events?after={HUGE}", None, "after"),
    ("GET", "events/stream?last=abc", None, "last"),
    ("GET", "inspect", None, "path"),
    ("GET", "inspect?path=", None, "path"),
    ("GET", "inspect?path=a%00.ipynb", None, "path"),
    ("GET", f"inspect?path={'a/' * 3000}", None, "path"),
    ("GET", "inspect?path=../outside.ipynb", None, None),
    ("GET", "inspect?path=missing.ipynb", None, None),
    ("POST", "jobs", b"", None),
    ("POST", "jobs", b"{", None),
    ("POST", "jobs", b"null", None),
    ("POST", "jobs", b"[]", None),
    ("POST", "jobs", b"\xff\xfe", None),
    ("POST", "jobs", b'{"path": "\xff"}', None),
    ("POST", "jobs", b'{"path": "\\ud800"}', None),
    ("POST", "jobs", b'{"path": 1}', "path"),
    ("POST", "jobs", b'{"path": null}', "path"),
    ("POST", "jobs", b'{"path": "a\\u0000.ipynb"}', "path"),
    ("POST", "jobs", b"{}", "path"),
    ("POST", "jobs", b'{"path": "a.ipynb", "surprise": 1}', "surprise"),
    ("POST", "jobs", b'{"path": "a.ipynb", "only": ["x"]}', "only[0]"),
    ("POST", "jobs", b'{"path": "a.ipynb", "time_limit": 1e999}', "time_limit"),
    ("POST", "jobs", b'{"path": "a.ipynb", "parameters": {"a": 1}}', "parameters[...]"),
    ("POST", "jobs", b'{"path": "a.ipynb", "parameters": {"a": [NaN]}}', None),
    ("POST", "jobs", b'{"path": "a.ipynb", "parameters": {"a\\u0000": [1]}}', "parameters"),
    ("POST", "jobs", b'{"path": "a.ipynb", "parameters": {"a": [' + b"[" * 100_000 + b"]}}", None),
    ("POST", "jobs", b'{"path": "a.ipynb", "name": "' + b"n" * 300 + b'"}', "name"),
    ("POST", "jobs", b'{"path": "' + b"p" * 5000 + b'"}', "path"),
    ("POST", "jobs", b'{"path": "a.ipynb", "live": [{"path": 3}]}', "live[0].path"),
    ("POST", "jobs", b'{"path": "missing.ipynb"}', None),
    ("POST", "combinations", b'{"path": "missing.ipynb", "grid_text": "{"}', None),
    ("POST", "preview", b'{"path": "/etc/passwd"}', None),
    ("POST", "runs/4f1c9a2b-1/files/copy", b'{"paths": "x"}', "paths"),
    ("POST", "runs/4f1c9a2b-1/files/copy", b'{"paths": ["../../x"]}', None),
    ("DELETE", "jobs/4f1c9a2b?cancel=perhaps", None, "cancel"),
]


async def test_no_input_makes_an_error_of_ours(server: Running) -> None:
    wrong = []
    for method, path, body, field in BAD:
        response = await server.ask(method, path, raw=body)
        if not 400 <= response.code < 500 or (field is not None and error_of(response)["detail"].get("field") != field):
            wrong.append((method, path[:80], (body or b"")[:60], field, response.code, response.body[:300]))
    assert not wrong


async def test_a_body_that_is_too_large(server: Running) -> None:
    body = b'{"path": "a.ipynb", "grid_text": "' + b"x" * (17 << 20) + b'"}'
    response = await server.ask("POST", "combinations", raw=body)
    assert (response.code, error_of(response)["code"]) == (413, "too_large")


async def test_what_is_not_there(server: Running) -> None:
    response = await server.get("nothing/here")
    assert (response.code, error_of(response)["code"]) == (404, "no_such_route")
    response = await server.ask("DELETE", "health")
    assert (response.code, response.headers["Allow"], error_of(response)["code"]) == (405, "GET", "method_not_allowed")
    response = await server.get("jobs/4f1c9a2b")
    assert (response.code, error_of(response)["code"]) == (404, "job_not_found")


async def test_a_fault_of_ours_is_told_without_values(server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(*_: object) -> object:
        raise RuntimeError("parameter secret-value")

    monkeypatch.setattr(server.jobs, "call", fail)
    server.app.log.propagate = True
    response = await server.post("combinations", {"path": "a.ipynb", "parameters": {"key": ["secret-value"]}})
    assert (response.code, error_of(response)["code"]) == (500, "internal_error")
    assert "RuntimeError at " in caplog.text
    assert "secret-value" not in caplog.text
    assert b"secret-value" not in response.body


class TestStoreThatFails:
    @pytest.fixture
    def server_config(self, places: object) -> Config:
        return Config({"Jobs": {"data_dir": "/proc/nothing/jobs"}})

    async def test_the_server_lives_and_says_so(self, server: Running) -> None:
        for _ in range(2):
            response = await server.get("jobs")
            error = error_of(response)
            assert response.code == 503
            assert "/proc/nothing/jobs" in error["message"]
            assert error["mend"]


async def test_a_new_store_is_served_at_once(server: Running) -> None:
    response = await server.get("jobs")
    assert response.code == 200
    assert json.loads(response.body) == {"jobs": [], "page": {"next": "", "total": 0}}
    assert response.headers["Content-Type"].startswith("application/json")
    assert BASE in server.api
