"""`lifechart-verify LOG --key KEY`: exit 0 if the log is sound, 1 if anything is wrong, 2 if the question is."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lifechart_verify.audit import verify
from lifechart_verify.files import Broken, Missing
from lifechart_verify.inclusion import prove
from lifechart_verify.merkle import ProofError
from lifechart_verify.notes import LOG, WITNESS, Key, NoteError
from lifechart_verify.statements import Forged, Malformed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        key = _key(options.key, LOG)
        witnesses = [_key(path, WITNESS) for path in options.witness]
        earlier = [path.read_text() for path in options.earlier]
        if not options.log.is_dir():
            raise NoteError(f"{options.log}: not a folder")
        if not 0 <= options.quorum <= len(witnesses):
            raise NoteError(f"--quorum {options.quorum}: {len(witnesses)} witnesses are given")
    except (OSError, NoteError, UnicodeDecodeError) as error:
        print(f"lifechart-verify: {error}", file=sys.stderr)
        return 2
    if options.entry is not None:
        return _one(options.log, key, options.entry)
    tick = _tick if sys.stderr.isatty() else None
    try:
        found = verify(options.log, key, earlier=earlier, witnesses=witnesses, quorum=options.quorum, tick=tick)
    except OSError as error:
        print(f"lifechart-verify: {error}", file=sys.stderr)
        return 2
    said = {**dataclasses.asdict(found), "sound": found.sound}
    print(json.dumps(said, indent=2) if options.json else found)
    return 0 if found.sound else 1


def _one(log: Path, key: Key, index: int) -> int:
    try:
        kind, said, proof = prove(log, key, index)
    except (NoteError, ProofError, Missing, Broken, Forged, Malformed) as error:
        print(f"entry {index}: {error}")
        return 1
    print(f"entry {index} stands in the log of {key.name}, by a proof of {len(proof)} hashes: {kind}")
    print(json.dumps(said, indent=2, ensure_ascii=False))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("lifechart-verify", description="Check a copy of a log of signed statements.")
    parser.add_argument("log", type=Path, help="the folder")
    parser.add_argument("--key", type=Path, required=True, help="file with the log's public key")
    parser.add_argument("--earlier", type=Path, action="append", default=[], help="a checkpoint that you kept")
    parser.add_argument("--witness", type=Path, action="append", default=[], help="file with a witness's public key")
    parser.add_argument("--quorum", type=int, default=0, help="how many of the witnesses must have cosigned")
    parser.add_argument("--entry", type=int, help="prove this entry alone, and print it")
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    return parser


def _key(path: Path, use: int) -> Key:
    key = Key.parse(path.read_text())
    if key.use != use:
        raise NoteError(f"{path}: the key of a {'witness' if use == LOG else 'log'}, not of a {_USES[use]}")
    return key


_USES = {LOG: "log", WITNESS: "witness"}


def _tick(done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        print(f"\r{done} of {total} bundles", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
