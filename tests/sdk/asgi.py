"""Sends requests to a Starlette app that has examples/rollcall_asgi.py, as it is, for tests/it/examples.

stdin: {url, questions}; stdout: {outcomes, addresses}, an outcome for each question and whom it connected to. A question is a
request {path, headers, isCookieTaken}; its outcome is {status, headers, body}, of a WebSocket {status, body},
or {closed} where that is refused.

    /public                     anybody: {rollcall: request.state.rollcall}
    /public/orgs/{slug}         anybody who is a member: the membership that `require_org` gives
    /me, /socket                the context
    /team/{slug}                the same, of an organization that the middleware asks for
    /orgs/{slug}?role=          the membership that `require_org` gives
"""

import json
import sys
from pathlib import Path
from typing import Any

from addresses import addresses  # before all that connects

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from rollcall_asgi import RollcallMiddleware, Scope, require_org
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect


async def me(request: Request) -> JSONResponse:
    return JSONResponse({"rollcall": request.state.rollcall})


async def org(request: Request) -> JSONResponse:
    roles = request.query_params.getlist("role") or None
    return JSONResponse(await require_org(request, request.path_params["slug"], roles))


async def socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_json({"rollcall": socket.state.rollcall})
    await socket.close()


def is_public(path: str) -> bool:
    return path.startswith("/public")


def team(scope: Scope) -> str | None:
    _, first, *rest = scope["path"].split("/")
    return rest[0] if first == "team" else None


def app(url: str, **options: bool) -> Starlette:
    rollcall = Middleware(RollcallMiddleware, url=url, public=is_public, org=team, memberships=True, **options)
    routes = [
        Route("/public", me),
        Route("/public/orgs/{slug}", org),
        Route("/me", me),
        Route("/orgs/{slug}", org),
        Route("/team/{slug}", me),
        WebSocketRoute("/socket", socket),
    ]
    return Starlette(routes=routes, middleware=[rollcall])


def outcome(client: TestClient, question: dict[str, Any]) -> dict[str, Any]:
    headers = question["headers"]
    if question["path"] == "/socket":
        try:
            with client.websocket_connect("/socket", headers=headers) as opened:
                return {"status": 101, "body": opened.receive_json()}
        except WebSocketDisconnect as refused:
            return {"closed": refused.code}
    answer = client.get(question["path"], headers=headers)
    body = answer.json() if answer.headers["content-type"].endswith("json") else answer.text
    return {"status": answer.status_code, "headers": dict(answer.headers), "body": body}


asked = json.load(sys.stdin)
taking, by_default = (
    TestClient(app(asked["url"], **options), raise_server_exceptions=False) for options in ({"cookie": True}, {})
)
with taking, by_default:
    questions = asked["questions"]
    outcomes = [outcome(taking if question["isCookieTaken"] else by_default, question) for question in questions]
json.dump({"outcomes": outcomes, "addresses": addresses}, sys.stdout)
