"""The files in `static/`, compressed once, and kept by browsers for as long as their address has their version."""

from __future__ import annotations

from flask import Response, request
from werkzeug.exceptions import NotFound

from bridge.page import assets
from bridge.web.access import Access, open_to

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@open_to(Access.PUBLIC)
def static(filename: str) -> Response:
    """Give a file; what is none of ours, or of a kind that has no business here, is not found."""
    file = assets.FOLDER / filename
    if file.parent != assets.FOLDER or file.suffix not in _TYPES or not file.is_file():
        raise NotFound
    takes_gzip = request.accept_encodings["gzip"] > 0
    response = Response(assets.packed(filename) if takes_gzip else file.read_bytes(), mimetype=_TYPES[file.suffix])
    if takes_gzip:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = assets.KEPT if request.args.get("v") == assets.version(filename) else "no-cache"
    response.set_etag(assets.version(filename), weak=True)
    response.make_conditional(request)
    return response
