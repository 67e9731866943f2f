"""An institution with a release, in which a test can validate, try, plan and use it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench._institution import PAIR, PLAN, Institution
from lifechart.core.capability import Declaration, Role
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.documents.evidence import Dossier, gather

DECLARATION = Declaration(
    name="risk",
    title="Risks ahead",
    intended_use="Shows a clinician risks that stand out. It does not diagnose.",
    users=(Role.CLINICIAN,),
    inputs=("condition", "laboratory"),
    evidence_tasks=("new-onset",),
    limits=("A low risk does not rule anything out.",),
)


class House(Institution):
    """The institution of the benches, with a capability's declaration and people who use it."""

    def dossier(self) -> Dossier:
        return gather(self.shelf, self.log, self.registry, DECLARATION, "Riverbend Hospital")

    def planned(self) -> None:
        self.register("plan.toml", PLAN.format(drop=0.02))

    def used(self, accepted: int, dismissed: int, reason: str = "unlikely") -> None:
        """Let a clinician judge this many answers, and change their mind about the first."""
        model = self.dossier().manifest.model_digest
        for number in range(accepted + dismissed):
            answer = f"{number:064x}"
            said = {
                "capability": "risk",
                "disposition": "answered",
                "model": model,
                "user": "dr.reyes",
                "outlet": "clinician",
                "cards": {PAIR[0]: f"{number + 10**6:064x}"},
            }
            self.log.append(Statement("answer", (Subject("answer", answer),), said))
            final = "accepted" if number < accepted else "dismissed"
            for action in ("dismissed", final) if number == 0 else (final,):
                judged = {"capability": "risk", "outcome": PAIR[0], "action": action, "user": "dr.reyes"}
                judged["reason"] = reason if action == "dismissed" else ""
                self.log.append(Statement("feedback", (Subject("answer", answer),), judged))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.release()
    yield made
    made.log.close()
