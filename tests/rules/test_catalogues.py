"""The catalogues say everything that readers are told, whole and with the same facts in it.

`python tests/rules/test_catalogues.py` brings them up to date with the templates and the code; what is new in them is
empty until somebody has put it into words.
"""

import re
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.pofile import read_po, write_po

from bridge.settings import LANGUAGES
from bridge.text.language import ENGLISH, LOCALES
from moderation import errors, reasons

HOUSE = Path(__file__).parents[2]
OTHERS = [code for code in LANGUAGES if code != ENGLISH]
NOT_FOR_READERS = {"desk", "security"}
KEYWORDS = {**DEFAULT_KEYWORDS, "N_": None}
OPTIONS = {"extensions": "jinja2.ext.i18n", "trimmed": "true", "newstyle_gettext": "true", "silent": "false"}
_PLACE = re.compile(r"%\((\w+)\)s|\{(\w+)\}")
_TAG = re.compile(r"</?[a-z]+[^<>]*>")


def template() -> Catalog:
    """Return every message for readers that the templates and the code have."""
    catalogue = Catalog(project="Emeritus", charset="utf-8", header_comment="# Catalogue of Emeritus.")
    for file in sources():
        method = "python" if file.suffix == ".py" else "jinja2.ext:babel_extract"
        options = {} if file.suffix == ".py" else OPTIONS
        where = file.relative_to(HOUSE).as_posix()
        for _, message, comments, context in extract_from_file(
            method, file, keywords=KEYWORDS, comment_tags=("For translators:",), options=options
        ):
            catalogue.add(message, None, [(where, 0)], auto_comments=comments, context=context)
    for meaning in (*reasons.COMMENT_CODES.values(), *reasons.MODEL_CODES.values()):
        catalogue.add(meaning, None, [("moderation/reasons.py", 0)])
    for refusal in vars(errors).values():
        if isinstance(refusal, type) and "sentence" in vars(refusal):
            catalogue.add(refusal.sentence, None, [("moderation/errors.py", 0)])
    return catalogue


def sources() -> Iterator[Path]:
    """Yield each file that may say something to readers."""
    yield from sorted(HOUSE.glob("bridge/**/*.py"))
    for file in sorted([*HOUSE.glob("templates/**/*.html"), *HOUSE.glob("templates/**/*.txt")]):
        if not NOT_FOR_READERS & set(file.relative_to(HOUSE / "templates").parts[:-1]):
            yield file


def written(code: str) -> Catalog:
    """Return the catalogue of a language."""
    with (LOCALES / code / "LC_MESSAGES" / "emeritus.po").open("rb") as file:
        return read_po(file, locale=code)


def messages(catalogue: Catalog) -> dict[tuple[str, str], Message]:
    """Return the messages of a catalogue by context and by what they say in English."""
    return {(each.context or "", _first(each.id)): each for each in catalogue if each.id}


def _first(of: str | tuple[str, ...] | list[str]) -> str:
    return of if isinstance(of, str) else of[0]


def _all(of: str | tuple[str, ...] | list[str]) -> list[str]:
    return [of] if isinstance(of, str) else list(of)


@pytest.mark.parametrize("code", OTHERS)
def test_says_everything_that_readers_are_told_and_nothing_else(code: str) -> None:
    assert set(messages(written(code))) == set(messages(template()))


@pytest.mark.parametrize("code", OTHERS)
def test_leaves_nothing_unsaid_or_unsure(code: str) -> None:
    catalogue = written(code)
    unsaid = [each.id for each in messages(catalogue).values() if not all(_all(each.string)) or each.fuzzy]
    assert unsaid == []
    plurals = [each.id for each in messages(catalogue).values() if each.pluralizable]
    forms = {len(_all(each.string)) for each in messages(catalogue).values() if each.pluralizable}
    assert forms == {catalogue.num_plurals}, plurals


@pytest.mark.parametrize("code", OTHERS)
def test_keeps_facts_and_markup(code: str) -> None:
    """Every fact of the English stands in the other; a form for one or none may leave its number out."""
    wrong = []
    for each in messages(written(code)).values():
        english = _all(each.id)
        facts = {place for form in english for place in _PLACE.findall(form)}
        for form in _all(each.string):
            said = set(_PLACE.findall(form))
            if not said <= facts or (not each.pluralizable and said != facts):
                wrong.append((each.id, form))
            if sorted(_TAG.findall(form)) != sorted(_TAG.findall(english[-1])):
                wrong.append((each.id, form))
    assert wrong == []


@pytest.mark.parametrize("code", OTHERS)
def test_writes_no_direction_into_words(code: str) -> None:
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", (LOCALES / code / "LC_MESSAGES" / "emeritus.po").read_text())


def bring_up_to_date() -> None:
    """Write each catalogue anew: what is said stays, what nobody says any more goes, what is new is empty."""
    fresh = template()
    for code in OTHERS:
        file = LOCALES / code / "LC_MESSAGES" / "emeritus.po"
        before = messages(written(code)) if file.exists() else {}
        catalogue = Catalog(locale=code, project="Emeritus", charset="utf-8", header_comment="# Emeritus.", fuzzy=False)
        for each in fresh:
            if not each.id:
                continue
            known = before.get((each.context or "", _first(each.id)))
            string = known.string if known is not None and known.pluralizable == each.pluralizable else None
            where = sorted({(name, 0) for name, _ in each.locations})
            catalogue.add(each.id, string, where, auto_comments=each.auto_comments, context=each.context)
        file.parent.mkdir(parents=True, exist_ok=True)
        out = BytesIO()
        write_po(out, catalogue, width=0, no_location=False, include_lineno=False, sort_by_file=True)
        told = ("Language:", "Plural-Forms", "MIME-Version", "Content-T")
        kept = [
            line
            for line in out.getvalue().decode().splitlines()
            if not re.match(r'"[A-Z][A-Za-z-]+: .*\\n"$', line) or line[1:].startswith(told)
        ]
        file.write_text("\n".join(kept) + "\n")


if __name__ == "__main__":
    bring_up_to_date()
    for code in OTHERS:
        all_of_them = messages(written(code))
        unsaid = [each for each in all_of_them.values() if not all(_all(each.string))]
        sys.stdout.write(f"{code}: {len(all_of_them)} messages, {len(unsaid)} of them unsaid\n")
