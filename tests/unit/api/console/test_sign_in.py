"""Signing in: a session stands for its credential, needs a token for changes, and ends with either."""

import re
from functools import partial
from pathlib import Path

import httpx
import pytest

from penstock.api.admin import caller_check
from penstock.control.access.authenticator import Authenticator
from penstock.control.access.refusals import RefusalCounts
from penstock.core.access.attempts import FailedAttempts
from penstock.core.access.keys import digest_of, write_key
from penstock.core.access.refusals import RefusalReason
from penstock.core.access.table import AccessTable, KeyRecord
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import FakeControl, MemoryRegistrar
from tests.unit.api.admin.test_recorded_refusals import Recorder

BROWSER = {"accept": "text/html"}
KEYS = {role: write_key(f"{role[:2]}abcdefghij", bytes(32)) for role in ("viewer", "operator")}
RECORDS = tuple(
    KeyRecord(f"{role[:2]}abcdefghij", f"the-{role}", digest_of(key), (role,)) for role, key in KEYS.items()
)
FORM = "application/x-www-form-urlencoded"


class Browser(Client):
    """A client that keeps the cookie it was given, as a browser does."""

    def __init__(self, folder: Path) -> None:
        self.refusals = RefusalCounts()
        self.authenticator = Authenticator(lambda: 0.0)
        self.authenticator.use(AccessTable(1, True, keys=RECORDS))
        self.registry = MemoryRegistrar(folder)
        super().__init__(FakeControl(), self.registry, self.authenticator, self.refusals)
        self.cookie = ""

    def page(self, path: str) -> httpx.Response:
        return self.get(path, {**BROWSER, **self.fields()})

    def fields(self) -> dict[str, str]:
        return {"cookie": f"theme=dark; {self.cookie}"} if self.cookie else {}

    def post(self, path: str, form: dict[str, str], headers: dict[str, str] | None = None) -> httpx.Response:
        body = str(httpx.QueryParams(form)).encode()
        return self.request("POST", path, {"content-type": FORM, **self.fields(), **(headers or {})}, body)

    def sign_in(self, role: str = "operator", **form: str) -> httpx.Response:
        answer = self.post("/console/sign-in", {"credential": KEYS[role], **form})
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    def token(self) -> str:
        found = re.search(r'data-csrf="([^"]+)"', self.page("/console/models").text)
        return found[1] if found else ""

    def configure(self, **headers: str) -> int:
        body = {"versions": "all", "reason": "test"}
        self.registry.revisions["good"] = 1
        return self.request("PUT", "/admin/v1/models/good/settings", {**self.fields(), **headers}, body).status_code


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


def test_sign_ins_and_failed_ones_are_in_the_audit(browser: Browser) -> None:
    recorder = Recorder()
    browser.refusals.record_with(recorder)
    browser.sign_in("viewer")
    browser.page("/console/models")  # the session goes on
    browser.post("/console/sign-in", {"credential": "wrong"})
    found = [(item.action, item.actor, item.method, item.key_id, item.detail) for item in recorder.refusals]
    assert found == [
        ("session.begin", "the-viewer", "key", "viabcdefghij", "console"),
        ("auth.refuse", "anonymous", "anonymous", "", "malformed"),
    ]
    assert KEYS["viewer"] not in str(recorder.refusals)


def test_a_browser_without_a_credential_is_led_to_the_form_and_back(browser: Browser) -> None:
    answer = browser.page("/console/models/good/monitor/a%2Fb?sort=name")
    assert answer.status_code == 303
    target = "%2Fconsole%2Fmodels%2Fgood%2Fmonitor%2Fa%252Fb%3Fsort%3Dname"
    assert answer.headers["location"] == f"../../../../console/sign-in?next={target}"
    form = browser.page(f"/console/sign-in?next={target}").text
    assert 'value="/console/models/good/monitor/a%2Fb?sort=name"' in form
    signed_in = browser.sign_in(next="/console/models/good/monitor/a%2Fb?sort=name")
    assert (signed_in.status_code, signed_in.headers["location"]) == (
        303,
        "../console/models/good/monitor/a%2Fb?sort=name",
    )
    page = browser.page("/console/models")
    assert page.status_code == 200
    assert "Signed in as the-operator" in page.text
    assert browser.page("/console/sign-in").headers["location"] == "../console/models"


def test_programs_get_401_and_no_page(browser: Browser) -> None:
    answer = browser.get("/console/models")
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
    assert browser.get("/admin/v1/models", BROWSER).status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_plain_connections(browser: Browser) -> None:
    plain = browser.post("/console/sign-in", {"credential": KEYS["viewer"]}).headers["set-cookie"]
    assert re.fullmatch(r"penstock-session=[\w-]{43}; Path=/; HttpOnly; SameSite=Strict", plain)
    secure = browser.post("/console/sign-in", {"credential": KEYS["viewer"]}, {"x-forwarded-proto": "https"})
    field = secure.headers["set-cookie"]
    assert re.fullmatch(r"__Host-penstock-session=[\w-]{43}; Path=/; HttpOnly; SameSite=Strict; Secure", field)
    browser.cookie = field.partition(";")[0]
    assert browser.page("/console/models").status_code == 200


def test_over_tls_a_cookie_that_others_can_set_does_not_count(browser: Browser) -> None:
    browser.sign_in()
    secure = {**browser.fields(), "x-forwarded-proto": "https"}
    assert browser.cookie.startswith("penstock-session=")
    assert browser.get("/admin/v1/whoami", browser.fields()).status_code == 200
    assert browser.get("/admin/v1/whoami", secure).status_code == 401
    secure["cookie"] = f"__Host-{browser.cookie}"
    assert browser.get("/admin/v1/whoami", secure).status_code == 200


def test_a_change_by_cookie_needs_the_token_of_the_session(browser: Browser) -> None:
    browser.sign_in()
    token = browser.token()
    assert len(token) == 43
    assert browser.configure() == 403
    assert browser.configure(**{"penstock-csrf": "x" * 43}) == 403
    assert browser.configure(**{"penstock-csrf": token}) == 200
    assert browser.registry.changes[-1]["actor"] == "the-operator"
    assert browser.configure(authorization=f"Bearer {KEYS['operator']}") == 200  # no cookie decides
    assert browser.refusals.totals()[RefusalReason.NOT_PERMITTED, False] == 2


def test_a_session_may_do_what_its_credential_may(browser: Browser) -> None:
    browser.sign_in("viewer")
    token = browser.token()
    assert browser.configure(**{"penstock-csrf": token}) == 403
    assert browser.get("/admin/v1/whoami", browser.fields()).json()["name"] == "the-viewer"


def test_revocation_ends_the_session_for_good(browser: Browser) -> None:
    browser.sign_in()
    browser.authenticator.use(AccessTable(2, True))
    assert browser.get("/admin/v1/whoami", browser.fields()).status_code == 401
    browser.authenticator.use(AccessTable(3, True, keys=RECORDS))
    assert browser.get("/admin/v1/whoami", browser.fields()).status_code == 401
    assert browser.page("/console/models").status_code == 303


def test_signing_out_needs_the_token_and_ends_the_session(browser: Browser) -> None:
    browser.sign_in()
    token = browser.token()
    assert browser.post("/console/sign-out", {"csrf": "x"}).status_code == 403
    assert browser.page("/console/models").status_code == 200
    answer = browser.post("/console/sign-out", {"csrf": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "../console/sign-in")
    assert all("Max-Age=0" in field for field in answer.headers.get_list("set-cookie"))
    assert browser.page("/console/models").status_code == 303
    assert browser.post("/console/sign-out", {}).status_code == 303  # nothing is left to end


def test_a_bad_credential_gets_the_form_again_and_is_counted_and_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_check, "FailedAttempts", partial(FailedAttempts, 3, 1e-6))
    browser = Browser(tmp_path)
    for credential, reason in (("nonsense", RefusalReason.MALFORMED), ("", RefusalReason.MALFORMED)):
        answer = browser.post("/console/sign-in", {"credential": credential})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert 'role="alert"' in answer.text
        assert "set-cookie" not in answer.headers
        assert browser.refusals.totals()[reason, False] >= 1
    assert [browser.post("/console/sign-in", {"credential": f"pk_{n}"}).status_code for n in range(2)] == [401, 429]
    limited = browser.post("/console/sign-in", {"credential": "x"})
    assert int(limited.headers["retry-after"]) >= 1
    assert browser.sign_in().status_code == 303  # a valid one is never refused


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/console/../../evil",
        "/console//evil",
        "/console/%2e%2E/evil",
        "/console/.%2e/evil",
        "javascript:alert(1)",
        "/admin/v1/keys",
        "/console/sign-out",
        "/console/models\r\nset-cookie: x=1",
        "/console/" + "a" * 3000,
    ],
)
def test_signing_in_leads_nowhere_else(browser: Browser, target: str) -> None:
    assert browser.sign_in(next=target).headers["location"] == "../console/models"


def test_only_small_forms_are_read(browser: Browser) -> None:
    assert browser.post("/console/sign-in", {}, {"content-type": "application/json"}).status_code == 400
    assert browser.post("/console/sign-in", {"credential": "x" * 20_000}).status_code == 413
    assert browser.post("/console/sign-in", {f"f{n}": "1" for n in range(9)}).status_code == 400
    body = {"content-type": FORM}
    assert browser.request("POST", "/console/sign-in", body, b"credential=\xff").status_code == 400


def test_without_authentication_nobody_signs_in(client: Client) -> None:
    assert client.get("/console/sign-in", BROWSER).headers["location"] == "../console/models"
    answer = client.request("POST", "/console/sign-in", {"content-type": FORM}, b"credential=x")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_person_without_the_permission_gets_a_page_that_says_so(browser: Browser) -> None:
    key = write_key("caabcdefghij", bytes(32))
    record = KeyRecord("caabcdefghij", "app", digest_of(key), ("caller",))
    browser.authenticator.use(AccessTable(2, True, keys=(*RECORDS, record)))
    answer = browser.post("/console/sign-in", {"credential": key})
    browser.cookie = answer.headers["set-cookie"].partition(";")[0]
    page = browser.page("/console/models")
    assert page.status_code == 403
    assert "the caller needs the permission &#x27;read&#x27; for a model" in page.text
    assert browser.page("/console/access").status_code == 200
