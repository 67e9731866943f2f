"""Encrypted data sets, and their keys to attested workloads: key, encrypt, decrypt, grant, show, challenge, release."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import Out, group
from lifechart.core.settings import load_settings

vault = group("vault", "Encrypted data sets, and who gets their keys.")
Sealed = Annotated[Path, typer.Argument(help="An encrypted data set.")]
To = Annotated[list[str], typer.Option("--to", help="A recipient, age1… or kms:NAME; may be repeated.")]


@vault.command("key")
def vault_key(
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; by default LIFECHART_VAULT_IDENTITY.")
    ] = None,
) -> None:
    """Make an identity that can open what is encrypted for it; prints its recipient."""
    from lifechart.data.vault import keys

    print(keys.make(out or load_settings().vault_key))


@vault.command("encrypt")
def vault_encrypt(
    dataset: Annotated[Path, typer.Argument(help="A data set, plain or (to change its key) encrypted.")],
    out: Out,
    to: To,
) -> None:
    """Write a data set encrypted under a new key, wrapped for each recipient."""
    from lifechart.data.vault import encryption
    from lifechart.ledger.log import open_log

    with closing(open_log(load_settings())) as log:
        made = encryption.encrypt(dataset, out, to, log=log)
    print(f"{len(made.files)} files encrypted for {len(made.wrapped)} recipients; encrypted form {made.digest[:16]}…")
    print(f"{dataset} is as it was: remove it if no plain copy is to stay")


@vault.command("decrypt")
def vault_decrypt(dataset: Sealed, out: Out) -> None:
    """Write a plain copy of an encrypted data set."""
    from lifechart.data.vault import encryption
    from lifechart.ledger.log import open_log

    with closing(open_log(load_settings())) as log:
        digest = encryption.decrypt(dataset, out, log=log)
    print(f"data set {digest[:16]}… in {out}, plain")


@vault.command("grant")
def vault_grant(dataset: Sealed, to: To) -> None:
    """Let more recipients in; the encrypted files stay as they are."""
    from lifechart.data.vault import encryption
    from lifechart.ledger.log import open_log

    with closing(open_log(load_settings())) as log:
        for recipient in to:
            made = encryption.grant(dataset, recipient, log=log)
    print("\n".join(made.wrapped))


@vault.command("show")
def vault_show(dataset: Sealed) -> None:
    """Say what an encrypted data set is and who can open it; needs no key, and proves nothing."""
    from lifechart.data.vault.sealed import Vault

    found = Vault.load(dataset)
    print(f"data set        {found.dataset}\nencrypted form  {found.digest}\nfiles           {len(found.files)}")
    print("\n".join(f"recipient       {recipient}" for recipient in found.wrapped))


@vault.command("challenge")
def vault_challenge() -> None:
    """Give out a challenge for a workload to have attested; good once, for some minutes."""
    from lifechart.data.vault import release

    print(release.challenge(release.challenges_folder(load_settings())))


@vault.command("binding")
def vault_binding(
    challenge: Annotated[str, typer.Argument(help="What the custodian gave out.")],
    recipient: Annotated[str, typer.Argument(help="The recipient of a key made inside the machine.")],
) -> None:
    """Print the 64 bytes, in hex, that a workload's report must be over."""
    from lifechart.data.vault import keys, release

    print(release.binding(challenge, keys.check_recipient(recipient)).hex())


@vault.command("verify")
def vault_verify(
    evidence: Annotated[Path, typer.Argument(help="JSON: technology, recipient, report and what vouches for it.")],
    at: Annotated[datetime | None, typer.Option(help="As of this time, UTC; by default now.")] = None,
) -> None:
    """Verify a confidential machine's report, and say what it attests; decides nothing."""
    from lifechart.data.vault.attestation.evidence import Evidence

    found = Evidence.load(evidence).verify(at.replace(tzinfo=UTC) if at else datetime.now(UTC))
    print(f"{found.technology}, vouched for by {found.root}; debug {'ON' if found.debug else 'off'}")
    for name, value in [*found.facts.items(), *found.tcb.items(), *found.measurements.items()]:
        print(f"{name:18} {value}")
    print(f"report_data        {found.report_data.hex()}")
    if found.statuses:
        print(f"firmware           {', '.join(found.statuses)} {' '.join(found.advisories)}")


@vault.command("release")
def vault_release(
    dataset: Sealed,
    evidence: Annotated[Path, typer.Argument(help="JSON: technology, recipient, report and what vouches for it.")],
    challenge: Annotated[str, typer.Option(help="The challenge that the report is over.")],
    policy: Annotated[Path, typer.Option(help="TOML: which workload may have which data set's key.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: the key, encrypted for the workload.")],
) -> None:
    """Release a data set's key to an attested workload, or refuse; the ledger has either first."""
    from lifechart.core import durable
    from lifechart.data.vault import release
    from lifechart.data.vault.attestation.evidence import Evidence
    from lifechart.ledger.log import open_log

    settings = load_settings()
    with closing(open_log(settings)) as log:
        keeper = release.custodian(settings, policy, log)
        durable.write_bytes(out, keeper.release(dataset, Evidence.load(evidence), challenge))
    print(f"the key of {dataset} is in {out}, for the workload alone")


@vault.command("accept")
def vault_accept(
    released: Annotated[Path, typer.Argument(help="What `lifechart vault release` wrote.")],
    identity: Annotated[Path | None, typer.Option(help="By default LIFECHART_VAULT_IDENTITY.")] = None,
) -> None:
    """Inside the machine: add a released key to the identities, so that the data set can be read."""
    from lifechart.data.vault import release

    print(release.accept(released.read_bytes(), identity or load_settings().vault_key))
