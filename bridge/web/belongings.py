"""What is kept about a reader: asked for by mail, shown, taken along as a file, and erased."""

from __future__ import annotations

import json

from flask import Blueprint, Response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from bridge.letter import admission
from bridge.letter import belongings as kept
from bridge.page import paths
from bridge.web import arriving
from bridge.web.access import Access, open_to, site

belongings = Blueprint("belongings", __name__, url_prefix="/your-letters")


@belongings.get("")
@open_to(Access.PUBLIC)
def form() -> ResponseReturnValue:
    """Ask for the e-mail address that a link is to be mailed to."""
    return _form()


@belongings.post("")
@open_to(Access.PUBLIC)
def create_link() -> ResponseReturnValue:
    """Mail the link, if anything is kept about the address. The answer does not tell."""
    arriving.take(admission.DATA_REQUESTS)
    try:
        kept.send_link(site(), request.form.get("email", ""))
    except kept.NoAddress as refused:
        return _form(refused=refused, written=request.form.get("email", "")), 422
    return redirect(paths.your_letters_asked(), 303)


@belongings.get("/asked")
@open_to(Access.PUBLIC)
def asked() -> ResponseReturnValue:
    """Say that a mail is on its way, if there is anything to see."""
    return render_template("your_letters_asked.html", minutes=_minutes(), most=kept.MOST_LINKS, days=kept.RARELY.days)


@belongings.get("/erased")
@open_to(Access.PUBLIC)
def erased() -> ResponseReturnValue:
    """Say that all is erased."""
    return render_template("your_letters_erased.html")


@belongings.get("/<token>")
@open_to(Access.AUTHOR)
def index(token: str) -> ResponseReturnValue:
    """List the letters of whoever was mailed the link."""
    return render_template("your_letters_list.html", found=kept.opened(site(), token), token=token, minutes=_minutes())


@belongings.post("/<token>/file")
@open_to(Access.AUTHOR)
def create_file(token: str) -> ResponseReturnValue:
    """Hand over all that is kept, as one file."""
    whole = json.dumps(kept.export_opened(site(), token), indent=2, ensure_ascii=False)
    response = Response(f"{whole}\n", mimetype="application/json")
    response.headers["Content-Disposition"] = 'attachment; filename="your-letters.json"'
    return response


@belongings.get("/<token>/erasure")
@open_to(Access.AUTHOR)
def erasure_form(token: str) -> ResponseReturnValue:
    """Ask once more before everything is erased."""
    return render_template("your_letters_erase.html", found=kept.opened(site(), token), token=token)


@belongings.post("/<token>/erasure")
@open_to(Access.AUTHOR)
def create_erasure(token: str) -> ResponseReturnValue:
    """Erase everything; the link ends with it."""
    kept.erase_opened(site(), token)
    return redirect(paths.your_letters_erased(), 303)


def _form(*, refused: Exception | None = None, written: str = "") -> str:
    return render_template("your_letters.html", refused=refused, written=written, minutes=_minutes())


def _minutes() -> int:
    return int(kept.LIFE.total_seconds() // 60)
