"""A bulk export over real HTTP from the simulated EHR: tokens, patience, whole files, and going on after a kill."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey

from lifechart.core.errors import InputError, LifechartError
from lifechart.data.sources.fhir import source
from lifechart.data.sources.fhir_export import Exported, Request, export
from lifechart.data.sources.fhir_server import Client, ExportFailed, Server, load_key, new_key, public_key, retry_after
from lifechart.simulate import hospital as hospitals
from lifechart.simulate.ehr import create_ehr
from tests.data.samples import take

Scope = dict[str, Any]
Trouble = Callable[[Scope], tuple[int, dict[str, str]] | None]
"""What an answer is instead of the server's own: (status, headers); None: its own."""


class Troubled:
    """The EHR behind a network that gives trouble now and then; keeps what was asked."""

    def __init__(self, app: Any, trouble: Trouble | None = None) -> None:
        self.app, self.trouble = app, trouble
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {key.decode(): value.decode() for key, value in scope["headers"]}
            self.asked.append((scope["method"], scope["path"], headers))
            answer = self.trouble(scope) if self.trouble else None
            if answer is not None:
                status, extra = answer
                if status == 0:  # the connection breaks in the middle of a body
                    length = [(b"content-length", b"1000")]
                    await send({"type": "http.response.start", "status": 200, "headers": length})
                    await send({"type": "http.response.body", "body": b'{"resourceType":', "more_body": True})
                    raise ConnectionResetError
                listed = [(key.encode(), value.encode()) for key, value in extra.items()]
                await send({"type": "http.response.start", "status": status, "headers": listed})
                await send({"type": "http.response.body", "body": b"Quillfeather"})
                return
        await self.app(scope, receive, send)

    def paths(self, method: str = "GET") -> list[str]:
        return [path for how, path, _ in self.asked if how == method]


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on a port of its own; yield the FHIR base address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/fhir"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital")
    hospitals.simulate(folder, 40, 3, date(2026, 1, 1))
    return folder / "fhir"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "key.jwk")
    return tmp_path / "key.jwk"


def known(key: Path) -> dict[str, Any]:
    return {"lifechart": {"keys": [public_key(key)]}}


def fetch(base: str, out: Path, key: Path | None, request: Request | None = None, **more: Any) -> Exported:
    client = Client("lifechart", key) if key else Client()
    return export(base, out, client, request, progress=False, sleep=lambda _: None, **more)


def lines_of(folder: Path) -> dict[str, list[bytes]]:
    """Return the lines by type, in the order of the parts."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(folder.glob("*.ndjson*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found.setdefault(path.name.split(".")[0], []).extend(content.splitlines())
    return found


def test_an_export_brings_everything_and_is_read_like_the_files_themselves(
    records: Path, key: Path, tmp_path: Path
) -> None:
    app = Troubled(create_ehr(records, clients=known(key)))
    with serving(app) as base:
        found = fetch(base, tmp_path / "out", key)
    assert lines_of(tmp_path / "out") == lines_of(records)
    manifest = orjson.loads((tmp_path / "out" / "export.json").read_bytes())
    assert found.files == len(manifest["output"]) == len(list((tmp_path / "out").glob("*.ndjson")))
    assert found.resources.total() == sum(entry["count"] for entry in manifest["output"])
    assert len({entry["file"] for entry in manifest["output"] if entry["type"] == "Observation"}) > 1
    assert source.record_end(tmp_path / "out") == found.transaction_time
    assert app.paths("DELETE") == [path for path in app.paths() if "bulk-status" in path][:1]
    one, events = take(tmp_path / "out", tmp_path / "a", as_of=datetime(2026, 1, 1))
    assert one.of("quarantined") == 0
    assert events.height > 1_000


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (Request("patient", types=("Patient", "Condition")), "/fhir/Patient/$export"),
        (Request("group", "tenth-3"), "/fhir/Group/tenth-3/$export"),
        (Request(types=("Condition",), since="2025-01-01T00:00:00Z"), "/fhir/$export"),
    ],
)
def test_levels_types_and_since_are_asked_for(
    records: Path, key: Path, tmp_path: Path, request_: Request, path: str
) -> None:
    app = Troubled(create_ehr(records, clients=known(key)))
    with serving(app) as base:
        fetch(base, tmp_path / "out", key, request_, packed=True)
    assert path in app.paths()
    found, whole = lines_of(tmp_path / "out"), lines_of(records)
    assert all(set(lines) <= set(whole[type_]) for type_, lines in found.items())
    if request_.level == "group":
        assert 0 < len(found["Patient"]) < len(whole["Patient"])
        assert "Practitioner" not in found
    else:
        assert set(found) == set(request_.types)
    if request_.since:
        assert 0 < len(found["Condition"]) < len(whole["Condition"])


def test_what_passes_is_waited_out(records: Path, key: Path, tmp_path: Path) -> None:
    waits: list[float] = []
    troubles = [(503, {}), (429, {"Retry-After": "7"}), (502, {}), (500, {}), (0, {}), (0, {})]

    def trouble(scope: Scope) -> tuple[int, dict[str, str]] | None:
        return troubles.pop() if troubles and scope["path"] != "/auth/token" and "smart" not in scope["path"] else None

    with serving(Troubled(create_ehr(records, clients=known(key)), trouble)) as base:
        client = Client("lifechart", key)
        export(base, tmp_path / "out", client, progress=False, sleep=waits.append)
    assert troubles == []
    assert 7.0 in waits
    assert lines_of(tmp_path / "out") == lines_of(records)


def test_a_file_that_breaks_off_is_fetched_again_and_never_kept_half(records: Path, key: Path, tmp_path: Path) -> None:
    broken = [2]

    def trouble(scope: Scope) -> tuple[int, dict[str, str]] | None:
        if "bulk-files" in scope["path"] and "Observation" in scope["path"] and broken[0]:
            broken[0] -= 1
            return 0, {}
        return None

    with serving(Troubled(create_ehr(records, clients=known(key)), trouble)) as base:
        fetch(base, tmp_path / "out", key)
    assert broken == [0]
    assert lines_of(tmp_path / "out") == lines_of(records)


def test_a_token_that_ends_on_the_way_is_renewed(records: Path, key: Path, tmp_path: Path) -> None:
    refused = [1]

    def trouble(scope: Scope) -> tuple[int, dict[str, str]] | None:
        if "bulk-files" in scope["path"] and refused[0]:
            refused[0] -= 1
            return 401, {}
        return None

    app = Troubled(create_ehr(records, clients=known(key)), trouble)
    with serving(app) as base:
        fetch(base, tmp_path / "out", key)
    assert app.paths("POST") == ["/auth/token"] * 2


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_is_said_without_the_servers_words(records: Path, key: Path, tmp_path: Path, status: int) -> None:
    app = Troubled(
        create_ehr(records, clients=known(key)), lambda scope: (status, {}) if "export" in scope["path"] else None
    )
    with serving(app) as base, pytest.raises(ExportFailed, match=f"kick-off: the server answers {status}") as error:
        fetch(base, tmp_path / "out", key)
    assert "Quillfeather" not in str(error.value)
    assert isinstance(error.value, LifechartError)


def test_a_server_that_never_recovers_is_given_up(records: Path, key: Path, tmp_path: Path) -> None:
    app = Troubled(
        create_ehr(records, clients=known(key)), lambda scope: (503, {}) if "status" in scope["path"] else None
    )
    with serving(app) as base, pytest.raises(ExportFailed, match="status: the server answers 503"):
        fetch(base, tmp_path / "out", key)
    with serving(create_ehr(records, bulk_polls=10_000)) as base, pytest.raises(ExportFailed, match="not ready after"):
        fetch(base, tmp_path / "other", None, patience=20)


def test_it_goes_on_with_finished_files_kept(records: Path, key: Path, tmp_path: Path) -> None:
    stop = [True]

    def trouble(scope: Scope) -> tuple[int, dict[str, str]] | None:
        return (403, {}) if stop[0] and "/Observation" in scope["path"] else None

    app = Troubled(create_ehr(records, clients=known(key)), trouble)
    with serving(app) as base:
        with pytest.raises(ExportFailed, match=r"Observation\.0000"):
            fetch(base, tmp_path / "out", key)
        with pytest.raises(InputError, match="finished export"):
            source.files(tmp_path / "out")
        before = [path for path in app.paths() if "bulk-files" in path]
        (tmp_path / "out" / "Condition.0000.ndjson").write_bytes(b"changed meanwhile\n")
        stop[0] = False
        app.asked.clear()
        assert fetch(base, tmp_path / "out", key).resumed
    again = [path for path in app.paths() if "bulk-files" in path]
    assert not [path for path in app.paths() if path.endswith("$export")]
    assert {path.split("/")[-1] for path in again} & {path.split("/")[-1] for path in before} == {
        "Condition-0.ndjson",
        "Observation-0.ndjson",
    }
    assert lines_of(tmp_path / "out") == lines_of(records)


def test_an_export_that_the_server_has_forgotten_is_asked_for_anew(records: Path, key: Path, tmp_path: Path) -> None:
    with serving(create_ehr(records, clients=known(key), bulk_polls=100)) as base:
        with pytest.raises(ExportFailed, match="not ready"):
            fetch(base, tmp_path / "out", key, patience=2)
        state = orjson.loads((tmp_path / "out" / ".export.json").read_bytes())
        state["status_url"] = f"{base}/bulk-status/forgotten"
        (tmp_path / "out" / ".export.json").write_bytes(orjson.dumps(state))
        fetch(base, tmp_path / "out", key)
    assert lines_of(tmp_path / "out") == lines_of(records)


def test_killed_in_the_middle_the_same_command_goes_on(records: Path, tmp_path: Path) -> None:
    environment = os.environ | {"LIFECHART_HOME": str(tmp_path / "home"), "LIFECHART_FHIR_CLIENT_ID": "lifechart"}
    lifechart = [sys.executable, "-m", "lifechart.cli"]
    registered = subprocess.run([*lifechart, "export-key"], env=environment, check=True, stdout=subprocess.PIPE).stdout
    slow = threading.Event()

    def trouble(scope: Scope) -> tuple[int, dict[str, str]] | None:
        if "bulk-files" in scope["path"] and "Observation" in scope["path"] and not slow.is_set():
            return 503, {"Retry-After": "60"}
        return None

    app = Troubled(create_ehr(records, clients={"lifechart": orjson.loads(registered)}), trouble)
    with serving(app) as base:
        command = [*lifechart, "export", base, "--out", str(tmp_path / "out")]
        first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not any("Observation" in path for path in app.paths()) and time.monotonic() < deadline:
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait()
        kept = {path.name for path in (tmp_path / "out").glob("*.ndjson")}
        assert kept
        assert not (tmp_path / "out" / "export.json").exists()
        slow.set()
        app.asked.clear()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    fetched = {path.split("/")[-1].replace("-", ".000") for path in app.paths() if "bulk-files" in path}
    assert not fetched & kept
    assert lines_of(tmp_path / "out") == lines_of(records)
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_something_else_is_refused(records: Path, key: Path, tmp_path: Path) -> None:
    with serving(create_ehr(records, clients=known(key))) as base:
        fetch(base, tmp_path / "out", key, Request(types=("Patient",)))
        with pytest.raises(InputError, match="does not hold an export yet"):
            fetch(base, tmp_path / "out", key, Request(types=("Patient",)))
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "Patient.ndjson").write_bytes(b"{}\n")
        with pytest.raises(InputError, match="an empty folder"):
            fetch(base, tmp_path / "other", key)


def test_without_a_known_key_nothing_comes(records: Path, key: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "stranger.jwk")
    with serving(create_ehr(records, clients=known(key))) as base:
        with pytest.raises(ExportFailed, match="token: 400"):
            fetch(base, tmp_path / "out", tmp_path / "stranger.jwk")
        with pytest.raises(ExportFailed, match="kick-off: the server answers 401"):
            fetch(base, tmp_path / "out", None)


def assertion(key: Path, base: str, **changed: Any) -> str:
    signer = load_key(key)
    signer.ensure_kid()
    now = int(time.time())
    address = base.removesuffix("/fhir") + "/auth/token"
    claims = {"iss": "lifechart", "sub": "lifechart", "aud": address, "exp": now + 240, "jti": "1"} | changed
    header = {"alg": "ES384", "kid": signer.kid, "typ": "JWT"}
    return jwt.encode(header, {name: value for name, value in claims.items() if value}, signer, algorithms=["ES384"])


def test_the_token_endpoint_believes_only_a_fresh_assertion_meant_for_it(records: Path, key: Path) -> None:
    with serving(create_ehr(records, clients=known(key))) as base:

        def status(**changed: Any) -> int:
            form = {
                "grant_type": "client_credentials",
                "scope": "system/*.read",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": assertion(key, base, **changed),
            }
            return httpx.post(base.removesuffix("/fhir") + "/auth/token", data=form).status_code

        assert status() == 200
        assert status() == 400, "an assertion is good once"
        bad = [
            {"aud": "https://elsewhere.example/token"},
            {"exp": int(time.time()) - 60},
            {"exp": int(time.time()) + 86_400},
            {"sub": "another"},
            {"iss": "another"},
            {"jti": None},
        ]
        for number, changed in enumerate(bad):
            assert status(**{"jti": f"x{number}"} | changed) == 400, changed


def test_the_token_goes_to_nobody_else(key: Path) -> None:
    server = Server("http://127.0.0.1:1/fhir", Client(token="secret"))
    with server, pytest.raises(ExportFailed, match="may not have its token"):
        server.get("http://127.0.0.1:2/file", "file", accept="x")
    with pytest.raises(InputError, match="an https address"):
        Server("http://ehr.example/fhir", Client())
    with pytest.raises(InputError, match="--client-id"):
        Server("https://ehr.example/fhir", Client(key=key))


def test_keys_of_both_kinds_sign_and_others_are_refused(tmp_path: Path) -> None:
    rsa = RSAKey.generate_key(2048, private=True)
    (tmp_path / "rsa.pem").write_bytes(rsa.as_pem(private=True))
    assert public_key(tmp_path / "rsa.pem")["alg"] == "RS384"
    assert "d" not in public_key(tmp_path / "rsa.pem")
    (tmp_path / "public.pem").write_bytes(rsa.as_pem(private=False))
    (tmp_path / "words").write_text("not a key")
    (tmp_path / "half.jwk").write_text('{"kty": "EC"}')
    for name in ("public.pem", "words", "half.jwk", "absent"):
        with pytest.raises(InputError, match="--key"):
            load_key(tmp_path / name)
    new_key(tmp_path / "keys" / "new.jwk")
    assert (tmp_path / "keys" / "new.jwk").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "request_",
    [
        Request("everything"),
        Request("group"),
        Request("group", "../x"),
        Request("system", "x"),
        Request(types=("Patients",)),
        Request(since="yesterday"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anybody_is_asked(request_: Request, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        export("https://127.0.0.1:1/fhir", tmp_path / "out", Client(), request_)


def test_how_long_to_wait_is_a_number_or_a_date() -> None:
    def stated(text: str) -> float | None:
        return retry_after(httpx.Response(503, headers={"Retry-After": text}))

    assert stated("7") == 7.0
    assert stated("Fri, 31 Dec 1999 23:59:59 GMT") == 0.0
    assert stated("soon") is None
    assert retry_after(httpx.Response(503)) is None
