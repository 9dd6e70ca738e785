"""The pages of people: one's own account, everybody's for admins, and the links that set a password (SECURITY, R3)."""

import json
import re
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import ADA, BEN, CLEO, PASSWORD, House, bearer, desk_of, form, live, sign_in, text, tree
from passlib.totp import TOTP
from sqlalchemy import select
from werkzeug.test import TestResponse

from bridge.app import create_app
from bridge.keys import AUTHOR_LINK
from bridge.mail import outbox
from bridge.people import accounts, invitations
from bridge.people.accounts import INVITATION, RESET, AccountRefused, LastAdmin, NotAnAdmin, SignedOutMeanwhile
from bridge.records import Claim, Outgoing, User, WebAuthn
from bridge.web import access
from bridge.web import sign_in as signing_in
from bridge.web.access import Access, declared
from moderation import gate, ledger, moderators
from moderation.base import now
from moderation.types import ModeratorId

NEW = "entirely-new-words"


@pytest.fixture
def admin(house: House, app: Flask) -> FlaskClient:
    """Ada's browser, signed in, after she became an admin."""
    promote(house, house.ada)
    return desk_of(app)


def promote(house: House, moderator: ModeratorId) -> None:
    with house.site.database.sessions.begin() as session:
        accounts.change_role(session, accounts.of_moderator(session, moderator).id, "admin", by=None)


def user(house: House, email: str) -> User:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(User).where(User.email == email)).one()


def events(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        told = [json.loads(entry.entry) for entry in ledger.entries(session, limit=1000)]
    return [entry["event"] for entry in told if entry["type"] == "access"]


def link(house: House, purpose: str, email: str = BEN, lasts: timedelta = timedelta(hours=1)) -> str:
    """Return the path of a mailed link."""
    return f"{invitations.PATHS[purpose]}/{accounts.link_to(house.site.keys, user(house, email), purpose, lasts)}"


def follow(client: FlaskClient, path: str, password: str = NEW) -> TestResponse:
    """Follow a mailed link and send its form."""
    page = client.get(path)
    if page.status_code != 200:
        return page
    filled = form(page, "")
    return client.post(path, data=filled.fields | {"new": password})


# Links


@pytest.mark.parametrize("purpose", [RESET, INVITATION])
def test_sets_a_password_by_a_link_once(house: House, app: Flask, client: FlaskClient, purpose: str) -> None:
    ben = desk_of(app, BEN)
    path = link(house, purpose)
    before = house.contents()
    for _ in range(2):
        assert client.get(path).status_code == 200  # A scanner that opens it uses nothing up.
    assert house.contents() == before
    assert follow(client, path).location == "/desk/sign-in?just=password"
    assert ben.get("/desk/").status_code == 302
    assert sign_in(app.test_client(), BEN).status_code == 200
    assert sign_in(app.test_client(), BEN, NEW).location == "/desk/"
    again = client.get(path)
    assert again.status_code == 404
    csrf = form(client.get("/desk/sign-in"), "/sign-in").fields["csrf_token"]
    assert client.post(path, data={"new": "yet-another-password", "csrf_token": csrf}).status_code == 404
    assert sign_in(app.test_client(), BEN, NEW).location == "/desk/"


def test_asks_for_a_password_that_is_long_enough(house: House, client: FlaskClient) -> None:
    path = link(house, RESET)
    for wrong in ("", "short", "x" * 1001):
        refused = follow(client, path, wrong)
        assert refused.status_code == 422
        assert "Nothing was changed" in text(refused)
    assert follow(client, path).status_code == 303


def test_answers_alike_for_links_that_are_unknown_expired_used_or_for_something_else(
    house: House, client: FlaskClient
) -> None:
    used = link(house, RESET, ADA)
    follow(client, used)
    token = link(house, RESET).rpartition("/")[2]
    ended = [
        used,
        link(house, RESET, lasts=timedelta(seconds=-1)),
        link(house, RESET, CLEO),
        f"{invitations.PATHS[RESET]}/{link(house, INVITATION).rpartition('/')[2]}",
        f"{invitations.PATHS[INVITATION]}/{token}",
        f"{invitations.PATHS[RESET]}/{token}x",
        f"{invitations.PATHS[RESET]}/{token[1:]}",
        f"{invitations.PATHS[RESET]}/x",
        f"{invitations.PATHS[RESET]}/{house.site.keys.signed(RESET, 'x.y.z')}",
        f"{invitations.PATHS[RESET]}/{house.site.keys.signed(AUTHOR_LINK, '1.99999999999.x')}",
    ]
    told = {(client.get(path).status_code, client.get(path).text) for path in ended}
    assert len(told) == 1
    assert told.pop()[0] == 404


def test_opens_nothing_else_with_a_link(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    tokens = {"reset": lived.reset, "invitation": lived.invitation, "token": lived.link}
    for rule in app.url_map.iter_rules():
        (argument,) = rule.arguments if len(rule.arguments) == 1 else ("",)
        if (
            argument not in tokens
            or "GET" not in (rule.methods or set())
            or declared(app, rule.endpoint)
            in {
                Access.MODERATOR,
                Access.ADMIN,
                Access.NOBODY,
            }
        ):
            continue
        for whose, token in tokens.items():
            status = client.get(re.sub(r"<[^>]*>", token, rule.rule)).status_code
            if whose != argument:
                assert status in {404, 422}, rule
            elif argument != "token":  # Several purposes of other pages share that name.
                assert status == 200, rule


def test_shows_a_link_in_no_log(house: House, client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    path = link(house, RESET)
    follow(client, path)
    follow(client, path)
    assert path.rpartition("/")[2] not in caplog.text


def test_sends_the_link_to_who_forgot_their_password(house: House, app: Flask, client: FlaskClient) -> None:
    form(client.get("/desk/resets"), "/resets").submit(client, email="BEN@desk.example ")
    (kept,) = house.contents()["outgoing"]
    assert BEN not in repr(kept)
    with house.site.database.reading_sessions() as session:
        sent = session.scalars(select(Outgoing)).one()
    said = json.loads(house.site.keys.unsealed(outbox.SEALED, sent.sealed or b"") or "")
    assert said["to"] == BEN
    (address,) = re.findall(r"http://localhost:\d+(/desk/resets/\S+)", said["text"])
    assert follow(client, address).location == "/desk/sign-in?just=password"
    assert sign_in(app.test_client(), BEN, NEW).location == "/desk/"


def test_sends_no_more_than_a_few_links_an_hour(house: House, client: FlaskClient) -> None:
    page = form(client.get("/desk/resets"), "/resets")
    statuses = [page.submit(client, email=BEN).status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    assert len(house.contents()["outgoing"]) == 5


# Own account


def test_changes_a_password_and_ends_the_other_sessions(house: House, app: Flask, desk: FlaskClient) -> None:
    other = desk_of(app)
    page = desk.get("/desk/account")
    assert form(page, "/password").submit(desk, password="not-her-password", new=NEW).status_code == 422
    assert form(page, "/password").submit(desk, password=PASSWORD, new="short").status_code == 422
    changed = form(page, "/password").submit(desk, password=PASSWORD, new=NEW)
    assert changed.location == "/desk/account?just=password"
    assert desk.get("/desk/account").status_code == 200
    assert other.get("/desk/").status_code == 302
    assert sign_in(app.test_client(), ADA, NEW).location == "/desk/"
    assert events(house)[-2:] == ["password_changed", "signed_in"]


def test_sets_no_password_over_a_reset_that_came_first(
    house: House, app: Flask, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = accounts.chosen

    def meanwhile(password: str) -> accounts.Hashed:
        with house.site.database.sessions.begin() as session:
            accounts.reset_password(session, ADA, accounts.Hashed(accounts.hashed("the-owners-new-words")))
        return chosen(password)

    page = desk.get("/desk/account")
    monkeypatch.setattr(accounts, "chosen", meanwhile)
    refused = form(page, "/password").submit(desk, password=PASSWORD, new=NEW)
    assert refused.status_code == 401
    assert "signed out meanwhile" in text(refused)
    assert desk.get("/desk/account").status_code == 302
    assert sign_in(app.test_client(), ADA, NEW).status_code == 200
    assert sign_in(app.test_client(), ADA, "the-owners-new-words").location == "/desk/"


def test_signs_nobody_in_whom_a_reset_signed_out(
    house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = signing_in.sign_in_again

    def meanwhile(user_id: int, named: str) -> None:
        with house.site.database.sessions.begin() as session:
            accounts.reset_password(session, ADA, accounts.Hashed("another"))
        again(user_id, named)

    monkeypatch.setattr(signing_in, "sign_in_again", meanwhile)
    form(desk.get("/desk/account"), "/password").submit(desk, password=PASSWORD, new=NEW)
    assert desk.get("/desk/account").status_code == 302


def test_changes_no_factor_for_a_session_that_has_ended(
    house: House, app: Flask, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, setup = desk.get("/desk/account"), desk.get("/desk/account/authenticator")
    (secret,) = ["".join(each.itertext()) for each in tree(setup).iter("p") if each.get("class") == "code"]
    shown = str(TOTP(key=secret.replace("-", "")).generate(time=time.time()).token)
    before = house.contents()
    monkeypatch.setattr(signing_in, "admitted_as", lambda: "a session of before")
    for refused in (
        form(setup, "/authenticator").submit(desk, code=shown),
        form(account, "/recovery-codes").submit(desk),
        form(account, "/account/tokens").submit(desk, scope="full"),
    ):
        assert refused.status_code == 401
        assert "signed out meanwhile" in text(refused)
    made = {"credential_id": b"id", "public_key": b"key", "sign_count": 0, "name": "A key", "usage": "first"}
    with app.test_request_context(), pytest.raises(SignedOutMeanwhile):
        app.extensions["security"].datastore.create_webauthn(user(house, ADA), **made)
    assert house.contents() == before


def test_lets_accents_in_a_password_be_typed_either_way(app: Flask, desk: FlaskClient) -> None:
    page = desk.get("/desk/account")
    form(page, "/password").submit(desk, password=PASSWORD, new="vier W\u00f6rter mit \u00e4")
    assert sign_in(app.test_client(), ADA, "vier Wo\u0308rter mit a\u0308").location == "/desk/"
    page = form(desk.get("/desk/account"), "/password")
    assert page.submit(desk, password="vier W\u00f6rter mit \u00e4", new=NEW).location == "/desk/account?just=password"


def test_gives_a_token_once_and_revokes_it(house: House, desk: FlaskClient, client: FlaskClient) -> None:
    made = form(desk.get("/desk/account"), "/account/tokens").submit(desk, scope="read")
    (token,) = re.findall(r"emr_[\w-]{43}", made.text)
    assert token not in desk.get("/desk/account").text
    assert client.get("/api/v1/queue", headers=bearer(token)).status_code == 200
    own = desk.get("/desk/account")
    revocations = [each.get("action", "") for each in tree(own).iter("form") if "/revocation" in each.get("action", "")]
    newest = max(revocations, key=lambda action: int(re.findall(r"\d+", action)[0]))
    assert form(own, newest).submit(desk).location == "/desk/account?just=revoked"
    assert client.get("/api/v1/queue", headers=bearer(token)).status_code == 401
    assert events(house)[-2:] == ["token_issued", "token_revoked"]


def test_revokes_nobody_elses_token(house: House, desk: FlaskClient, client: FlaskClient) -> None:
    with house.site.database.reading_sessions() as session:
        bens = accounts.tokens(session, user_id=user(house, BEN).id)[0].id
    csrf = form(desk.get("/desk/account"), "/preferences").fields["csrf_token"]
    assert desk.post(f"/desk/account/tokens/{bens}/revocation", data={"csrf_token": csrf}).status_code == 404
    assert client.get("/api/v1/queue", headers=bearer(house.tokens.ben)).status_code == 200


def test_removes_nobody_elses_passkey(house: House, desk: FlaskClient) -> None:
    give_passkey(house, BEN)
    csrf = form(desk.get("/desk/account"), "/preferences").fields["csrf_token"]
    desk.post("/desk/account/passkeys/1/removal", data={"csrf_token": csrf})
    with house.site.database.reading_sessions() as session:
        assert session.get(WebAuthn, 1) is not None


def give_passkey(house: House, email: str) -> None:
    made = WebAuthn(
        credential_id=email.encode(),
        public_key=b"key",
        sign_count=0,
        backup_state=False,
        device_type="single_device",
        lastuse_datetime=now().replace(tzinfo=None),
        name="A key",
        usage="first",
    )
    with house.site.database.sessions.begin() as session:
        accounts.add_passkey(session, accounts.of_moderator(session, accounts.moderator_of(session, email)).id, made)


def test_asks_for_the_passkey_after_the_password(house: House, app: Flask) -> None:
    give_passkey(house, ADA)
    client = app.test_client()
    assert sign_in(client).location == "/desk/sign-in/passkey"
    page = client.get("/desk/sign-in/passkey")
    assert "Your password was right" in text(page)
    asked = form(page, "/passkey").submit(client)
    (options,) = [each.get("data-options") for each in tree(asked).iter("form") if each.get("data-options")]
    told = json.loads(options or "")
    assert told["rpId"] == "localhost"
    assert told["userVerification"] == "required"
    assert len(told["allowCredentials"]) == 1
    refused = client.post(form(asked, "").action, data=form(asked, "").fields | {"credential": "{}"})
    assert refused.location == "/desk/sign-in/passkey?refused=yes"
    assert client.get("/desk/").status_code == 302


def test_tells_no_passkeys_before_a_password(house: House, client: FlaskClient) -> None:
    give_passkey(house, ADA)
    asked = form(client.get("/desk/sign-in"), "/passkey").submit(client, identity=ADA)
    (options,) = [each.get("data-options") for each in tree(asked).iter("form") if each.get("data-options")]
    assert json.loads(options or "").get("allowCredentials", []) == []


def test_asks_which_of_two_second_factors(house: House, app: Flask, desk: FlaskClient) -> None:
    secret = set_up(desk)
    give_passkey(house, ADA)
    client = app.test_client()
    assert sign_in(client).location == "/desk/sign-in/second-factor"
    page = client.get("/desk/sign-in/second-factor")
    assert form(page, "/second-factor").submit(client, which="webauthn").location == "/desk/sign-in/passkey"
    assert form(page, "/second-factor").submit(client, which="nothing").location == "/desk/sign-in"
    sign_in(client)
    page = client.get("/desk/sign-in/second-factor")
    assert form(page, "/second-factor").submit(client, which="authenticator").location == "/desk/sign-in/code"
    shown = str(TOTP(key=secret.replace("-", "")).generate(time=time.time()).token)
    assert form(client.get("/desk/sign-in/code"), "/code").submit(client, code=shown).location == "/desk/"


def set_up(client: FlaskClient) -> str:
    page = client.get("/desk/account/authenticator")
    (secret,) = ["".join(each.itertext()) for each in tree(page).iter("p") if each.get("class") == "code"]
    shown = str(TOTP(key=secret.replace("-", "")).generate(time=time.time() - 30).token)
    assert form(page, "/authenticator").submit(client, code="000000").status_code == 422
    assert form(page, "/authenticator").submit(client, code=shown).location == "/desk/account?just=authenticator"
    return secret


def test_takes_no_secret_that_another_account_was_shown(app: Flask, desk: FlaskClient) -> None:
    ben = desk_of(app, BEN)
    theirs = form(ben.get("/desk/account/authenticator"), "/authenticator").fields["sealed"]
    page = desk.get("/desk/account/authenticator")
    assert form(page, "/authenticator").submit(desk, sealed=theirs, code="123456").status_code == 422
    assert form(page, "/authenticator").submit(desk, sealed="made-up", code="123456").status_code == 422


def test_keeps_what_somebody_chose(house: House, desk: FlaskClient) -> None:
    page = desk.get("/desk/account")
    csrf = form(page, "/preferences").fields["csrf_token"]
    desk.post("/desk/account/preferences", data={"csrf_token": csrf, "told": "daily"})
    assert (user(house, ADA).told, user(house, ADA).shortcuts) == ("daily", False)
    desk.post("/desk/account/preferences", data={"csrf_token": csrf, "told": "hourly", "shortcuts": "on"})
    assert (user(house, ADA).told, user(house, ADA).shortcuts) == ("hourly", True)
    assert desk.post("/desk/account/preferences", data={"csrf_token": csrf, "told": "often"}).status_code == 422
    assert user(house, ADA).told == "hourly"


# Everybody, for admins


def test_is_for_admins_only(house: House, desk: FlaskClient) -> None:
    assert desk.get("/desk/people").status_code == 403
    csrf = form(desk.get("/desk/account"), "/preferences").fields["csrf_token"]
    before = house.contents()
    ben = user(house, BEN).id
    for what in ("invitations", "second-factor", f"{ben}/role", f"{ben}/deactivation", f"{ben}/factors"):
        data = {"csrf_token": csrf, "role": "admin", "email": "eve@desk.example", "needed": "yes"}
        assert desk.post(f"/desk/people/{what}", data=data).status_code == 403
    assert house.contents() == before


def test_shows_everybody_and_invites_one_more(house: House, app: Flask, admin: FlaskClient) -> None:
    page = admin.get("/desk/people")
    for told in (ADA, BEN, CLEO, "No longer active"):
        assert told in text(page)
    sent = form(page, "/invitations").submit(admin, email="Dora@desk.example", name="Dora", role="admin")
    assert sent.location == "/desk/people?just=invited"
    assert "no password set yet" in text(admin.get("/desk/people"))
    assert sign_in(app.test_client(), "dora@desk.example", "").status_code == 200
    for _ in range(2):
        dora = user(house, "dora@desk.example")
        again = form(admin.get("/desk/people"), f"/people/{dora.id}/invitation").submit(admin)
        assert again.location == "/desk/people?just=invited"
    assert len(house.contents()["outgoing"]) == 3
    assert follow(app.test_client(), link(house, INVITATION, "dora@desk.example")).status_code == 303
    dora_desk = desk_of_with(app, "dora@desk.example", NEW)
    assert dora_desk.get("/desk/people").status_code == 200
    csrf = form(admin.get("/desk/people"), "/invitations").fields["csrf_token"]
    assert admin.post(f"/desk/people/{dora.id}/invitation", data={"csrf_token": csrf}).status_code == 409


def desk_of_with(app: Flask, email: str, password: str) -> FlaskClient:
    client = app.test_client()
    assert sign_in(client, email, password).location == "/desk/"
    return client


@pytest.mark.parametrize("email", [ADA, "no address", "", "a@b.example\r\nBcc: x@y.example"])
def test_refuses_an_invitation_in_a_sentence(house: House, admin: FlaskClient, email: str) -> None:
    page = admin.get("/desk/people")
    before = house.contents()
    refused = form(page, "/invitations").submit(admin, email=email, name="")
    assert refused.status_code == 422
    assert house.contents() == before


def test_changes_a_role(house: House, app: Flask, admin: FlaskClient) -> None:
    ben = user(house, BEN).id
    assert desk_of(app, BEN).get("/desk/people").status_code == 403
    form(admin.get("/desk/people"), f"/people/{ben}/role").submit(admin)
    assert desk_of(app, BEN).get("/desk/people").status_code == 200
    form(admin.get("/desk/people"), f"/people/{ben}/role").submit(admin)
    assert desk_of(app, BEN).get("/desk/people").status_code == 403
    assert events(house).count("role_changed") == 3


def test_keeps_the_last_admin(house: House, admin: FlaskClient) -> None:
    ada = user(house, ADA).id
    page = admin.get("/desk/people")
    before = house.contents()
    for what in ("role", "deactivation"):
        refused = form(page, f"/people/{ada}/{what}").submit(admin)
        assert refused.status_code == 409
        assert "last active admin" in text(refused)
    assert house.contents() == before
    promote(house, house.ben)
    assert form(page, f"/people/{ada}/role").submit(admin).location == "/desk/people?just=role"
    assert admin.get("/desk/people").status_code == 403


def test_leaves_one_admin_when_two_demote_each_other(any_house: House) -> None:
    promote(any_house, any_house.ada)
    promote(any_house, any_house.ben)
    with any_house.site.database.sessions.begin() as session:
        accounts.change_role(session, user(any_house, BEN).id, "moderator", by=any_house.ada)
    ada = user(any_house, ADA).id
    with any_house.site.database.sessions.begin() as session, pytest.raises(NotAnAdmin):
        accounts.deactivate_person(session, ada, by=any_house.ben)
    with any_house.site.database.sessions.begin() as session, pytest.raises(LastAdmin):
        accounts.deactivate_person(session, ada, by=any_house.ada)


def test_ends_everything_of_who_is_deactivated_but_what_they_decided(
    house: House, app: Flask, admin: FlaskClient, client: FlaskClient
) -> None:
    sent = house.send()
    house.approve(sent.public_id, by=house.ben)
    waiting = house.submission(house.send("Another.").public_id)
    with house.site.database.sessions.begin() as session:
        session.add(Claim(submission_id=waiting, moderator_id=house.ben, claimed_at=now(), until=1e12))
    ben, bens_link = desk_of(app, BEN), link(house, RESET)
    id_of_ben = user(house, BEN).id
    page = admin.get("/desk/people")
    assert form(page, f"/people/{id_of_ben}/deactivation").submit(admin).location == "/desk/people?just=deactivated"
    assert ben.get("/desk/").status_code == 302
    assert client.get("/api/v1/queue", headers=bearer(house.tokens.ben)).status_code == 401
    assert client.get(bens_link).status_code == 404
    assert house.contents()["claims"] == []
    assert client.get(f"/api/v1/comments/{sent.public_id}").get_json()["status"] == "approved"
    with house.site.database.sessions.begin() as session, pytest.raises(Exception, match="active moderator"):
        gate.approve(session, waiting, moderator=house.ben, seen=house.digest(waiting))
    assert events(house)[-1] == "deactivated"


def test_invites_who_was_deactivated_again(house: House, app: Flask, admin: FlaskClient) -> None:
    cleo = user(house, CLEO)
    page = admin.get("/desk/people")
    assert "No longer active, was a moderator" in text(page)
    assert form(page, f"/people/{cleo.id}/invitation").submit(admin).location == "/desk/people?just=invited"
    assert len(house.contents()["outgoing"]) == 1
    assert sign_in(app.test_client(), CLEO).status_code == 200
    assert follow(app.test_client(), link(house, INVITATION, CLEO)).status_code == 303
    desk_of_with(app, CLEO, NEW)
    assert events(house)[-3:] == ["invited", "password_changed", "signed_in"]
    promote(house, house.ben)
    form(page, f"/people/{user(house, ADA).id}/role").submit(admin)
    csrf = form(admin.get("/desk/account"), "/preferences").fields["csrf_token"]
    assert admin.post(f"/desk/people/{cleo.id}/invitation", data={"csrf_token": csrf}).status_code == 403


def test_refuses_a_name_on_the_page_in_a_sentence(house: House, admin: FlaskClient) -> None:
    before = house.contents()
    refused = form(admin.get("/desk/people"), "/invitations").submit(admin, email="x@desk.example", name="\u0410da")
    assert refused.status_code == 422
    assert "Choose another name" in text(refused)
    assert house.contents() == before


@pytest.mark.parametrize("path", ["second-factor", "role", "factors", "deactivation", "invitation", "invitations"])
def test_tells_who_was_demoted_meanwhile(
    house: House, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    promote(house, house.ben)
    ben = user(house, BEN).id
    csrf = form(admin.get("/desk/people"), "/invitations").fields["csrf_token"]
    # The guard let her through; what she asks for comes after another admin's act.
    found = moderators.named
    with house.site.database.sessions.begin() as session:
        accounts.change_role(session, user(house, ADA).id, "moderator", by=house.ben)
    monkeypatch.setattr(
        access.moderators,
        "named",
        lambda session, ids: (
            {each: replace(who, role="admin") for each, who in found(session, ids).items()}
            if session.get_bind() is house.site.database.reading
            else found(session, ids)
        ),
    )
    before = house.contents()
    where = path if path in {"second-factor", "invitations"} else f"{ben}/{path}"
    data = {"csrf_token": csrf, "role": "admin", "email": "eve@desk.example", "needed": "yes"}
    refused = admin.post(f"/desk/people/{where}", data=data)
    assert refused.status_code in {409, 422}
    assert "no longer an admin" in text(refused)
    assert house.contents() == before


def test_removes_the_factors_of_who_lost_them(house: House, app: Flask, admin: FlaskClient) -> None:
    ben = desk_of(app, BEN)
    set_up(ben)
    give_passkey(house, BEN)
    client = app.test_client()
    assert sign_in(client, BEN).location == "/desk/sign-in/second-factor"
    id_of_ben = user(house, BEN).id
    form(admin.get("/desk/people"), f"/people/{id_of_ben}/factors").submit(admin)
    assert ben.get("/desk/").status_code == 302
    assert sign_in(app.test_client(), BEN).location == "/desk/"


# The rule of a second factor


def test_leads_who_has_no_second_factor_to_one_before_anything_else(
    house: House, app: Flask, admin: FlaskClient
) -> None:
    ben = desk_of(app, BEN)
    set_up(admin)
    form(admin.get("/desk/people"), "/second-factor").submit(admin)
    assert admin.get("/desk/people").status_code == 200
    assert ben.get("/desk/").location == "/desk/account?needs=factor"
    page = ben.get("/desk/account")
    assert "Set yours up to go on" in text(page)
    waiting = house.submission(house.send().public_id)
    csrf = form(page, "/preferences").fields["csrf_token"]
    data = {"csrf_token": csrf, "digest": house.digest(waiting)}
    refused = ben.post(f"/desk/submissions/{waiting}/approval", data=data)
    assert refused.status_code == 403
    assert "Set yours up first" in text(refused)
    assert ben.get("/desk/account/passkeys").status_code == 200
    set_up(ben)
    assert ben.get("/desk/").status_code == 200
    form(admin.get("/desk/people"), "/second-factor").submit(admin)
    assert events(house).count("rule_changed") == 2


def test_leaves_the_ledger_whole(any_house: House) -> None:
    site = any_house.site
    promote(any_house, any_house.ada)
    with site.database.sessions.begin() as session:
        ada, ben = user(any_house, ADA).id, user(any_house, BEN).id
        accounts.require_second_factor(session, True, by=any_house.ada)
        accounts.new_recovery_codes(session, site.keys, ben)
        accounts.sign_out_everywhere(session, ben)
        accounts.set_authenticator(session, ben, "{}", counter=1)
        accounts.remove_factors(session, ben, by=any_house.ada)
        accounts.arrived(session, ada)
        accounts.deactivate_person(session, ben, by=any_house.ada)
    with site.database.reading_sessions() as session:
        assert ledger.verify(session)[1] is None
        assert accounts.people(session)[1].recovery_codes == 0
    with site.database.sessions.begin() as session, pytest.raises(AccountRefused):
        accounts.change_role(session, 10**6, "admin", by=any_house.ada)


def test_signs_in_on_either_database(any_house: House) -> None:
    app = create_app(any_house.site)
    client = desk_of(app)
    secret = set_up(client)
    codes = form(client.get("/desk/account"), "/recovery-codes").submit(client)
    one = re.findall(r"[0-9a-f]{4}(?:-[0-9a-f]{4}){3}", codes.text)[0]
    second = app.test_client()
    sign_in(second)
    shown = str(TOTP(key=secret.replace("-", "")).generate(time=time.time()).token)
    assert form(second.get("/desk/sign-in/code"), "/code").submit(second, code=shown).location == "/desk/"
    third = app.test_client()
    sign_in(third)
    page = form(third.get("/desk/sign-in/recovery-code"), "/recovery-code")
    assert page.submit(third, code=one).location == "/desk/"
    changed = form(third.get("/desk/account"), "/password").submit(third, password=PASSWORD, new=NEW)
    assert changed.location == "/desk/account?just=password"
    assert third.get("/desk/").status_code == 200
    assert second.get("/desk/").status_code == 302
