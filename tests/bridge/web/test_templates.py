"""The rules that templates and static files keep (SECURITY.md, B1 and B2), read from the files themselves."""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

ROOT = Path(__file__).parents[3]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
STATIC = sorted((ROOT / "bridge" / "static").iterdir())
ENVIRONMENT = Environment(autoescape=True, extensions=["jinja2.ext.i18n"])
# Names of vocabularies, which browsers never load.
IDENTIFIERS = ("https://schema.org/", "http://cv.iptc.org/newscodes/digitalsourcetype/")

pages = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))


class Tags(HTMLParser):
    """Collects a template's tags, with its Jinja taken out: each as its name, its attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(without_jinja(path.read_text()))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), self.get_starttag_text() or ""))


def without_jinja(text: str) -> str:
    """Return *text* with expressions as one harmless word and without statements and comments."""
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    return re.sub(r"\{\{.*?\}\}", "jinja", text, flags=re.DOTALL)


def calls_of(tree: ast.AST, name: str) -> Iterator[ast.expr]:
    """Yield where *tree* calls *name*, by itself or on a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if (isinstance(called, ast.Name) and called.id == name) or (
                isinstance(called, ast.Attribute) and called.attr == name
            ):
                yield called


@pages
def test_never_marks_words_as_safe(path: Path) -> None:
    tree = ENVIRONMENT.parse(path.read_text())
    assert not [f.name for f in tree.find_all(nodes.Filter) if f.name in {"safe", "forceescape"}]
    assert not list(tree.find_all((nodes.MarkSafe, nodes.EvalContextModifier, nodes.ScopedEvalContextModifier)))
    assert "autoescape" not in path.read_text()


def test_makes_markup_in_one_module_only() -> None:
    makers = {
        str(path.relative_to(ROOT))
        for folder in ("bridge", "workers", "moderation")
        for path in (ROOT / folder).rglob("*.py")
        if any(calls_of(ast.parse(path.read_text()), "Markup"))
    }
    assert makers <= {"bridge/text/markup.py"}
    assert makers  # Else this test looks for the wrong thing.


@pages
def test_tells_machines_only_what_is_written_as_json(path: Path) -> None:
    said = re.findall(r"<script[^>]*ld\+json[^>]*>(.*?)</script>", path.read_text(), flags=re.DOTALL)
    assert path.read_text().count("ld+json") == len(said)
    assert all(re.fullmatch(r"\{\{ [^{}]+\|tojson \}\}", each) for each in said)


@pages
def test_has_no_script_or_style_in_line(path: Path) -> None:
    for tag, attributes, text in Tags(path).found:
        # A mail brings its few styles along: nothing else may be loaded by it, and no policy of ours reaches it.
        assert tag != "style" or path.parent.name == "mail", text
        assert tag != "script" or attributes.get("src") or attributes.get("type") == "application/ld+json", text
        assert "style" not in attributes, text
        assert not [name for name in attributes if name.startswith("on")], text
        assert not [value for value in attributes.values() if value and value.lower().startswith("javascript:")], text


@pages
def test_quotes_every_attribute(path: Path) -> None:
    for _, _, text in Tags(path).found:
        assert not re.search(r"=\s*[^\s\"'>]", re.sub(r"\"[^\"]*\"|'[^']*'", "''", text)), text


@pages
def test_loads_and_links_nothing_elsewhere(path: Path) -> None:
    text = path.read_text()
    for identifier in IDENTIFIERS:
        text = re.sub(rf'(itemtype|content)="{re.escape(identifier)}[A-Za-z]+"', "", text)
    assert not re.search(r"https?://|[\"']//", text)


@pages
def test_gives_every_desk_form_its_token(path: Path) -> None:
    if path.parent.name != "desk":
        return
    forms = re.findall(r"<form\b[^>]*method=\"post\".*?</form>", path.read_text(), flags=re.DOTALL)
    for form in forms:
        assert 'name="csrf_token" value="{{ csrf_token() }}"' in form or "hidden_tag()" in form, form[:120]


@pages
def test_has_a_date_for_machines_in_every_time(path: Path) -> None:
    for tag, attributes, text in Tags(path).found:
        assert tag != "time" or attributes.get("datetime"), text


@pages
def test_shows_a_whole_page_or_begins_with_an_underscore(path: Path) -> None:
    whole = any(ENVIRONMENT.parse(path.read_text()).find_all(nodes.Extends))
    assert whole or path.name.startswith("_")


@pytest.mark.parametrize("path", [p for p in STATIC if p.suffix == ".js"], ids=lambda path: path.name)
def test_writes_no_html_from_modules(path: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function", path.read_text()
    )
    # On other people's pages there is no style sheet of ours.
    assert path.name == "embed.js" or not re.search(r"\.style\b", path.read_text())


@pytest.mark.parametrize("path", STATIC, ids=lambda path: path.name)
def test_keeps_static_files_to_this_site(path: Path) -> None:
    assert not re.search(r"https?://|@import|url\(", path.read_text().replace("http://www.w3.org/2000/svg", ""))
