"""The catalogues say everything that readers are told, whole and with the same facts in it.

`python tests/rules/test_catalogues.py` brings them up to date with the templates and the code; what is new in them is
empty until somebody has put it into words.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Collection, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from babel.messages import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.pofile import read_po, write_po
from werkzeug.exceptions import default_exceptions

from bridge import web
from bridge.settings import LANGUAGES
from bridge.text.language import ENGLISH, LOCALES
from bridge.web import access, problems
from bridge.web.access import Access
from moderation import errors, reasons

HOUSE = Path(__file__).parents[2]
OTHERS = [code for code in LANGUAGES if code != ENGLISH]
NOT_FOR_READERS = {"desk", "security"}
KEYWORDS = {**DEFAULT_KEYWORDS, "N_": None}
OPTIONS = {"extensions": "jinja2.ext.i18n", "trimmed": "true", "newstyle_gettext": "true", "silent": "false"}
_PLACE = re.compile(r"%\((\w+)\)s|\{(\w+)\}")
_TAG = re.compile(r"</?[a-z]+[^<>]*>")
_SENTENCE = re.compile(r"[A-Z%{].* .*[.?!]")
FOR_PROGRAMS = {"bridge.web.api", "bridge.web.mentions"}
TO_OTHERS = {
    *("_admit_sign_in", "_admit_moderator", "_admit_bearer", "_admit_json", "_stale_form"),
    *("invalid", "CountsQuery"),
}
"""What speaks to moderators, or to programs, in modules that speak to readers too."""
IN_ENGLISH = {
    "bridge.answer.calls.NoSuchCall",
    "bridge.desk.keeping.WhyTooLong",
    "bridge.desk.reviews.NotALetter",
    "bridge.letter.comments.KeyTooWeak",
    "bridge.letter.comments.KeyUsedForOtherWords",
    "bridge.letter.comments.SecretRefused",
    "bridge.letter.reports.ReportClosed",
    "bridge.text.words.NoTitle",
    "bridge.voice.budgets.BudgetRefused",
    "bridge.voice.voices.CharterChanged",
    "bridge.voice.voices.WayRefused",
    "bridge.web.letters.NoVerdict",
    "bridge.web.letters.ReasonToApprove",
    "moderation.errors.AdminNeeded",
    "moderation.errors.AlreadyDecided",
    "moderation.errors.AnotherModeratorNeeded",
    "moderation.errors.NoLongerPending",
    "moderation.errors.NoOpenProposal",
    "moderation.errors.NoSuchSubmission",
    "moderation.errors.NotReleased",
    "moderation.errors.NotTheWordsStored",
    "moderation.errors.NothingToReread",
    "moderation.errors.ReasonTooLong",
    "moderation.errors.ReasonTooShort",
    "moderation.errors.SecondModeratorNeeded",
    "moderation.errors.UnknownModerator",
    "moderation.errors.UnknownReasonCode",
    "moderation.moderators.NameTaken",
}
"""The refusals that only moderators, operators and programs are shown."""


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


def readers_modules() -> list[ModuleType]:
    """Return the modules with a view that is open to readers, and the two that every request of theirs goes through."""
    names = {f"bridge.web.{each.name}" for each in pkgutil.iter_modules(web.__path__)} - FOR_PROGRAMS
    modules = [importlib.import_module(name) for name in sorted(names)]
    return [access, problems, *(each for each in modules if _is_open_to_readers(each))]


def _is_open_to_readers(module: ModuleType) -> bool:
    views = [each for each in vars(module).values() if type(each) is FunctionType]
    return any(getattr(view, "access", None) in {Access.PUBLIC, Access.AUTHOR} for view in views)


def refusals() -> set[type[Exception]]:
    """Return the refusals that have a page, and those that the readers' modules answer themselves; with their kinds."""
    found = set(problems._STATUS)
    for module in readers_modules():
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                caught = eval(ast.unparse(node.type), dict(vars(module)))
                found |= set(caught if isinstance(caught, tuple) else [caught])
    kinds = list(found)
    for each in kinds:
        kinds += each.__subclasses__()
    return {each for each in kinds if each.__module__.split(".")[0] in {"bridge", "moderation"}}


def sentences(source: str, *, besides: Collection[str] = ()) -> set[str]:
    """Return what reads like a sentence in *source*, docstrings and what is named in *besides* left out."""

    def texts(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in besides:
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if isinstance(node, ast.JoinedStr):
            # No catalogue has what is put together like this, and the test says so.
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        else:
            for part in ast.iter_child_nodes(node):
                yield from texts(part)

    return {text for text in texts(ast.parse(textwrap.dedent(source))) if _SENTENCE.fullmatch(text)}


@cache
def told() -> set[str]:
    """Return what the catalogues say."""
    return {english for _, english in messages(template())}


def test_says_every_refusal_that_readers_meet() -> None:
    """A refusal is a reader's unless it is listed as somebody else's."""
    untold = {
        f"{each.__module__}.{each.__name__}" for each in refusals() if sentences(inspect.getsource(each)) - told()
    }
    assert untold == IN_ENGLISH


def test_says_everything_else_that_the_readers_modules_answer() -> None:
    untold = [
        (module.__name__, sentence)
        for module in readers_modules()
        for sentence in sentences(inspect.getsource(module), besides=TO_OTHERS) - told()
    ]
    assert untold == []


def test_says_every_status() -> None:
    assert {problems.sentence_for(status) for status in default_exceptions} <= told()


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
