"""What people are shown: nothing that acts, nothing hidden, in bounded time (SECURITY.md, section 1)."""

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from itertools import count, product
from types import FrameType
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

import html5lib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.text import markup

KINDS: tuple[markup.Kind, ...] = ("comment", "reply", "essay")
EXAMPLES = settings(derandomize=True, deadline=None, max_examples=150)

ALLOWED = {"p", "br", "em", "strong", "a", "ul", "ol", "li", "blockquote", "code", "pre", "hr"}
ALLOWED_IN_ESSAYS = ALLOWED | {"h2", "h3", "h4"}


def parsed(html: str) -> Element:
    fragment: Element = html5lib.parseFragment(html, treebuilder="etree", namespaceHTMLElements=False)
    return fragment


def visible(html: str) -> str:
    return "".join(parsed(html).itertext())


def hrefs(html: str) -> list[str]:
    return [href for link in parsed(html).iter("a") if (href := link.get("href")) is not None]


def outside_the_allow_list(html: str, kind: markup.Kind) -> list[str]:
    """Return what a parser that is neither of ours finds in *html* beside what SECURITY.md's T7 and T8 allow."""
    tags = ALLOWED_IN_ESSAYS if kind == "essay" else ALLOWED
    found: list[str] = []
    for element in list(parsed(html).iter())[1:]:
        name = str(element.tag)
        if name not in tags:
            found.append(name)
        for attribute, value in element.attrib.items():
            if (name, attribute) == ("a", "href"):
                parts = urlsplit(value)
                web = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
                mail = parts.scheme == "mailto" and "@" in parts.path and not parts.query
                if not (web or mail) or not value.isascii() or "\\" in parts.netloc:
                    found.append(f"href={value}")
            elif (name, attribute) == ("a", "rel"):
                found.extend({"nofollow", "ugc", "noopener"} ^ set(value.split()))
            elif (name, attribute) != ("ol", "start") or not value.isdigit():
                found.append(f"{name} {attribute}={value}")
        if name == "a" and element.get("href") is not None and element.get("rel") is None:
            found.append("a link without rel")
    return found


# --- T7: nothing acts -------------------------------------------------------------------------------------------------

TAGS = ["script", "img", "svg", "math", "style", "iframe", "a", "p", "details", "textarea", "svg><style", "math><mtext"]
EVENTS = [
    "onerror=alert(1)",
    'onload="alert(1)"',
    "onfocus='alert(1)' autofocus",
    "href=javascript:alert(1)",
    'src="x" style="a:b"',
]
SHELLS = [
    "<{tag} {event}>x</{tag}>",
    "<{tag}/{event}//",
    "<{tag}\n{event} \n>",
    "&lt;{tag} {event}&gt;",
    "&#60;{tag} {event}&#x3e;x",
]
WRAPPERS = [
    "{}",
    "> {}",
    "- {}",
    "`{}`",
    "```{}\n```",
    "[{}](http://h.example)",
    "[a](http://h.example/{})",
    "[a](<{}>)",
    "[a](http://h.example '{}')",
    "<http://h.example/{}>",
    "![{}](http://h.example)",
    "# {}",
    "**{}",
]
SCHEMES = [
    "javascript:",
    "JaVaScRiPt:",
    "java\tscript:",
    "&#106;avascript:",
    "javascript&colon;",
    "vbscript:",
    "data:text/html,",
]

HOSTILE = [
    WRAPPERS[number % len(WRAPPERS)].format(shell.format(tag=tag, event=event))
    for number, (tag, event, shell) in enumerate(product(TAGS, EVENTS, SHELLS))
] + [
    link.format(scheme + "alert(1)//" + ending)
    for scheme, ending, link in product(
        SCHEMES,
        ["", "http://h.example"],
        ["[a]({})", "[a](<{}>)", "<{}>", "![a]({})", '<a href="{}">a</a>', "[a]: {}\n\n[a]"],
    )
]


def test_has_hundreds_of_hostile_payloads() -> None:
    assert len(set(HOSTILE)) > 300


@pytest.mark.parametrize("kind", KINDS)
def test_lets_no_hostile_payload_act(kind: markup.Kind) -> None:
    for payload in HOSTILE:
        html = markup.render(payload, kind)
        assert outside_the_allow_list(html, kind) == [], payload
        assert markup.sanitised(html, kind) == html, payload


def test_leaves_nothing_active_in_raw_html_either() -> None:
    for payload in HOSTILE:
        html = markup.sanitised(payload, "comment")
        assert outside_the_allow_list(html, "comment") == [], payload
        assert markup.sanitised(html, "comment") == html, payload


@pytest.mark.parametrize("kind", KINDS)
def test_has_one_allow_list_in_both_sanitisers(kind: markup.Kind) -> None:
    forbidden = [
        '<p title="a" lang="b" class="c" id="d">',
        '<ol start="1e9">',
        '<a href="x" target="_blank" title="a">',
    ]
    for payload in HOSTILE + forbidden:
        # nh3 has the last word, so it stands on its own; bleach leaves addresses to it, and does not write `rel`.
        assert outside_the_allow_list(markup._last_word(payload, kind), kind) == [], payload
        for element in list(parsed(markup._bleach(kind).clean(payload)).iter())[1:]:
            assert element.tag in markup._tags(kind), payload
            assert set(element.attrib) <= markup.ATTRIBUTES.get(str(element.tag), frozenset()), payload


pieces = st.one_of(
    st.sampled_from(HOSTILE),
    st.sampled_from(
        ["\n", "\n\n", " ", "    ", "> ", "- ", "1. ", "# ", "```\n", "`", "*", "**", "[", "](", ")", "<", ">"]
    ),
    st.sampled_from(
        ['"', "'", "&", "&quot;", "&#x202e;", "\\", "<!--", "-->", "<![CDATA[", "]]>", "</p>", "</a>", "\u202e", "\x00"]
    ),
    st.sampled_from(
        ["http://h.example/", "//h.example", "mailto:a@h.example", "javascript:1", "<a@h.example>", "xlink:href="]
    ),
    st.text(max_size=6),
)


@EXAMPLES
@given(st.lists(pieces, max_size=12).map("".join), st.sampled_from(KINDS), st.booleans())
def test_is_a_fixed_point_within_the_allow_list(body: str, kind: markup.Kind, targets: bool) -> None:
    html = markup.render(body, kind, targets=targets)
    assert outside_the_allow_list(html, kind) == []
    assert markup.sanitised(html, kind) == html


@EXAMPLES
@given(st.lists(pieces, max_size=12).map("".join), st.sampled_from(KINDS))
def test_grows_at_most_eightfold(body: str, kind: markup.Kind) -> None:
    assert len(markup.render(body, kind)) <= 8 * len(body) + markup.GROWTH_SLACK


def test_has_headings_in_essays_alone() -> None:
    body = "# One\n\n## Two\n\n### Three\n\n##### Five"
    assert markup.render(body, "essay") == "<h2>One</h2>\n<h2>Two</h2>\n<h3>Three</h3>\n<h4>Five</h4>\n"
    assert markup.render("# One", "comment") == "<p><strong>One</strong></p>\n"
    assert markup.render("#", "essay") == "<p></p>\n"


@pytest.mark.parametrize("kind", ["comment", "reply"])
def test_keeps_the_lines_of_letters_and_answers_and_joins_those_of_essays(kind: markup.Kind) -> None:
    body = "Roses are red\nviolets are blue\n\n> Yours,\n> Ann"
    assert markup.render(body, kind) == (
        "<p>Roses are red<br>\nviolets are blue</p>\n<blockquote>\n<p>Yours,<br>\nAnn</p>\n</blockquote>\n"
    )
    assert markup.render(body, "essay").startswith("<p>Roses are red\nviolets are blue</p>")


def test_shows_the_marks_that_are_supported() -> None:
    body = "*a* **b** `c`\n\n> d\n\n- e\n- f\n\n3. g\n\n***\n\n    h\n\ni\\\nj"
    assert markup.render(body, "comment") == (
        "<p><em>a</em> <strong>b</strong> <code>c</code></p>\n<blockquote>\n<p>d</p>\n</blockquote>\n"
        '<ul>\n<li>e</li>\n<li>f</li>\n</ul>\n<ol start="3">\n<li>g</li>\n</ol>\n<hr>\n'
        "<pre><code>h\n</code></pre>\n<p>i<br>\nj</p>\n"
    )


def test_renders_in_many_threads_as_in_one() -> None:
    bodies = [f"> - **{n}** [l{n}](http://h{n}.example/) `c`\n" * 20 for n in range(64)]
    alone = [markup.render(body, "comment") for body in bodies]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda body: markup.render(body, "comment"), bodies)) == alone


def test_names_the_libraries_in_the_pipeline_version() -> None:
    for library in ("markdown-it-py", "bleach", "nh3"):
        assert version(library) in markup.PIPELINE.split("-")


# --- T2: nothing hidden -----------------------------------------------------------------------------------------------

INLINE = [
    "§",
    "*§*",
    "**§ *§***",
    "`§`",
    "[§](http://§.example/§)",
    "[§](http://h.example '§ §')",
    '[](http://h.example/§ "§")',
    "[ ](http://h.example/§)",
    "[\u200b](http://h.example/§)",
    "[`` ` ``](http://h.example/§)",
    "[§](<http://h.example/§ (§)>)",
    "[§][§]",
    "[§]: http://h.example/§ '§'",
    "[§]:\nhttp://h.example/§",
    "![§](http://h.example/§)",
    "![](http://h.example/§ '§')",
    "<http://§.example/§?§=§#§>",
    "<§@§.example>",
    "[§ <http://§.example/§> §](http://§.example/§ '§')",
    "[§ [§](http://§.example) §](http://§.example)",
    "[§](javascript:§)",
    "[§](http://h.example '&#xe0041;§')",
    "&§;",
    "&#§;",
    "<§ §='§'>§</§>",
    "<!-- § -->",
    "<?§?>",
    "\\§",
    "§\u200d§",
    "§\U000e0041§",
    "*§ **§* §**",
    "https://§.example/§",
    "§  ",
    "§\\",
]
BEFORE = [
    "",
    "> ",
    ">",
    "- ",
    "1. ",
    "847) ",
    "    ",
    "\t",
    "# ",
    "###### ",
    "```§ §\n",
    "``` ",
    "~~~§\n",
    "~~~",
    "\n",
    "---\n",
    "===\n",
    "<div>\n",
    "  * ",
    "> > - ",
    "> " * 13,
    "> " * 24,
    "- " * 11,
    "> - 1) " * 5,
]


def filled(shape: str) -> str:
    numbers = count()
    return re.sub("§", lambda _: f"w{next(numbers):03}q", shape)


lines = st.tuples(st.sampled_from(BEFORE), st.lists(st.sampled_from(INLINE), max_size=3)).map(
    lambda line: line[0] + " ".join(line[1])
)
bodies = st.lists(lines, min_size=1, max_size=8).map("\n".join).map(filled)


@settings(EXAMPLES, max_examples=300)
@given(bodies, st.sampled_from(KINDS))
def test_shows_each_word_that_is_sent(body: str, kind: markup.Kind) -> None:
    words = set(re.findall(r"w\d{3}q", body))
    at_the_desk = visible(markup.render(body, kind, targets=True))
    assert words <= set(re.findall(r"w\d{3}q", at_the_desk))
    html = markup.render(body, kind)
    # Elsewhere the target of a link that has a text of its own is where links are followed to.
    assert words <= set(re.findall(r"w\d{3}q", visible(html) + " ".join(hrefs(html))))


@settings(EXAMPLES, max_examples=300)
@given(st.text("ab *_`[]()<>!#-+\n\\&;\"'~:/.1=\t>", max_size=60))
def test_shows_all_letters_of_any_markdown(body: str) -> None:
    shown = visible(markup.render(body, "reply"))
    assert all(run in shown for run in re.findall("[ab]+", body))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("[a]: http://h.example/hidden\n", "[a]: http://h.example/hidden"),
        ("```hidden words\ncode\n```", "hidden words\ncode"),
        ("[a](http://h.example 'hidden')", "a (hidden)"),
        ("[a](http://h.example '&#xe0041;&quot;')", "a (&#xe0041;&quot;)"),
        ("[](http://h.example/hidden)", "http://h.example/hidden"),
        ("&#x202e;hidden&zwnj;", "&#x202e;hidden&zwnj;"),
        ("1. a\n2. b\n847. c\n4. d", "a\nb\n847. c\nd"),
        ("1. a\n1. b\n1. c", "a\nb\nc"),
        ("5. a\n6. b\n7. c", "a\nb\nc"),
        ("0. a\n1. b", "a\nb"),
        ("hid\u200bd\U000e0041e\u00adn\ufe0f", "hidden"),
    ],
)
def test_writes_out_what_commonmark_hides(body: str, shown: str) -> None:
    assert visible(markup.render(body, "reply")).strip() == shown


@pytest.mark.parametrize("nest", ["> " * 20, "- " * 10, "> - " * 7, "1. " * 10])
def test_shows_words_nested_too_deeply_for_the_parser_as_written(nest: str) -> None:
    for kind in KINDS:
        assert markup.render(f"{nest}hidden <b>", kind) == f"<pre><code>{nest}hidden &lt;b&gt;</code></pre>\n".replace(
            "> ", "&gt; "
        )


def test_keeps_the_deepest_nesting_that_it_can_show() -> None:
    html = markup.render("> " * 19 + "shown", "reply")
    assert html.count("<blockquote>") == 19
    assert "shown" in visible(html)


def test_bounds_emphasis_within_emphasis() -> None:
    html = markup.render("*" * 201 + "shown" + "*" * 201, "reply")
    assert html.count("<strong>") + html.count("<em>") == markup.MAX_EMPHASIS
    assert visible(html).strip() == "shown"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\u202eb\u2066c\u2069", "abc"),  # T3
        ("a\u200eb\u061cc\u200fd", "abcd"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("ක\u0dca\u200dෂ", "ක\u0dca\u200dෂ"),
        ("👩\u200d❤\ufe0f\u200d👩", "👩\u200d❤\ufe0f\u200d👩"),
        ("👩🏽\u200d🚀", "👩🏽\u200d🚀"),
        ("1\ufe0f\u20e3", "1\ufe0f\u20e3"),
        ("a\u200d \u200cb\u200d", "a b"),
        ("a\u200d\u200db", "ab"),
        ("a\ufe0f\u200d🚀", "a🚀"),
        ("1\ufe0f2", "12"),
        ("\ufe0f\u20e3", "\u20e3"),
        ("\ufeffa\u3164b\u115f\uffa0c\ufffe\ufdd0\U0001ffff", "abc"),
        ("a\x08\x0bb\x7f\x85c\u2028\u2029d\r\ne\rf\tg", "abcd\ne\nf\tg"),
        ("a\ud800b", "ab"),
    ],
)
def test_takes_out_what_is_not_seen(text: str, left: str) -> None:
    assert markup.without_unseen(text) == left


@EXAMPLES
@given(st.text(st.sampled_from("a1 🚀❤é\u0301\u200b\u200c\u200d\ufe0e\ufe0f\u20e3\u202e\U0001f3fd=\u0338\r\n")))
def test_takes_out_nothing_the_second_time(text: str) -> None:
    once = markup.without_unseen(text)
    assert markup.without_unseen(once) == once


@pytest.mark.parametrize(
    "text", ["", " \u00a0\u3000\n", "\u2800", "\u200b\u3164", "\u0301", "\u2028", "\U0001d159", "\x00"]
)
def test_tells_what_leaves_no_mark(text: str) -> None:
    assert not markup.shows_something(text)
    assert markup.shows_something(text + "a")


# --- T8: links --------------------------------------------------------------------------------------------------------

GOOD = [
    "http://h.example",
    "https://h.example/",
    "https://h.example:8443/a/b?c=d&e=%20#f",
    "https://sub_domain.h-h.example/%5C",
    "http://127.0.0.1/a",
    "https://h.example/(a)",
    "https://h.example?q=@",
    "mailto:reader@h.example",
    "mailto:a.b+c@mail.h.example",
]
BAD = [
    "javascript:alert(1)",
    "javascript:123",
    "javascript://h.example/%0aalert(1)",
    "vbscript:x",
    "data:text/html,x",
    "file:///etc/passwd",
    "ftp://h.example",
    "tel:123",
    "//evil.example",
    "/desk/x",
    "desk",
    "#a",
    "?a",
    "https:evil.example",
    "http:/desk/x",
    "https:///evil.example",
    "http:\\\\evil.example",
    "https://",
    "https://user@h.example",
    "https://user:secret@h.example",
    "https://h.example\\@evil.example",
    "https://h.example%5C@evil.example",
    "https://h.example%5Cevil.example/",
    "https://h.example%2eevil.example",
    "https://h..example",
    "https://-h.example",
    "https://h.example:port/",
    "https://[::1]/",
    "https://" + "a." * 200 + "example",
    "mailto:a@h.example?bcc=b@h.example",
    "mailto:a@h.example,b@h.example",
    "mailto:a@h.example%0abcc:b@h.example",
    "mailto:",
    "mailto:a",
    "xhttps://h.example",
]


@pytest.mark.parametrize("address", GOOD)
def test_links_to_a_good_address(address: str) -> None:
    assert markup.is_address(address)
    for body in (f"[a]({address})", f"[a](<{address}>)"):
        html = markup.render(body, "comment")
        assert hrefs(html) == [address]
        assert ' rel="nofollow ugc noopener"' in html


@pytest.mark.parametrize("address", BAD)
def test_does_not_link_to_a_bad_address(address: str) -> None:
    assert not markup.is_address(address)
    for body in (f"[a]({address})", f"[a](<{address}>)", f"<{address}>"):
        html = markup.render(body, "reply")
        assert hrefs(html) == []
        assert address.replace("\\", "") in visible(html).replace("\\", "")


@pytest.mark.parametrize("address", BAD)
def test_takes_a_bad_address_out_at_the_end_as_well(address: str) -> None:
    for written in (address, address.upper(), " " + address, address.replace(":", "&#58;")):
        assert hrefs(markup.sanitised(f'<a href="{written}">a</a>', "essay")) == []


def test_shows_hosts_as_punycode() -> None:
    for body in ("<https://аррӏе.example/путь>", "<HTTPS://XN--80AK6AA92E.example/путь>"):
        html = markup.render(body, "comment")
        assert hrefs(html) == ["https://xn--80ak6aa92e.example/%D0%BF%D1%83%D1%82%D1%8C"]
        assert visible(html).strip() == "https://xn--80ak6aa92e.example/путь"
    assert hrefs(markup.render("[a](http://ｈ。example)", "comment")) == ["http://h.example"]


def test_lets_an_inner_link_win_and_says_where_the_outer_one_led() -> None:
    html = markup.render("[a <http://in.example> b](http://out.example)", "comment")
    assert hrefs(html) == ["http://in.example"]
    assert visible(html).strip() == "a http://in.example b (http://out.example)"


def test_spells_targets_out_where_the_text_is_another() -> None:
    body = "[a](http://h.example/) <http://h.example> <a@h.example> [http://h.example](http://evil.example)"
    assert visible(markup.render(body, "comment", targets=True)).strip() == (
        "a (http://h.example/) http://h.example a@h.example http://h.example (http://evil.example)"
    )


def test_lists_the_addresses_in_the_words() -> None:
    body = "[a](http://one.example) https://two.example/x `http://three.example`\n\n    http://four.example\n\n[b](javascript:x)"
    assert markup.links(body) == [
        "http://one.example",
        "https://two.example/x",
        "http://three.example",
        "http://four.example",
    ]
    assert markup.links("[http://a.example](http://b.example)") == ["http://b.example"]


def test_tells_which_links_name_another_host() -> None:
    body = (
        "[h.example](http://evil.example) [see](http://evil.example) [h.example](http://www.h.example/x) "
        "[go to H.example!](https://h.example) [аррӏе.example](http://xn--80ak6aa92e.example)"
    )
    assert markup.misleading_links(body) == [("h.example", "http://evil.example")]


# --- T6: linear time --------------------------------------------------------------------------------------------------


def repeat(unit: str) -> Callable[[int], str]:
    return lambda length: (unit * (length // len(unit) + 1))[:length]


SLOW: dict[str, Callable[[int], str]] = {
    "one reference, many uses": lambda n: "[a]: " + "u" * (n // 2) + "\n\n" + "[a]" * (n // 6),
    "opening brackets": repeat("["),
    "brackets within brackets": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "images": repeat("!["),
    "links left open": repeat("[a]("),
    "targets left open": repeat("[a](<b"),
    "titles left open": repeat('[a](b "c'),
    "links": repeat("[a](http://b.example) "),
    "links without text": repeat("[](http://b.example)"),
    "links within links": lambda n: "[" * (n // 32) + "a" + "](http://b.example)" * (n // 20),
    "automatic links": repeat("<http://a>"),
    "automatic links within links": repeat("[<http://a.example>](http://b.example)"),
    "mail addresses": repeat("<a@b.example>"),
    "angle brackets": repeat("<"),
    "tags": repeat("<ul><li>"),
    "emphasis left open": repeat("*a "),
    "emphasis of two kinds": repeat("*a_ "),
    "strong left open": repeat("a**b"),
    "emphasis within emphasis": lambda n: "*a " * (n // 6) + "a* " * (n // 6),
    "strong within strong": lambda n: "*" * (n // 2) + "a" + "*" * (n // 2),
    "runs of three": repeat("a***b* c"),
    "backticks": repeat("` "),
    "longer and longer runs of backticks": lambda n: "".join("a" + "`" * i for i in range(1, int((2 * n) ** 0.5))),
    "quotations within quotations": repeat(">"),
    "deep quotations": repeat("> " * 19 + "a\n"),
    "a lazy quotation": lambda n: "> " * 9 + "a\n" * (n // 2),
    "many quotations": repeat("> a\n\n"),
    "lists within lists": repeat("- "),
    "lists in stairs": repeat("".join("  " * i + "- a\n" for i in range(9))),
    "a lazy list": lambda n: "- " * 9 + "a\n" * (n // 2),
    "empty items": repeat("-\n"),
    "loose items": repeat("- a\n\n  b\n"),
    "numbers out of order": repeat("1. a\n9. b\n"),
    "lines": repeat("a\n"),
    "underlined headings": repeat("a\n=\n"),
    "headings": repeat("# a\n"),
    "fences": repeat("```\n"),
    "named fences": repeat("```a\nb\n```\n"),
    "fences in quotations": repeat("> ```\n"),
    "ampersands": repeat("&"),
    "quotation marks": repeat('"'),
    "backslashes": repeat("\\*"),
    "hard breaks": repeat("a\\\n"),
    "joiners": repeat("a\u200d"),
    "hosts": lambda n: "[x](http://" + "a." * (n // 2) + "b)",
    "foreign hosts": lambda n: "[x](http://" + "я" * n + ".example)",
    "colons": lambda n: "[x](http://a" + ":1" * (n // 2) + ")",
    "words that look like hosts": lambda n: "[" + "a." * (n // 2) + "](http://b.example)",
}


def calls(of: Callable[[], object]) -> int:
    """Return how many functions *of* calls, those written in C included."""
    number = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal number
        number += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        of()
    finally:
        sys.setprofile(before)
    return number


def shown_and_counted(body: str) -> None:
    markup.render(body, "reply")
    markup.links(body)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SLOW)
def test_takes_twice_as_long_for_twice_as_much(shape: str) -> None:
    half, whole = (calls(partial(shown_and_counted, SLOW[shape](length))) for length in (2_500, 5_000))
    assert whole <= 2.5 * half


def test_gives_bleach_short_pieces() -> None:
    # Not seen by counting calls: bleach looks each element up among its siblings, in C.
    pieces = list(markup._pieces(["<p>a</p>\n"] * 10_000))
    assert "".join(pieces) == "<p>a</p>\n" * 10_000
    assert max(map(len, pieces)) < markup.PIECE + 10


def test_shows_a_block_of_very_many_tags_as_written() -> None:
    many = "- *a*\n" * 2_000
    assert markup.render(many, "essay") == f"<pre><code>{many}</code></pre>\n"
    assert markup.render("*a*\n\n" * 2_000, "essay") == "<p><em>a</em></p>\n" * 2_000


def test_shows_words_as_written_whose_html_would_grow_too_long() -> None:
    body = "<a@b.c>" * 200
    assert visible(markup.render(body, "reply")).strip() == body
    assert hrefs(markup.render(body, "reply")) == []
    assert hrefs(markup.render("<a@b.c>", "reply")) == ["mailto:a@b.c"]


def test_measures_nesting_in_the_levels_of_the_parser() -> None:
    measured = [
        markup.nesting(body) for body in ("a", "> a", "- a", "> > - a", "- " * 6 + "a", "> " * 12 + "a", "*" * 99)
    ]
    assert measured == [0, 1, 2, 4, 12, 12, 0]
    assert markup.nesting("> " * 5_000) >= markup.MAX_NESTING
    # Bars and code are no lists.
    assert markup.nesting("- " * 40) == 0
    assert markup.nesting("```\n" + "> " * 40 + "\n```") == 0


def test_says_the_words_without_the_marks() -> None:
    body = "# A *b*\n\n> c [d](http://h.example 'e')\n> f\n\n- `g`\n\n```h\ni\n```\n\n[](http://h.example)"
    assert markup.plain(body) == "A b\nc d\nf\ng\ni\nhttp://h.example"
