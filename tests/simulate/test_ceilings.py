"""The table of how well each outcome can be forecast at all."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lifechart.simulate.ceilings import auroc, ceilings


def test_auroc_matches_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    came, risk = rng.random(300) < 0.2, rng.integers(0, 20, 300).astype(np.float32)
    assert auroc(came, risk) == pytest.approx(roc_auc_score(came, risk))


def test_ceilings_of_a_small_hospital(truth: Path) -> None:
    found = {row.outcome: row for row in ceilings(truth, date(2026, 1, 1), lives=200, draws=4)}
    assert "inpatient" in found
    assert all(0 <= row.record_auroc <= 1 and row.num_events < row.num_prompts for row in found.values())
    common = [row for row in found.values() if row.num_events >= 3]
    assert np.mean([row.record_auroc for row in common]) > 0.6
