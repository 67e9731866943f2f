"""The command `lifechart`: one verb a stage, no logic of its own. `root` holds what the verbs share; each other module
is one family of verbs, and adds them to the root when it is imported.

Each verb imports its stage when it is called, so that `lifechart ledger verify` does not wait for torch.
"""

from __future__ import annotations

import sys
from importlib import import_module

from lifechart.cli.root import app
from lifechart.core.errors import LifechartError

FAMILIES = (
    "exports",
    "stages",
    "futures",
    "labels",
    "snapshots",
    "texts",
    "images",
    "privacy",
    "consents",
    "vaults",
    "terminologies",
    "releases",
    "governance",
    "trials",
    "shadows",
    "monitors",
    "incidents",
    "documents",
    "serving",
    "ledgers",
    "tracing",
    "witnessing",
    "private",
    "adapting",
    "contributing",
    "demos",
)
"""The modules of verbs, in the order that `lifechart --help` lists them."""

for _family in FAMILIES:
    import_module(f"lifechart.cli.{_family}")


def main() -> None:
    """Run the command line; a refusal prints its one message and exits 2."""
    try:
        app()
    except LifechartError as error:
        print(f"lifechart: {error}", file=sys.stderr)
        raise SystemExit(2) from None
