"""The floor for a reader's page: a bare Flask application that answers a constant of so many bytes."""

from __future__ import annotations

import os

from flask import Flask, Response, request

TAG = 'W/"floor"'


def create_app() -> Flask:
    """Return the application; `FLOOR_BYTES` says how much it answers."""
    app = Flask("floor")
    body = os.urandom(int(os.environ["FLOOR_BYTES"]))

    @app.get("/")
    def page() -> Response:
        if request.headers.get("If-None-Match") == TAG:
            return Response(status=304, headers={"ETag": TAG})
        return Response(body, mimetype="text/html", headers={"ETag": TAG})

    return app
