"""Where the links in readers' mail lead: each shows a button, and only that acts (SECURITY, R1 and R3)."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template
from flask.typing import ResponseReturnValue

from bridge.mail import correspondents, links
from bridge.page import paths
from bridge.web.access import Access, open_to, site

mail = Blueprint("mail", __name__, url_prefix="/mail")


@mail.get("/confirm/<token>")
@open_to(Access.AUTHOR)
def confirm_form(token: str) -> ResponseReturnValue:
    """Ask the owner of an address whether it is theirs; once they said so, say that it is noted."""
    opened = correspondents.opened(site(), token, links.CONFIRM)
    return render_template("mail_confirm.html", opened=opened)


@mail.post("/confirm/<token>")
@open_to(Access.AUTHOR)
def create_confirmation(token: str) -> ResponseReturnValue:
    """Tell the owner of an address of their letters from now on."""
    correspondents.confirm(site(), token)
    return redirect(paths.confirm_mail(token), 303)


@mail.get("/stop/<token>")
@open_to(Access.AUTHOR)
def stop_form(token: str) -> ResponseReturnValue:
    """Ask whether mail to an address is to end."""
    return render_template("mail_stop.html", opened=correspondents.opened(site(), token, links.STOP))


@mail.post("/stop/<token>")
@open_to(Access.AUTHOR)
def create_stop(token: str) -> ResponseReturnValue:
    """End all mail to an address.

    Mail programs post here by themselves, without a cookie or an Origin, and follow no redirect (RFC 8058).
    """
    correspondents.stop(site(), token)
    return render_template("mail_stop.html", opened=correspondents.opened(site(), token, links.STOP))
