"""Composition: the Flask application, made of a site and its surfaces."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask.json.provider import DefaultJSONProvider
from flask_openapi3 import Info, OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix

from bridge import migrate, settings
from bridge.page import templating
from bridge.site import Site, open_site
from bridge.web import access, headers, problems, sign_in
from bridge.web import blocks as block_pages
from bridge.web import essays as essay_pages
from bridge.web import mentions as mention_pages
from bridge.web import reports as report_pages
from bridge.web import signals as signal_pages
from bridge.web import takedowns as takedown_pages
from bridge.web.api import api
from bridge.web.around import around
from bridge.web.belongings import belongings
from bridge.web.calls import calls
from bridge.web.desk import desk
from bridge.web.embed import counting, embed
from bridge.web.letters import letters
from bridge.web.mail import mail
from bridge.web.mine import mine
from bridge.web.outgoing import outgoing
from bridge.web.pages import pages
from bridge.web.people import people
from bridge.web.reading import reading
from bridge.web.record import record
from bridge.web.static import static
from bridge.web.stored import StoredPages
from bridge.web.voices import voices
from bridge.web.writing import cookies_are_secure, writing

HERE = Path(__file__).parent
MAX_BODY = 64 * 1024
"""Bytes of a request's body: 5,000 characters of four bytes, percent-encoded (SECURITY, R10)."""


def create_app(site: Site | None = None) -> Flask:
    """Return the WSGI application. Raises `migrate.SchemaRefused` rather than serve from an unguarded database."""
    site = site or open_site(settings.load(settings.Settings))
    migrate.check(site.database.reading)
    app = Application(
        "bridge",
        root_path=str(HERE),
        template_folder=str(templating.FOLDER),
        static_folder=None,  # `web.static` has a view for them.
        info=Info(title="Emeritus", version="1", description="Comments, a model's replies, and the gate between them."),
        security_schemes={"bearer": {"type": "http", "scheme": "bearer"}},
        validation_error_callback=problems.invalid,
        doc_ui=False,
    )
    app.extensions["site"] = site
    templating.settle(app.jinja_env)
    app.jinja_env.globals["contact"] = site.settings.contact
    app.config.update(_config(site))
    app.after_request(headers.protect)  # The first to be registered is the last to run.
    sign_in.install(app, site)
    app.json = StrictJson(app)  # After Flask-Security, which puts a lenient one in its place.
    access.csrf.init_app(app)
    app.before_request(access.speak)
    app.teardown_request(access.fall_silent)
    app.before_request(access.guard)
    app.before_request(sign_in.slow_down)
    app.add_url_rule("/static/<filename>", "static", static)
    problems.register(app)
    app.register_api(api)
    app.register_api(counting)
    app.register_blueprint(embed)
    app.register_blueprint(pages)
    app.register_blueprint(around)
    app.register_blueprint(writing)
    app.register_blueprint(mine)
    app.register_blueprint(record)
    app.register_blueprint(desk)
    app.register_blueprint(reading)
    app.register_blueprint(calls)
    app.register_blueprint(letters)
    app.register_blueprint(people)
    app.register_blueprint(voices)
    app.register_blueprint(report_pages.blueprint)
    app.register_blueprint(takedown_pages.blueprint)
    app.register_blueprint(essay_pages.blueprint)
    app.register_blueprint(outgoing)
    app.register_blueprint(mention_pages.blueprint)
    app.register_blueprint(mail)
    app.register_blueprint(belongings)
    app.register_blueprint(signal_pages.blueprint)
    app.register_blueprint(block_pages.blueprint)
    proxies = site.settings.trusted_proxies
    behind_proxies = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies)
    app.wsgi_app = StoredPages(WholeBodies(behind_proxies), site)  # type: ignore[method-assign]
    return app


class Application(OpenAPI):
    """An application whose log of an accident tells the place and never the words."""

    def log_exception(self, exc_info: Any) -> None:
        """Log where it happened: a database's message may quote the row, and an address may be the key to a letter."""
        kind, _, places = exc_info
        told = "".join(traceback.format_tb(places))
        self.logger.error("%s at %s, and where it came from:\n%s", kind.__name__, request.endpoint, told)


class StrictJson(DefaultJSONProvider):
    """JSON as its standard has it: UTF-8 only, no NaN, no Infinity."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Read *s*. Raises ValueError for what is not JSON."""
        text = s.decode("utf-8") if isinstance(s, bytes) else s
        return json.loads(text, parse_constant=_refuse_constant, **kwargs)


class WholeBodies:
    """Keep granian's shortened bodies out: a cut one would pass as whole. `access.guard` refuses chunked ones."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let Werkzeug count the bytes it was promised."""
        environ.pop("wsgi.input_terminated", None)
        return self._app(environ, start_response)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _config(site: Site) -> dict[str, Any]:
    secure = cookies_are_secure(site)
    prefix = "__Host-" if secure else ""
    return {
        "SECRET_KEY": site.keys.derived("sessions"),
        "MAX_CONTENT_LENGTH": MAX_BODY,
        "MAX_FORM_MEMORY_SIZE": MAX_BODY,
        "SESSION_COOKIE_NAME": f"{prefix}session",
        "SESSION_COOKIE_SECURE": secure,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "REMEMBER_COOKIE_NAME": f"{prefix}remember",
        "REMEMBER_COOKIE_SECURE": secure,
        "REMEMBER_COOKIE_HTTPONLY": True,
        "REMEMBER_COOKIE_SAMESITE": "Lax",
        "WTF_CSRF_CHECK_DEFAULT": False,  # `access.guard` checks where a form has authority.
        "WTF_CSRF_TIME_LIMIT": 12 * 3600,
        "WTF_CSRF_SSL_STRICT": False,  # `access.guard` compares Origin with Host, on http too.
        **sign_in.config(site, secure=secure),
    }
