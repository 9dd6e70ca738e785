"""The templates: what each of them may use, in a request and in a job alike.

What readers see is rendered in three places: while somebody asks for it, when a decision changes a stored page, and for
mail. So no template of theirs needs a request: addresses come from `paths`, and the language from `text.language`.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from bridge.page import metadata, paths
from bridge.page.assets import asset
from bridge.text import language, words

SITE_NAME = "Emeritus"
_HERE = Path(__file__).parents[1]
FOLDER = _HERE / "templates" if (_HERE / "templates").is_dir() else _HERE.parent / "templates"


def settle(environment: Environment) -> None:
    """Give an environment what templates use: filters, addresses, assets and the catalogues."""
    environment.undefined = StrictUndefined
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.add_extension("jinja2.ext.i18n")
    environment.install_gettext_callables(  # type: ignore[attr-defined]  # Of the extension.
        language.gettext,
        language.ngettext,
        newstyle=True,
        pgettext=language.pgettext,
        npgettext=language.npgettext,
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.filters.update(
        opening=words.opening,
        day=language.day,
        moment=language.moment,
        number=language.number,
        span=language.span,
        ago=ago,
        digest_groups=_groups,
    )
    environment.globals.update(
        site_name=SITE_NAME, paths=paths, asset=asset, tongue=language.tongue, worded=language.worded
    )
    environment.globals.update(
        article_of=metadata.article,
        letters_of=metadata.letters,
        gist_of=metadata.gist,
        label_of=metadata.label_of_essay,
        alternates=metadata.alternates,
    )


@cache
def standing_alone() -> Environment:
    """Return the environment for what is rendered where no request is. HTML is escaped, and plain text is not."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=select_autoescape(["html", "xml"], default_for_string=True)
    )
    settle(environment)
    return environment


@cache
def version() -> str:
    """Return one digest over every template and every catalogue, in hex."""
    whole = hashlib.sha256()
    for file in sorted([*FOLDER.rglob("*.html"), *FOLDER.rglob("*.txt"), *language.LOCALES.rglob("*.po")]):
        whole.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()


def ago(at: datetime) -> str:
    """Say how long ago something was, shortly, as the desk does: "5 h"."""
    seconds = max(0, int((datetime.now(UTC) - at).total_seconds()))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return "just now"


def _groups(digest: str) -> str:
    return " ".join(digest[i : i + 4] for i in range(0, len(digest), 4))
