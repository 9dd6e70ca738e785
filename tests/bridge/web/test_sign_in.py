"""Signing in: codes are taken once, what ended stays ended, guessing is slowed and tells nothing (SECURITY, R4, R8)."""

import base64
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import argon2
import cbor2
import pytest
from cryptography.hazmat.primitives import hashes as hashes_of
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from flask.testing import FlaskClient
from ground.house import ADA, BEN, CLEO, PASSWORD, House, desk_of, form, sign_in, site_over, text, tree
from passlib.totp import TOTP
from sqlalchemy import update
from werkzeug.test import TestResponse

from bridge.app import create_app
from bridge.limits import Limits
from bridge.people import accounts
from bridge.records import FsRefreshTracker, User, WebAuthn
from bridge.web import sign_in as signing_in
from moderation import ledger
from moderation.base import now

SESSION, DEVICE = "__Host-session", "__Host-device"
NOBODY = "nobody@desk.example"


def code(secret: str, steps: int = 0) -> str:
    """Return what an authenticator with this secret shows, or will show in so many steps."""
    return str(TOTP(key=secret.replace("-", "").replace(" ", "")).generate(time=time.time() + 30 * steps).token)


def set_up_authenticator(client: FlaskClient) -> str:
    """Set an authenticator up for who is signed in; return its secret."""
    page = client.get("/desk/account/authenticator")
    (secret,) = ["".join(each.itertext()) for each in tree(page).iter("p") if each.get("class") == "code"]
    done = form(page, "/authenticator").submit(client, code=code(secret, -1))
    assert done.location == "/desk/account?just=authenticator"
    return secret


def send_code(client: FlaskClient, shown: str) -> TestResponse:
    return form(client.get("/desk/sign-in/code"), "/code").submit(client, code=shown)


def recovery_codes(client: FlaskClient) -> list[str]:
    page = form(client.get("/desk/account"), "/recovery-codes").submit(client)
    return re.findall(r"[0-9a-f]{4}(?:-[0-9a-f]{4}){3}", page.text)


def events(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        told = [json.loads(entry.entry) for entry in ledger.entries(session, limit=1000)]
    return [entry["event"] for entry in told if entry["type"] == "access"]


def steps(client: FlaskClient) -> str | None:
    """Return where somebody stands who opens the desk."""
    return client.get("/desk/").location


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count each time a password is hashed, to be kept or to be compared."""
    made: list[str] = []

    def counted(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            return inner(*args, **kwargs)

        return call

    for name in ("hash_secret", "verify_secret"):
        monkeypatch.setattr(argon2.low_level, name, counted(name, getattr(argon2.low_level, name)))
    return made


# A second factor


def test_asks_for_a_code_after_the_password_and_takes_each_once(app: Flask, desk: FlaskClient) -> None:
    secret = set_up_authenticator(desk)
    one, other = app.test_client(), app.test_client()
    for client in (one, other):
        assert sign_in(client).location == "/desk/sign-in/code"
        assert steps(client) == "/desk/sign-in?next=/desk/"
    right = code(secret)
    assert send_code(one, right).location == "/desk/"
    assert steps(one) is None
    again = send_code(other, right)
    assert again.status_code == 200
    assert "used already" in text(again)
    assert steps(other) == "/desk/sign-in?next=/desk/"
    # Nor one from before: only what the phone shows next.
    assert send_code(other, code(secret, -1)).status_code == 200
    assert send_code(other, code(secret, 1)).location == "/desk/"


def test_takes_no_code_that_is_wrong(app: Flask, desk: FlaskClient) -> None:
    secret = set_up_authenticator(desk)
    client = app.test_client()
    sign_in(client)
    for wrong in ("", "000", "abcdef", code(secret, 40), "1" * 500, "\u0661\u0662\u0663\u0664\u0665\u0666"):
        assert send_code(client, wrong).status_code == 200
        assert steps(client) == "/desk/sign-in?next=/desk/"


def test_takes_a_code_once_of_two_requests_at_the_same_moment(any_house: House) -> None:
    with any_house.site.database.reading_sessions() as session:
        ada = accounts.of_moderator(session, any_house.ada)
    taken = []
    for _ in range(2):
        with any_house.site.database.sessions.begin() as session:
            taken.append(accounts.take_code(session, ada.id, 100))
    with any_house.site.database.sessions.begin() as session:
        taken += [accounts.take_code(session, ada.id, 99), accounts.take_code(session, ada.id, 101)]
    assert taken == [True, False, False, True]


def test_keeps_no_secret_of_an_authenticator_in_the_clear(house: House, desk: FlaskClient) -> None:
    secret = set_up_authenticator(desk)
    codes = recovery_codes(desk)
    kept = repr(house.contents())
    for each in (secret, secret.replace("-", ""), *codes):
        assert each not in kept
        assert each.replace("-", "") not in kept


def test_lets_each_recovery_code_in_once(house: House, app: Flask, desk: FlaskClient) -> None:
    set_up_authenticator(desk)
    codes = recovery_codes(desk)
    assert len(set(codes)) == accounts.CODES
    client, other = app.test_client(), app.test_client()
    for each in (client, other):
        sign_in(each)
    page = form(client.get("/desk/sign-in/recovery-code"), "/recovery-code")
    assert page.submit(client, code=codes[3].upper().replace("-", " ")).location == "/desk/"
    again = form(other.get("/desk/sign-in/recovery-code"), "/recovery-code").submit(other, code=codes[3])
    assert again.status_code == 200
    assert steps(other) == "/desk/sign-in?next=/desk/"
    assert "9 codes are left." in text(client.get("/desk/account"))
    assert "recovery_code_used" in events(house)


def test_ends_earlier_recovery_codes_when_new_ones_are_made(app: Flask, desk: FlaskClient) -> None:
    set_up_authenticator(desk)
    old, new = recovery_codes(desk), recovery_codes(desk)
    client = app.test_client()
    sign_in(client)
    for each, leads in ((old[0], None), (new[0], "/desk/")):
        page = form(client.get("/desk/sign-in/recovery-code"), "/recovery-code").submit(client, code=each)
        assert page.location == leads


def test_opens_the_second_step_only_after_the_first(client: FlaskClient) -> None:
    csrf = form(client.get("/desk/sign-in"), "/sign-in").fields["csrf_token"]
    for path in ("/desk/sign-in/code", "/desk/sign-in/recovery-code", "/desk/sign-in/second-factor"):
        assert client.get(path).location == "/desk/sign-in"
        refused = client.post(path, data={"csrf_token": csrf, "code": "123456"})
        assert refused.status_code == 401
        assert "Begin again" in text(refused)


def test_leads_on_to_where_somebody_wanted_to_go_after_the_code_too(app: Flask, desk: FlaskClient) -> None:
    secret = set_up_authenticator(desk)
    client = app.test_client()
    asked = form(client.get("/desk/sign-in?next=/desk/account"), "/sign-in")
    second = asked.submit(client, email=ADA, password=PASSWORD)
    page = client.get(second.location)
    (action,) = [each.get("action", "") for each in tree(page).iter("form")]
    csrf = form(page, action[-8:]).fields["csrf_token"]
    assert client.post(action, data={"csrf_token": csrf, "code": code(secret)}).location == "/desk/account"
    for evil in ("/\\evil.example", "//evil.example", "https://evil.example/"):
        other = app.test_client()
        sign_in(other)
        assert other.get("/desk/sign-in/code", query_string={"next": evil}).location == "/desk/sign-in"


# Passkeys


class Device:
    """A passkey and the device that holds it, which counts nothing, as those that are synchronised do not."""

    def __init__(self, house: House, email: str) -> None:
        self.house = house
        self.key = ec.generate_private_key(ec.SECP256R1())
        point = self.key.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
        made = WebAuthn(
            credential_id=email.encode(),
            public_key=cbor2.dumps(public),
            sign_count=0,
            backup_state=False,
            device_type="single_device",
            lastuse_datetime=now().replace(tzinfo=None),
            name="A key",
            usage="first",
        )
        self.name = _url64(email.encode())
        with house.site.database.sessions.begin() as session:
            accounts.add_passkey(
                session, accounts.of_moderator(session, accounts.moderator_of(session, email)).id, made
            )

    def answer(self, asked: TestResponse) -> tuple[str, str]:
        """Return where the answer to this page's question goes, and the answer."""
        ((options, action),) = [
            (each.get("data-options", ""), each.get("action", ""))
            for each in tree(asked).iter("form")
            if each.get("data-options")
        ]
        said = {
            "type": "webauthn.get",
            "challenge": json.loads(options)["challenge"],
            "origin": self.house.site.settings.address,
        }
        client_data = json.dumps(said).encode()
        present_and_verified = bytes([0b101])
        held = hashlib.sha256(b"localhost").digest() + present_and_verified + bytes(4)
        signature = self.key.sign(held + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes_of.SHA256()))
        response = {
            "clientDataJSON": _url64(client_data),
            "authenticatorData": _url64(held),
            "signature": _url64(signature),
        }
        credential = {"id": self.name, "rawId": self.name, "type": "public-key", "response": response}
        return action, json.dumps(credential)


def _url64(some: bytes) -> str:
    return base64.urlsafe_b64encode(some).rstrip(b"=").decode()


def give(client: FlaskClient, action: str, credential: str) -> str | None:
    """Send a passkey's answer with this browser's own token; return where it leads."""
    path = "/desk/account" if client.get("/desk/account").status_code == 200 else "/desk/sign-in"
    tokens = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', client.get(path).text)
    return client.post(action, data={"csrf_token": tokens[0], "credential": credential}).location


def test_takes_a_passkeys_answer_once(house: House, app: Flask) -> None:
    device = Device(house, ADA)
    client = app.test_client()
    action, credential = device.answer(form(client.get("/desk/sign-in"), "/passkey").submit(client))
    assert give(client, action, credential) == "/desk/"
    assert steps(client) is None
    thief = app.test_client()
    assert give(thief, action, credential) == "/desk/sign-in/passkey?refused=yes"
    assert steps(thief) == "/desk/sign-in?next=/desk/"
    # Nor as a second step, of whoever knows the password, nor to confirm who it is.
    sign_in(thief)
    assert give(thief, action, credential) == "/desk/sign-in/passkey?refused=yes"
    assert steps(thief) == "/desk/sign-in?next=/desk/"
    again = action.replace("/desk/sign-in/passkey", "/desk/sign-in/again/passkey")
    assert give(client, again, credential) == "/desk/sign-in/again/passkey?refused=yes"


def test_takes_a_passkeys_answer_once_as_a_second_step(house: House, app: Flask) -> None:
    device = Device(house, ADA)
    client, thief = app.test_client(), app.test_client()
    sign_in(client)
    action, credential = device.answer(form(client.get("/desk/sign-in/passkey"), "/passkey").submit(client))
    assert give(client, action, credential) == "/desk/"
    sign_in(thief)
    assert give(thief, action, credential) == "/desk/sign-in/passkey?refused=yes"
    assert steps(thief) == "/desk/sign-in?next=/desk/"


def test_takes_a_passkeys_answer_once_to_confirm_who_it_is(house: House, app: Flask) -> None:
    desk = desk_of(app)
    device = Device(house, ADA)
    asked = form(desk.get("/desk/sign-in/again/passkey"), "/passkey").submit(desk)
    action, credential = device.answer(asked)
    assert give(desk, action, credential) == "/desk/account"
    assert give(desk, action, credential) == "/desk/sign-in/again/passkey?refused=yes"
    # The next question is answered anew.
    asked = form(desk.get("/desk/sign-in/again/passkey"), "/passkey").submit(desk)
    assert give(desk, *device.answer(asked)) == "/desk/account"


# Sessions


def test_gives_a_copy_of_a_cookie_no_life_after_sign_out(app: Flask, desk: FlaskClient) -> None:
    stolen = desk.get_cookie(SESSION)
    assert stolen is not None
    thief = app.test_client()
    thief.set_cookie(SESSION, stolen.value)
    assert steps(thief) is None
    form(desk.get("/desk/"), "/sign-out").submit(desk)
    thief.set_cookie(SESSION, stolen.value)
    assert steps(thief) == "/desk/sign-in?next=/desk/"


def test_leaves_no_cookie_that_remembers(house: House, app: Flask) -> None:
    device = Device(house, ADA)
    client, other = app.test_client(), app.test_client()
    action, credential = device.answer(form(client.get("/desk/sign-in"), "/passkey").submit(client))
    page = client.get("/desk/sign-in")
    csrf = form(page, "/sign-in").fields["csrf_token"]
    data = {"csrf_token": csrf, "credential": credential, "remember": "False"}
    assert client.post(action, data=data).location == "/desk/"
    ben = form(other.get("/desk/sign-in"), "/sign-in")
    assert ben.submit(other, email=BEN, password=PASSWORD, remember="y").location == "/desk/"
    for each in (client, other):
        assert each.get_cookie(SESSION) is not None
        assert each.get_cookie("__Host-remember") is None


def test_sets_no_cookie_beside_the_forms_after_sign_out(desk: FlaskClient) -> None:
    form(desk.get("/desk/"), "/sign-out").submit(desk)
    for path in ("/static/emeritus.css", "/"):
        with desk.get(path) as response:
            assert response.headers.getlist("Set-Cookie") == []
    assert sign_in(desk).location == "/desk/"


def test_signs_out_everywhere_at_once(house: House, app: Flask, desk: FlaskClient) -> None:
    other = desk_of(app)
    assert form(other.get("/desk/account"), "/account/sign-out").submit(other).location.startswith("/desk/sign-in")
    assert steps(desk) == steps(other) == "/desk/sign-in?next=/desk/"
    assert events(house)[-1] == "signed_out_everywhere"


def test_ends_a_session_in_which_nothing_happens_for_long(
    app: Flask, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = time.time()
    # Each visit within the time begins it anew.
    for hours in (11, 22, 33):
        monkeypatch.setattr(signing_in.time, "time", lambda hours=hours: at + hours * 3600)
        assert steps(desk) is None
    monkeypatch.setattr(signing_in.time, "time", lambda: at + 33 * 3600 + signing_in.IDLE.total_seconds() + 1)
    assert steps(desk) == "/desk/sign-in?next=/desk/"


def test_takes_what_a_page_asks_by_itself_for_nobody(desk: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    at = time.time()
    for hours in (4, 8, 11):
        monkeypatch.setattr(signing_in.time, "time", lambda hours=hours: at + hours * 3600)
        assert desk.get("/desk/state").status_code == 200
    monkeypatch.setattr(signing_in.time, "time", lambda: at + signing_in.IDLE.total_seconds() + 1)
    assert steps(desk) == "/desk/sign-in?next=/desk/"


def test_ends_a_session_after_a_week_whatever_happens(house: House, desk: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        session.execute(
            update(FsRefreshTracker).values(expires_at=FsRefreshTracker.last_used_at - timedelta(seconds=1))
        )
    assert steps(desk) == "/desk/sign-in?next=/desk/"


def test_asks_once_more_who_it_is_before_what_signs_in_is_changed(
    house: House, app: Flask, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    csrf = form(desk.get("/desk/account"), "/recovery-codes").fields["csrf_token"]
    before = desk.get_cookie(SESSION)
    with desk.session_transaction() as kept:
        kept["fs_paa"] -= signing_in.FRESH.total_seconds() + 60
        kept.pop("fs_gexp", None)
    stale = desk.get_cookie(SESSION)
    assert before is not None
    assert stale is not None
    contents = house.contents()
    for path in ("/desk/account/recovery-codes", "/desk/account/tokens", "/desk/account/authenticator/removal"):
        asked = desk.post(path, data={"csrf_token": csrf, "scope": "full"})
        assert (asked.status_code, asked.location) == (303, "/desk/sign-in/again?next=/desk/account")
    assert desk.get("/desk/account/authenticator").location.endswith("next=/desk/account/authenticator")
    assert house.contents() == contents
    page = desk.get("/desk/sign-in/again?next=/desk/account")
    assert form(page, "/again").submit(desk, password="not-her-password").status_code == 200
    page = desk.get("/desk/sign-in/again?next=/desk/account")
    assert form(page, "/again").submit(desk, password=PASSWORD).location == "/desk/account"
    assert desk.get("/desk/account/authenticator").status_code == 200
    # The token from before is stale, and so is a copy of the cookie.
    assert desk.post("/desk/account/recovery-codes", data={"csrf_token": csrf}).status_code == 400
    thief = app.test_client()
    thief.set_cookie(SESSION, stale.value)
    assert steps(thief) == "/desk/sign-in?next=/desk/"


def test_gives_a_deactivated_moderator_no_way_in(house: House, app: Flask, desk: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        accounts.deactivate(session, ADA)
    assert steps(desk) == "/desk/sign-in?next=/desk/"
    assert sign_in(app.test_client()).status_code == 200


# Known and unknown


def test_answers_alike_with_as_many_hashes_for_who_is_known_and_who_is_not(app: Flask, hashes: list[str]) -> None:
    told = []
    for email in (ADA, BEN, CLEO, NOBODY):
        client = app.test_client()
        page = client.get("/desk/sign-in")
        hashes.clear()
        response = form(page, "/sign-in").submit(client, email=email, password="wrong-password-here")
        body = re.sub(r'value="[^"]*"', "", response.text)
        told.append((response.status_code, len(hashes), body, response.headers.get("Content-Type")))
    assert told[0] == told[1] == told[2] == told[3]
    assert told[0][1] == 1


def test_sends_a_link_or_none_with_the_same_answer(house: House, app: Flask, hashes: list[str]) -> None:
    told = []
    for email in (ADA, CLEO, NOBODY, "no address"):
        client = app.test_client()
        response = form(client.get("/desk/resets"), "/resets").submit(client, email=email)
        told.append((response.status_code, response.text, dict(response.headers) | {"Set-Cookie": ""}))
    assert told[0] == told[1] == told[2] == told[3]
    assert hashes == []
    assert len(house.contents()["outgoing"]) == 1


# Guessing


def test_slows_who_guesses_and_does_not_lock_the_owner_out(app: Flask) -> None:
    owner = desk_of(app)
    form(owner.get("/desk/"), "/sign-out").submit(owner)
    guesser = app.test_client()
    answers = [sign_in(guesser, ADA, f"wrong-password-{number}") for number in range(20)]
    assert [each.status_code for each in answers[:10]] == [200] * 10
    assert {each.status_code for each in answers[10:]} == {429}
    assert answers[-1].headers["Retry-After"] == "900"
    assert "nobody is locked out" in text(answers[-1])
    # Not even with the right password, now, from there.
    assert sign_in(guesser).status_code == 429
    assert sign_in(owner).location == "/desk/"
    # From elsewhere, on a device that is not known, the owner comes in as well.
    elsewhere = app.test_client()
    page = form(elsewhere.get("/desk/sign-in"), "/sign-in")
    sent = elsewhere.post(
        "/desk/sign-in",
        data=page.fields | {"email": ADA, "password": PASSWORD},
        environ_overrides={"REMOTE_ADDR": "192.0.2.7"},
    )
    assert sent.location == "/desk/"


def test_slows_for_unknown_accounts_in_the_same_way(app: Flask) -> None:
    statuses = {}
    for email in (ADA, NOBODY):
        client = app.test_client()
        statuses[email] = [sign_in(client, email, "wrong-password-here").status_code for _ in range(12)]
    assert statuses[ADA] == statuses[NOBODY]


def test_takes_an_address_for_the_same_however_it_is_written(app: Flask) -> None:
    ways = [ADA, ADA.upper(), f" {ADA}", ADA.replace("d", "\uff44").replace("a\uff44a", "ada"), "ada@DESK.example"]
    client = app.test_client()
    statuses = [sign_in(client, way, "wrong-password-here").status_code for way in ways * 3]
    assert statuses == [200] * 10 + [429] * 5


def test_slows_who_guesses_from_everywhere(app: Flask) -> None:
    client = app.test_client()
    page = form(client.get("/desk/sign-in"), "/sign-in")
    statuses = [
        client.post(
            "/desk/sign-in",
            data=page.fields | {"email": NOBODY, "password": "wrong-password-here"},
            environ_overrides={"REMOTE_ADDR": f"192.0.2.{number}"},
        ).status_code
        for number in range(62)
    ]
    assert statuses == [200] * 60 + [429] * 2


def test_slows_who_tries_many_accounts_from_one_network(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    few = signing_in.Bound("network", 3, 900)
    monkeypatch.setattr(signing_in, "_NETWORK", few)
    client = app.test_client()
    tries = [sign_in(client, f"{name}@desk.example", "wrong-password-here").status_code for name in "abcde"]
    assert tries == [200, 200, 200, 429, 429]


def test_slows_who_guesses_codes(app: Flask, desk: FlaskClient) -> None:
    secret = set_up_authenticator(desk)
    client = app.test_client()
    sign_in(client)
    page = form(client.get("/desk/sign-in/code"), "/code")
    statuses = [page.submit(client, code=f"{number:06}").status_code for number in range(12)]
    assert statuses[-2:] == [429, 429]
    assert page.submit(client, code=code(secret)).status_code == 429


def test_takes_another_persons_device_for_no_ones(app: Flask) -> None:
    ben = desk_of(app, BEN)
    form(ben.get("/desk/"), "/sign-out").submit(ben)
    statuses = [sign_in(ben, ADA, "wrong-password-here").status_code for _ in range(11)]
    assert statuses[-1] == 429
    forged = app.test_client()
    forged.set_cookie(DEVICE, "forged.device.cookie")
    assert sign_in(forged, ADA).status_code == 429


def test_counts_in_one_place_for_all_processes_while_redis_is_there(house: House) -> None:
    # Two applications that count in memory know nothing of each other.
    one, other = create_app(house.site), create_app(house.site)
    for _ in range(11):
        sign_in(one.test_client(), ADA, "wrong-password-here")
    assert sign_in(one.test_client()).status_code == 429
    assert sign_in(other.test_client()).location == "/desk/"
    shared = Limits(None)
    one.extensions["limits"] = other.extensions["limits"] = shared
    for _ in range(10):
        sign_in(one.test_client(), BEN, "wrong-password-here")
    assert sign_in(other.test_client(), BEN).status_code == 429


@pytest.mark.parametrize("proxies", [0, 1, 2])
@pytest.mark.parametrize("forged", [1, 3])
def test_believes_a_forged_address_as_far_as_proxies_are_trusted(house: House, proxies: int, forged: int) -> None:
    site = site_over(house.site.database, house.site.settings.data, trusted_proxies=proxies)
    app = create_app(site)

    def tries(number: int) -> int:
        """Try once, with a list of addresses that the sender makes up, and those that trusted proxies add."""
        client = app.test_client()
        made_up = [f"198.51.{each}.{number}" for each in range(forged)]
        # Each trusted proxy adds the address that it saw: the visitor's, then that of the proxy before it.
        added = ["203.0.113.9", "10.0.0.1"][:proxies]
        page = form(client.get("/desk/sign-in"), "/sign-in")
        sent = client.post(
            "/desk/sign-in",
            data=page.fields | {"email": NOBODY, "password": "wrong-password-here"},
            headers={"X-Forwarded-For": ", ".join([*made_up, *added])},
        )
        return sent.status_code

    # Whatever is made up, they are one visitor.
    assert [tries(number) for number in range(12)] == [200] * 10 + [429] * 2


def test_tells_two_visitors_behind_a_trusted_proxy_apart(house: House) -> None:
    app = create_app(site_over(house.site.database, house.site.settings.data, trusted_proxies=1))
    for visitor in ("203.0.113.9", "203.0.113.10"):
        for number in range(11):
            client = app.test_client()
            page = form(client.get("/desk/sign-in"), "/sign-in")
            sent = client.post(
                "/desk/sign-in",
                data=page.fields | {"email": ADA, "password": "wrong-password-here"},
                headers={"X-Forwarded-For": visitor},
            )
            assert sent.status_code == (200 if number < 10 else 429)


def test_logs_each_try_without_who_it_was(app: Flask, desk: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    secret = set_up_authenticator(desk)
    caplog.clear()
    caplog.set_level(logging.INFO)
    client = app.test_client()
    sign_in(client, ADA, "wrong-password-here")
    sign_in(client)
    right = code(secret)
    send_code(client, "000000")
    send_code(client, right)
    told = [record.getMessage() for record in caplog.records if record.name == "emeritus.sign_in"]
    assert [" ".join(each.split(" account=")[0].split()) for each in told] == [
        "password refused",
        "password second factor asked",
        "code refused",
        "code signed in",
    ]
    assert len({re.search(r"account=(\w+)", each)[1] for each in told}) == 1  # type: ignore[index]
    whole = caplog.text
    for secret_word in (ADA, PASSWORD, "wrong-password-here", right, "127.0.0.1"):
        assert secret_word not in whole


# The ledger


def test_tells_the_ledger_of_sign_ins_and_of_changes_to_what_signs_in(
    house: House, app: Flask, desk: FlaskClient
) -> None:
    before = len(events(house))
    set_up_authenticator(desk)
    form(desk.get("/desk/account"), "/authenticator/removal").submit(desk)
    desk_of(app)
    assert events(house)[before:] == ["factor_added", "factor_removed", "signed_in"]
    with house.site.database.reading_sessions() as session:
        assert ledger.verify(session)[1] is None


def test_keeps_no_address_of_who_signed_in(house: House, desk: FlaskClient) -> None:
    with house.site.database.reading_sessions() as session:
        ada = session.get_one(User, accounts.of_moderator(session, house.ada).id)
        assert ada.current_login_at is not None
        assert ada.current_login_ip is None
    assert "127.0.0.1" not in repr(house.contents())
