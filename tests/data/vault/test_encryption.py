"""An encrypted data set: read with its key and with no other, and no byte of it changes unnoticed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core import durable
from lifechart.core.errors import AccessDenied, AuditError, InputError, IntegrityError, StorageError
from lifechart.data import retention, shards
from lifechart.data.vault import encryption, keys, sealed
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.log import Log as RealLog
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace
from tests.data.samples import Log, patient, resource, take, write


def _records(folder: Path) -> Path:
    lines = [line for n in range(40) for line in (patient(f"p{n}"), resource("Observation", f"o{n}", f"p{n}"))]
    return write(folder / "in" / "all.ndjson", *lines).parent


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """This process's recipient, its identity where the settings say."""
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    return keys.make(tmp_path / "home" / "keys" / "vault.key")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    take(_records(tmp_path), tmp_path / "plain")
    return tmp_path / "plain"


@pytest.fixture
def locked(plain: Path, tmp_path: Path, mine: str) -> Path:
    encryption.encrypt(plain, tmp_path / "locked", [mine], log=Log())
    return tmp_path / "locked"


def test_an_encrypted_data_set_reads_as_the_plain_one(plain: Path, locked: Path) -> None:
    for split in shards.SPLITS:
        assert shards.read_split(locked, split).equals(shards.read_split(plain, split))
    assert shards.codes(locked).equals(shards.codes(plain))
    assert shards.names(locked) == shards.names(plain)
    assert shards.dataset_digest(locked) == shards.dataset_digest(plain) == shards.verify(locked)


def test_nothing_of_it_is_plain_on_disk(plain: Path, locked: Path) -> None:
    files = [path for path in locked.rglob("*") if path.is_file()]
    assert {path.suffix for path in files if path.name != "vault.json"} == {".age"}
    assert len(files) == 1 + sum(path.is_file() for path in plain.rglob("*"))
    content = b"".join(path.read_bytes() for path in files)
    for secret in (b"LOINC", b"HbA1c", b"PAR1", b"subject_id", b"AGE-SECRET-KEY"):
        assert secret not in content
    assert any(b"PAR1" in path.read_bytes() for path in plain.rglob("*.parquet"))


def test_without_a_key_or_with_a_wrong_one_it_says_whose_key_is_needed(
    locked: Path, tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match=rf"LIFECHART_VAULT_IDENTITY.*{mine}"):
        shards.read_split(locked, "train")
    keys.make(tmp_path / "elsewhere" / "keys" / "vault.key")
    with pytest.raises(AccessDenied, match=rf"no key in .* opens it; it is encrypted for .*{mine}"):
        shards.read_split(locked, "train")
    monkeypatch.setenv("LIFECHART_VAULT_IDENTITY", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="vault key"):
        shards.codes(locked)


def test_any_tool_that_knows_age_can_read_it_with_the_released_key(plain: Path, locked: Path) -> None:
    secret = sealed.unlock(locked).secret
    content = pyrage.decrypt((locked / "metadata" / "codes.parquet.age").read_bytes(), [secret])
    assert content == (plain / "metadata" / "codes.parquet").read_bytes()
    # The data set's own key is an identity like any other: what a release hands over.
    assert sealed.unlock(locked, [secret]).vault.dataset == shards.dataset_digest(plain)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("vault")
    take(_records(folder), folder / "plain")
    identity = pyrage.x25519.Identity.generate()
    encryption.encrypt(folder / "plain", folder / "locked", [str(identity.to_public())], log=Log())
    return folder / "locked", identity


def _everything(folder: Path, identity: Any) -> dict[str, bytes]:
    opened = sealed.unlock(folder, [identity])
    return {name: opened.read(name) for name in opened.vault.files}


@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_refused(shared: tuple[Path, Any], data: st.DataObject) -> None:
    folder, identity = shared
    path = data.draw(st.sampled_from(sorted(folder.rglob("*.age"))))
    content = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    try:
        path.write_bytes(changed)
        with pytest.raises(IntegrityError, match=path.name):
            _everything(folder, identity)
    finally:
        path.write_bytes(content)
    assert _everything(folder, identity)


@given(data=st.data())
def test_a_changed_byte_of_the_description_is_refused_or_means_the_same(
    shared: tuple[Path, Any], data: st.DataObject
) -> None:
    folder, identity = shared
    path = folder / "vault.json"
    content, before = path.read_bytes(), _everything(folder, identity)
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(changed)
        try:
            after = _everything(folder, identity)
        except (IntegrityError, AccessDenied):
            return
        assert after == before
    finally:
        path.write_bytes(content)


def _edit(folder: Path, **fields: Any) -> None:
    said = orjson.loads((folder / "vault.json").read_bytes())
    (folder / "vault.json").write_bytes(orjson.dumps(said | fields))


@pytest.mark.parametrize(
    "fields",
    [
        *({"files": value} for value in ([], {"a": 1}, {"../../a": "0"}, {"/etc/a": "0"})),
        *({"keys": value} for value in (None, {"age1": 7}, {"age1": "?"})),
        {"mac": 1},
        {"dataset": None},
        {"format": "lifechart-vault/2"},
    ],
)
def test_a_description_of_another_shape_is_refused(locked: Path, fields: dict[str, Any]) -> None:
    _edit(locked, **fields)
    with pytest.raises(IntegrityError, match=r"vault\.json"):
        sealed.unlock(locked)


def test_swapped_missing_and_added_files_are_refused(locked: Path, plain: Path, tmp_path: Path, mine: str) -> None:
    shard = next((locked / "data" / "train").iterdir())
    kept = shard.read_bytes()
    other = next((locked / "data" / "tuning").iterdir())
    shard.write_bytes(other.read_bytes())
    with pytest.raises(IntegrityError, match="bytes are not those"):
        shards.read_split(locked, "train")
    shard.unlink()
    with pytest.raises(IntegrityError, match="not there"):
        shards.read_split(locked, "train")
    shard.write_bytes(kept)
    (locked / "data" / "train" / "more.parquet.age").write_bytes(kept)
    with pytest.raises(IntegrityError, match="not named in"):
        shards.verify(locked)


def test_a_forger_who_knows_only_the_public_key_is_refused(locked: Path) -> None:
    """Anybody can encrypt for a public key; that makes no data set."""
    vault = sealed.Vault.load(locked)
    target = next((locked / "data" / "train").iterdir())
    forged = pyrage.encrypt(b"PAR1 forged", [pyrage.x25519.Recipient.from_str(vault.recipient)])
    target.write_bytes(forged)
    name = target.relative_to(locked).as_posix().removesuffix(".age")
    _edit(locked, files=dict(vault.files) | {name: hashlib.sha256(forged).hexdigest()})
    with pytest.raises(IntegrityError, match="not written by a holder of the key"):
        shards.read_split(locked, "train")


def test_the_key_of_another_data_set_is_refused(locked: Path, plain: Path, tmp_path: Path, mine: str) -> None:
    encryption.encrypt(plain, tmp_path / "second", [mine], log=Log())
    _edit(locked, keys=orjson.loads((tmp_path / "second" / "vault.json").read_bytes())["keys"])
    with pytest.raises(IntegrityError, match="another data set's"):
        shards.read_split(locked, "train")


def test_an_older_encrypted_copy_of_other_data_is_another_data_set(locked: Path, tmp_path: Path) -> None:
    _edit(locked, dataset="0" * 64)
    with pytest.raises(IntegrityError):
        shards.dataset_digest(locked)


def test_grant_lets_one_more_in_and_leaves_the_files_alone(
    locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = keys.make(tmp_path / "theirs.key")
    before = {path: path.read_bytes() for path in locked.rglob("*.age")}
    log = Log()
    encryption.grant(locked, theirs, log=log)
    assert {path: path.read_bytes() for path in locked.rglob("*.age")} == before
    assert theirs in log.statements[0].predicate["recipients"]
    monkeypatch.setenv("LIFECHART_VAULT_IDENTITY", str(tmp_path / "theirs.key"))
    assert shards.read_split(locked, "train").height


def test_encrypted_anew_it_has_another_key_and_the_same_name(
    locked: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = sealed.unlock(locked).secret
    theirs = keys.make(tmp_path / "theirs.key")
    made = encryption.encrypt(locked, tmp_path / "anew", [theirs], log=Log())
    assert made.dataset == shards.dataset_digest(plain)
    assert made.digest != sealed.Vault.load(locked).digest
    with pytest.raises(AccessDenied):
        sealed.unlock(tmp_path / "anew", [old])
    monkeypatch.setenv("LIFECHART_VAULT_IDENTITY", str(tmp_path / "theirs.key"))
    assert shards.verify(tmp_path / "anew") == made.dataset


def test_decrypt_gives_the_same_bytes_back(plain: Path, locked: Path, tmp_path: Path) -> None:
    log = Log()
    encryption.decrypt(locked, tmp_path / "again", log=log)
    for path in plain.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(plain)).read_bytes() == path.read_bytes()
    assert [statement.kind for statement in log.statements] == ["decrypt"]
    with pytest.raises(InputError, match="an encrypted data set"):
        encryption.decrypt(plain, tmp_path / "more", log=log)


class Refusing:
    def append(self, statement: Statement) -> None:
        raise AuditError("no room")


def test_without_a_statement_nothing_appears(plain: Path, locked: Path, tmp_path: Path, mine: str) -> None:
    for make in (
        lambda: encryption.encrypt(plain, tmp_path / "x", [mine], log=Refusing()),
        lambda: encryption.decrypt(locked, tmp_path / "x", log=Refusing()),
        lambda: encryption.grant(locked, keys.make(tmp_path / "y.key"), log=Refusing()),
    ):
        with pytest.raises(AuditError):
            make()
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / ".x.vault").exists()
    assert list(sealed.Vault.load(locked).wrapped) == [mine]


def test_a_data_set_that_is_not_what_its_manifest_says_is_not_encrypted(plain: Path, tmp_path: Path, mine: str) -> None:
    (plain / "metadata" / "dataset.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"dataset\.json"):
        encryption.encrypt(plain, tmp_path / "x", [mine], log=Log())


@pytest.mark.parametrize("bad", ["", "age1", "kms:", "AGE-SECRET-KEY-1QQQ", "age1" + "q" * 58, "ssh-ed25519 AAAA"])
def test_what_is_no_recipient_is_refused(plain: Path, tmp_path: Path, bad: str) -> None:
    with pytest.raises(InputError, match="recipient"):
        encryption.encrypt(plain, tmp_path / "x", [bad], log=Log())
    with pytest.raises(InputError, match="--to"):
        encryption.encrypt(plain, tmp_path / "x", [], log=Log())


def test_identity_files_are_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "my.key"
    keys.make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="never overwritten"):
        keys.make(path)
    path.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        keys.load(path)
    path.chmod(0o600)
    path.write_text("AGE-SECRET-KEY-1WRONG\n")
    with pytest.raises(InputError) as refused:
        keys.load(path)
    assert "WRONG" not in str(refused.value)
    path.write_text("# nothing\n")
    with pytest.raises(InputError, match="at least one"):
        keys.load(path)


_SERVICE = """
import sys
verb, name = sys.argv[1:]
mask = (name * 100).encode()
if name == "gone": sys.exit(3)
sys.stdout.buffer.write(bytes(a ^ b for a, b in zip(sys.stdin.buffer.read(), mask)))
"""


def test_a_key_service_wraps_and_unwraps(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "service.py"
    script.write_text(_SERVICE)
    with pytest.raises(InputError, match="LIFECHART_KMS_COMMAND"):
        encryption.encrypt(plain, tmp_path / "x", ["kms:research"], log=Log())
    monkeypatch.setenv("LIFECHART_KMS_COMMAND", f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}")
    with pytest.raises(AccessDenied, match="exit status 3"):
        encryption.encrypt(plain, tmp_path / "x", ["kms:gone"], log=Log())
    encryption.encrypt(plain, tmp_path / "x", ["kms:research"], log=Log())
    assert shards.verify(tmp_path / "x") == shards.dataset_digest(plain)


def test_ingest_writes_an_encrypted_data_set_and_keeps_nothing_plain(tmp_path: Path, mine: str) -> None:
    log = Log()
    take(_records(tmp_path), tmp_path / "plain")
    (tmp_path / "volume").mkdir()
    account, _ = take(tmp_path / "in", tmp_path / "out", log=log, encrypt_to=[mine], work=tmp_path / "volume")
    assert [statement.kind for statement in log.statements][-2:] == ["ingest", "encrypt"]
    assert account.dataset_digest == shards.dataset_digest(tmp_path / "plain") == shards.verify(tmp_path / "out")
    assert log.statements[-1].predicate["dataset"] == account.dataset_digest
    assert not any((tmp_path / "volume").iterdir())
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(InputError, match="--work"):
        take(tmp_path / "in", tmp_path / "more", work=tmp_path)
    with pytest.raises(InputError, match="recipient"):
        take(tmp_path / "in", tmp_path / "more", encrypt_to=["nobody"])
    assert not list(tmp_path.glob(".*"))


def test_lineage_holds_through_encryption(plain: Path, tmp_path: Path, mine: str) -> None:
    """A model trained on an encrypted copy rests on the ingest; so does the copy itself, also when encrypted anew."""
    signer = Signer.generate("test")
    with RealLog(tmp_path / "log", "test", Verifier([signer.public]), signer) as log:
        digest = shards.dataset_digest(plain)
        log.append(Statement("ingest", (Subject("dataset", digest),), {"inputs": "1" * 64}))
        first = encryption.encrypt(plain, tmp_path / "a", [mine], log=log)
        second = encryption.encrypt(tmp_path / "a", tmp_path / "b", [mine], log=log)
        encryption.decrypt(tmp_path / "b", tmp_path / "c", log=log)
        model = "2" * 64
        log.append(Statement("train", (Subject("model", model),), {"dataset": shards.dataset_digest(tmp_path / "b")}))
        for start in (model, first.digest, second.digest, digest):
            assert "1" * 64 in trace(log, start).nodes


def test_a_killed_encryption_leaves_no_half_of_one(plain: Path, tmp_path: Path, mine: str) -> None:
    left = tmp_path / ".x.vault"
    (left / "data").mkdir(parents=True)
    (left / "data" / "old.age").write_bytes(b"half")
    encryption.encrypt(plain, tmp_path / "x", [mine], log=Log())
    assert not left.exists()
    assert shards.verify(tmp_path / "x")
    shutil.rmtree(tmp_path / "x")
    assert os.listdir(tmp_path)


def test_retention_knows_an_encrypted_data_set_without_its_key(
    plain: Path, tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer.generate("test")
    with RealLog(tmp_path / "log", "test", Verifier([signer.public]), signer) as log:
        digest = shards.dataset_digest(plain)
        log.append(Statement("ingest", (Subject("dataset", digest),), {"inputs": "1" * 64}))
        encryption.encrypt(plain, tmp_path / "kept" / "locked", [mine], log=log)
        monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "elsewhere"))
        (found,) = retention.things(log, [tmp_path / "kept"], retention.load())
        assert (found.kind, found.digest) == ("dataset", digest)


def test_a_full_disk_leaves_no_half_of_a_copy(
    plain: Path, tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replacing, left = durable.replacing, [3]

    @contextlib.contextmanager
    def full(path: Path) -> Iterator[Path]:
        left[0] -= 1
        with replacing(path) as aside:
            yield aside
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "replacing", full)
    with pytest.raises(StorageError, match="no space left"):
        encryption.encrypt(plain, tmp_path / "x", [mine], log=Log())
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / ".x.vault").exists()
