"""The log: receipts, reading back, proofs, other processes."""

import shutil
from pathlib import Path

import pytest

from lifechart.core.errors import AuditError, InputError, IntegrityError
from lifechart.core.settings import Settings
from lifechart.ledger import checkpoint, merkle
from lifechart.ledger.log import Log, open_log, public_verifier
from lifechart.ledger.statement import Statement, Subject


def statement(number: int, kind: str = "train") -> Statement:
    return Statement(kind, (Subject("thing", f"{number:064x}"),), {"number": number})


def test_appended_statements_read_back(tmp_path: Path) -> None:
    log = open_log(Settings(home=tmp_path))
    receipts = [log.append(statement(number)) for number in range(3)]
    receipts += log.append_many([statement(number) for number in range(3, 700)])
    assert [receipt.index for receipt in receipts] == list(range(700))
    assert receipts[-1].size == 700
    for number, entry in enumerate(log.entries()):
        assert (entry.index, entry.statement.predicate) == (number, {"number": number})
        assert entry.leaf == receipts[number].leaf
    log.close()
    again = open_log(Settings(home=tmp_path))
    assert (again.size, again.root) == (700, receipts[-1].root)
    assert [entry.index for entry in again.entries(250, 520)] == list(range(250, 520))
    assert again.root == merkle.root([merkle.leaf_hash(entry.content) for entry in again.entries()]).hex()


def test_proofs_lead_to_the_signed_checkpoint(tmp_path: Path) -> None:
    log = open_log(Settings(home=tmp_path))
    first = checkpoint.verify((log.append(statement(0)), log.checkpoint())[1], log.verifier)
    receipts = log.append_many([statement(number) for number in range(1, 600)])
    head = checkpoint.verify(log.checkpoint(), log.verifier)
    assert (head.size, head.root.hex()) == (600, receipts[-1].root)
    for index in (1, 255, 256, 599):
        leaf = bytes.fromhex(receipts[index - 1].leaf)
        merkle.verify_inclusion(leaf, index, head.size, log.inclusion(index, head.size), head.root)
    merkle.verify_consistency(first.size, head.size, log.consistency(1, head.size), first.root, head.root)


def test_find_by_kind_and_digest(tmp_path: Path) -> None:
    log = open_log(Settings(home=tmp_path))
    log.append_many([statement(1), statement(2, "evaluate"), statement(1, "release")])
    assert [entry.index for entry in log.find(kind="evaluate")] == [1]
    assert [entry.index for entry in log.find(digest=f"{1:064x}")] == [0, 2]
    log.append(statement(1, "phase"))
    assert [entry.index for entry in log.find(kind="phase", digest=f"{1:064x}")] == [3]
    assert log.find(kind="answer") == []
    log.close()


def test_too_long_a_statement_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    log = open_log(Settings(home=tmp_path))
    with pytest.raises(InputError, match="name its digest"):
        log.append(Statement("train", (Subject("thing", "0" * 64),), {"bulk": "x" * 60_000}))
    assert log.size == 0


def test_a_begun_log_does_not_get_a_new_key(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    log = open_log(settings)
    log.append(statement(0))
    log.close()
    (settings.keys / "ledger.pem").unlink()
    with pytest.raises(InputError, match="ledger key"):
        open_log(settings)


def test_an_auditor_reads_with_the_public_key_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with open_log(settings) as log:
        log.append_many([statement(number) for number in range(300)])
    copy = tmp_path / "copy"
    shutil.copytree(settings.ledger, copy)
    verifier = public_verifier(settings, settings.keys / "ledger.pub")
    read = Log(copy, "lifechart/example-hospital", verifier)
    assert [entry.statement.predicate["number"] for entry in read.entries()] == list(range(300))
    with pytest.raises(AuditError, match="without a key"):
        read.append(statement(1))
    with pytest.raises(IntegrityError, match="of the log"):
        Log(copy, "lifechart/another-hospital", verifier)
    with pytest.raises(InputError, match="verifier key"):
        public_verifier(settings, tmp_path / "nothing.pub")
