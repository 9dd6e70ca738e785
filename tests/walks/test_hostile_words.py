"""Hostile strings wherever somebody can write, on every page, in a real browser: nothing runs, nothing calls out.

Once as it is, and once with the browser told to overlook the Content-Security-Policy: the words must be harmless by
themselves (SECURITY.md, B1).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from ground import chromium
from ground.installation import Installation, wait_for
from ground.looking import AWAY, RUN, look
from ground.visiting import Visit, sign_in, visit
from playwright.sync_api import Browser, sync_playwright

pytestmark = pytest.mark.slow

BODIES = (
    f"<script>{RUN}</script>",
    f"</title></textarea></pre></style><script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f"<svg/onload={RUN}><svg><script>{RUN}</script></svg>",
    f"\"'><img src=x onerror={RUN}>",
    f"' autofocus onfocus={RUN} x='\" autofocus onfocus={RUN} x=\"",
    f"<details open ontoggle={RUN}><summary onmouseover={RUN}>s</summary></details>",
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe><iframe src="javascript:parent.{RUN}"></iframe>',
    f"<a href=javascript:{RUN}>a</a> [b](javascript:{RUN}) <javascript:{RUN}>",
    f"[c](JaVaScRiPt&#58;{RUN}) [d](&#x6A;avascript:{RUN}) [e](data:text/html,<script>{RUN}</script>)",
    f"[f](vbscript:x) [g](<java\tscript:{RUN}>) [h](http:{AWAY} 'x\" onmouseover=\"{RUN}')",
    f"![i](http:{AWAY}) ![j](javascript:{RUN}) <img src=http:{AWAY}> <video poster=http:{AWAY} autoplay>",
    f"<link rel=stylesheet href=http:{AWAY}><style>@import 'http:{AWAY}'; *{{background:url(http:{AWAY})}}</style>",
    f"<base href=http:{AWAY}><meta http-equiv=refresh content='0;url=http:{AWAY}'>",
    f"<form action=http:{AWAY}><button autofocus onfocus={RUN}>b</button></form>",
    f"<object data=http:{AWAY}></object><embed src=http:{AWAY}><script src=http:{AWAY}></script>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror={RUN}&gt;'>",
    f"<svg></p><style><a id='</style><img src=x onerror={RUN}>'>",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'>",
    f"```'\"><img src=x onerror={RUN}>\n</code></pre><script>{RUN}</script>\n```",
    f"`<img src=x onerror={RUN}>` <!--<img src='--><img src=x onerror={RUN}>'>-->",
    f"{{{{ 7 * 7 }}}} {{% include 'x' %}} ${{{RUN}}} <template><img src=x onerror={RUN}></template>",
    f"&lt;script&gt;{RUN}&lt;/script&gt; &#60;img src=x onerror={RUN}&#62; \\u003cscript>{RUN}</script>",
    f"]]><script>{RUN}</script><![CDATA[<img src=x onerror={RUN}>",
    f"<p onclick={RUN} style='position:fixed;inset:0' id=main class=bar>p</p><b tabindex=0 onfocus={RUN}>q</b>",
)
NAMES = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f'" autofocus onfocus="{RUN}',
    f"' onmouseover={RUN} x='",
    f"</title><svg onload={RUN}>",
    "{{ 7 * 7 }}",
)
# Nobody may write under a name that looks like a moderator's, so this one is like none above.
NAME_OF_A_PERSON = f'"><audio src=x onerror={RUN}>'


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the hostile words stand: an essay's address, the pages of letters and answers, a moderator's password."""

    essay: str
    paths: list[str]
    letters: list[str]
    password: str


EMAIL = "second@example.org"


@pytest.fixture(scope="module")
def stage(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Write hostile words everywhere they can be written, and have them posted, and answered."""
    files = tmp_path_factory.mktemp("hostile")
    essay = files / "essay.md"
    essay.write_text(f"# {NAMES[0]} {NAMES[2]}\n\n" + "\n\n".join(BODIES) + "\n")
    done = installation.run("essay", "add", str(essay), "--slug", "hostile", "--url", f"http:{AWAY}\"onclick='{RUN}'")
    assert done.returncode == 0, done.stderr
    done = installation.run("moderator", "add", EMAIL, "--name", NAME_OF_A_PERSON)
    assert done.returncode == 0, done.stderr
    password = re.search(r"\S{4}(?:-\S{4}){4,}", done.stdout + done.stderr)
    assert password is not None, done.stdout
    [waits] = [each for each in installation.queue(kind="essay") if RUN in each["body"]]
    assert installation.approve(waits).status == 201
    sent = {}
    for number, body in enumerate(BODIES):
        receipt = installation.comment("hostile", body, NAMES[number % len(NAMES)])
        sent[receipt["digest"]] = receipt
    for each in installation.queue(kind="comment"):
        if each["digest"] in sent:
            assert installation.approve(each).status == 201
    replies = wait_for(lambda: _all_replies(installation), "an answer to each")
    # Some stay on the desk: it must show them too.
    for each in replies[3:]:
        assert installation.approve(each).status == 201
    proposal = {
        "digest": replies[0]["digest"],
        "reason_code": "other",
        "reason": f"{BODIES[2]} {BODIES[5]} {BODIES[6]}",
    }
    refused = installation.call(
        "POST", f"/api/v1/submissions/{replies[0]['id']}/rejection", proposal, token=installation.token
    )
    assert refused.status == 202, refused.text
    letters = [receipt["manage_url"].removeprefix(installation.address) for receipt in sent.values()]
    letters.append(_rejected_letter(installation))
    thread = installation.thread("hostile")
    paths = [f"/comments/{each['id']}" for each in thread]
    paths += [f"/replies/{each['reply']['id']}" for each in thread if each["reply"]]
    assert len(paths) == 2 * len(BODIES) - 3
    return Stage("/essays/hostile", paths, letters, password.group())


def _all_replies(installation: Installation) -> list[dict[str, object]]:
    found = [each for each in installation.queue(kind="reply") if each["context"]["essay"]["slug"] == "hostile"]
    return found if len(found) == len(BODIES) else []


def _rejected_letter(installation: Installation) -> str:
    """Have a letter refused with hostile words to its author, and return its author's page."""
    receipt = installation.comment("hostile", BODIES[0], NAMES[1])
    [waits] = [each for each in installation.queue(kind="comment") if each["digest"] == receipt["digest"]]
    verdict = {"digest": receipt["digest"], "reason_code": "spam", "told": f"{BODIES[2]} {BODIES[4]}"}
    done = installation.call("POST", f"/api/v1/submissions/{waits['id']}/rejection", verdict, token=installation.token)
    assert done.status == 201, done.text
    return str(receipt["manage_url"].removeprefix(installation.address))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium.launch(playwright)
        yield opened
        opened.close()


@pytest.mark.parametrize("bypass_csp", [False, True], ids=["as it is", "without its policy"])
def test_runs_nothing_that_somebody_wrote(
    installation: Installation, browser: Browser, stage: Stage, bypass_csp: bool
) -> None:
    visitor = visit(browser, installation.address, bypass_csp=bypass_csp)
    visitor.expected |= {404, 409, 422}
    # With the policy in place each kind of page is enough: the words are the same.
    every = 1 if bypass_csp else 7
    for path in ["/", "/about", stage.essay, *stage.paths[::every], *stage.letters[::every], stage.letters[-1]]:
        visitor.go(path)
        look(visitor, path)
    answer = next(path.rpartition("/")[2] for path in stage.paths if path.startswith("/replies/"))
    for path in (
        f"{stage.essay}/write?answering={answer}",
        f"{stage.essay}/write?answering={quote(BODIES[4])}&about={quote(BODIES[2])}",
        f"{stage.essay}?page={quote(BODIES[4])}&lang={quote(BODIES[2])}",
        f"{stage.essay}/embed",
        f"/essays/{quote(BODIES[4], safe='')}",
        f"/letters/{quote(BODIES[4], safe='')}",
        f"/comments/{quote(BODIES[2], safe='')}",
        f"/{quote(BODIES[0], safe='')}?{quote(BODIES[4])}",
        f"/desk/sign-in?next={quote(f'http:{AWAY}')}",
        f"/desk/sign-in?next=javascript:{quote(RUN)}",
    ):
        visitor.go(path)
        look(visitor, path)
    _refused_and_read_over(visitor, stage)
    _at_the_desk(visitor, stage)
    visitor.leave()


def _refused_and_read_over(visitor: Visit, stage: Stage) -> None:
    """Send each body as a reader would, too long first and then to be read over."""
    for number, body in enumerate(BODIES[:: len(BODIES) // 5]):
        page = visitor.go(stage.essay)
        page.locator("#body").fill(f"{body}\n\n{'long ' * 1001}")
        page.locator("#author").fill(NAMES[number % len(NAMES)])
        page.locator("[data-preview]").click()
        page.get_by_role("alert").wait_for()
        look(visitor, f"the refusal of {body}")
        page.locator("#body").fill(body)
        page.locator("button[name=preview]").click()
        page.get_by_role("heading", name="Read your letter over").wait_for()
        look(visitor, f"the preview of {body}")
        # A draft is put back by a module.
        visitor.go(stage.essay)
        look(visitor, f"the draft of {body}")


def _at_the_desk(visitor: Visit, stage: Stage) -> None:
    """Sign in, first with a hostile address, and open everything that waits, and the forms that refuse it."""
    page = visitor.go("/desk/sign-in")
    page.locator("#email").evaluate("field => { field.type = 'text' }")
    page.locator("#email").fill(f'{NAMES[1]}"@x.invalid')
    page.locator("#password").fill(BODIES[4])
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("alert").wait_for()
    look(visitor, "the refused sign-in")
    sign_in(visitor, EMAIL, stage.password)
    visitor.go("/desk/")
    look(visitor, "the desk")
    assert visitor.page.locator(".me").inner_text() == NAME_OF_A_PERSON
    opened = [link.get_attribute("href") or "" for link in visitor.page.locator("#waiting a").all()]
    assert len(opened) >= 3
    visitor.page.clock.install()  # The desk's module takes no verdict before a second, and sends it after ten.
    for path in opened[-3:] + opened[:1]:
        visitor.page.goto(f"{visitor.address}/desk/")
        visitor.page.locator(f"#waiting a[href='{path}']").click()
        number = re.search(r"/submissions/(\d+)", path)
        assert number is not None
        visitor.page.locator(f"#main[data-open='{number.group(1)}']").wait_for()
        look(visitor, path)
        visitor.go(f"/desk/submissions/{number.group(1)}/rejection")
        look(visitor, f"the rejection of {path}")
        visitor.page.locator("#reason").fill(f"{BODIES[1]}{BODIES[5]}")
        visitor.page.locator("#rejection input[name=digest]").evaluate("field => { field.value = '0'.repeat(64) }")
        choice = visitor.page.locator("#rejection input[type=radio]")
        if choice.count():
            choice.first.check()
        visitor.page.clock.run_for(1000)
        visitor.page.locator("[data-bar=why] .reject").click()
        visitor.page.locator(".strip").wait_for()
        visitor.page.clock.run_for(10_000)
        visitor.page.locator(".strip.back").wait_for()
        look(visitor, f"the refused rejection of {path}")
        visitor.page.get_by_role("button", name="Put away").click()
    visitor.go(f"/desk/?kind={quote(BODIES[4])}&tray={quote(BODIES[2])}&just={quote(BODIES[0])}")
    look(visitor, "the desk with a hostile address")
