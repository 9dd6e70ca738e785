"""HTML from elsewhere as Markdown: no word is lost or added, and nothing of it can act."""

from html import escape

import pytest
from ground.house import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.text import foreign, markup

BASE = "https://blog.example/posts/one"


def markdown(html: str) -> str:
    return foreign.from_html(html, BASE).markdown


def seen(html: str) -> str:
    """Return what a browser shows, without white space."""
    return "".join(markup.without_unseen("".join(tree(html).itertext())).split())


@pytest.mark.parametrize(
    ("html", "written"),
    [
        ("<p>One <em>two</em> <b>three</b>.</p><p>Four", "One *two* **three**.\n\nFour"),
        ("<p>a<em> b </em>c</p>", "a *b* c"),
        ("<em>a</em><em>b</em>", r"a" + "b"),
        ("<h1>A</h1><h3>B <i>c</i></h3><h6>D</h6>", "## A\n\n### B *c*\n\n#### D"),
        ("one<br>two<br><br>three", "one\\\ntwo\n\nthree"),
        ("<ul><li>a<li>b <ul><li>c</ul></ul>", "- a\n\n- b\n\n  - c"),
        ('<ol start="3"><li>a<li>b</ol><ol><li>c</ol>', "3. a\n4. b\n\n1) c"),
        ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
        ("<pre><code>x = 1\n  y\n</code></pre>", "```\nx = 1\n  y\n```"),
        ("<pre>```</pre>", "````\n```\n````"),
        ("<code>a`b</code><hr>", "``a`b``\n\n---"),
        ('<a href="/x">words</a>', "[words](https://blog.example/x)"),
        ('<a href="#fn">1</a>', f"[1]({BASE}#fn)"),
        ('<a href="https://w.example/a_(b)">w</a>', "[w](https://w.example/a_%28b%29)"),
        ('<img src="cat.png" alt="A cat">', "[A cat](https://blog.example/posts/cat.png)"),
        ('<a href="/big"><img src="cat.png" alt="A cat"></a>', "[A cat](https://blog.example/big)"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a | b\\\n1 | 2"),
        ("<dl><dt>a</dt><dd>b</dd></dl>", "a\n\nb"),
        ("<q>said</q>", "“said”"),
        ("<div>a<p>b</p>c</div>", "a\n\nb\n\nc"),
        ("2 * 3 * 4, snake_case and [1]", "2 * 3 * 4, snake_case and [1]"),
        ("<p>*not emphasis*</p>", r"\*not emphasis\*"),
        ("<p># no title</p><p>1. no list</p>", "\\# no title\n\n1\\. no list"),
        ("<p>&lt;b&gt; &amp;amp;</p>", "<b> &amp;"),
    ],
)
def test_writes_what_a_person_would(html: str, written: str) -> None:
    assert markdown(html) == written


@pytest.mark.parametrize(
    "html",
    [
        "<script>canary</script>",
        "<style>canary</style>",
        "<svg><title>canary</title></svg>",
        "<iframe>canary</iframe>",
        "<noscript>canary</noscript>",
        "<textarea>canary</textarea>",
        "<!-- canary -->",
        "<p title='canary' onclick='canary' style='canary' class='canary'></p>",
        '<a href="javascript:canary">x</a>',
        '<a href="jav&#x09;ascript:canary">x</a>',
        '<a href="data:text/html,canary">x</a>',
        '<a href="//user:canary@evil.example/">x</a>',
        '<img src="https://count.example/canary.gif" width="1" height="1">',
    ],
)
def test_leaves_out_what_is_no_word(html: str) -> None:
    assert markdown(f"<p>before</p>{html}<p>after</p>").replace("\n\nx\n\n", "\n\n") == "before\n\nafter"


def test_says_what_it_left_out() -> None:
    html = (
        '<img src="a.png" alt="a"><img src="data:x" alt="b"><table><tr><td>1</table><iframe></iframe><a href="tel:1">x'
    )
    assert foreign.from_html(html, BASE).left_out == [
        "1 x iframe, left out",
        "1 x image, as a link",
        "1 x image, its description kept",
        "1 x table, as lines of text",
    ]


def test_reads_no_more_than_it_can() -> None:
    with pytest.raises(foreign.NotReadable):
        markdown("x" * (foreign.MOST_HTML + 1))


def test_keeps_words_that_are_nested_too_deeply() -> None:
    written = markdown("<blockquote>" * 30 + "deep" + "</blockquote>" * 30)
    assert seen(str(markup.render(written, "essay"))) == "deep"


def test_writes_plain_text_so_that_it_is_shown_as_it_is() -> None:
    said = "# 1 *two* <b>\n[three](https://x.example)\n\n- four"
    assert seen(str(markup.render(foreign.from_text(said), "comment"))) == "".join(said.split())


MARKS = [
    "*",
    "**",
    "_",
    "`",
    "``",
    "[x]",
    "](",
    ")",
    "1.",
    "2)",
    "#",
    "- ",
    "+ ",
    "=",
    "---",
    "<",
    ">",
    "\\",
    "~~~",
    "!",
]
OTHERS = ["a", "b c", "&amp;", "&", "d_e", "https://x.example/a_b", '"q"', "“z”", "é", " ", "\n", "\t", "|", "\u202e"]
PIECES = st.sampled_from([*MARKS, *OTHERS, "e\u0301"])
WORDS = st.lists(PIECES, min_size=1, max_size=6).map("".join)
TEXT = WORDS.map(escape)


def _tagged(inner: st.SearchStrategy[str], *tags: str) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(tags), inner).map(lambda pair: f"<{pair[0]}>{pair[1]}</{pair[0].split()[0]}>")


INLINE = st.recursive(
    TEXT | st.just("<br>"),
    lambda inner: st.lists(inner | _tagged(inner, "em", "strong", "code", 'a href="/x"', "span"), max_size=4).map(
        "".join
    ),
    max_leaves=8,
)
BLOCKS = st.recursive(
    _tagged(INLINE, "p", "h2", "h4") | _tagged(TEXT.map(lambda text: f"x{text}"), "pre") | st.just("<hr>") | INLINE,
    lambda inner: (
        _tagged(st.lists(inner, max_size=3).map("".join), "blockquote", "div", "section")
        | _tagged(st.lists(_tagged(inner, "li"), max_size=3).map("".join), "ul", "ol")
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(st.lists(BLOCKS, max_size=4).map("".join))
def test_loses_no_word_and_adds_none(html: str) -> None:
    assert seen(str(markup.render(markdown(html), "essay"))) == seen(html)
