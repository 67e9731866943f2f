"""The field's own packages find the same figures, where they are installed."""

import pytest

pytest.importorskip("statsmodels", reason="pip install 'lifechart[peers]'")
pytest.importorskip("dcurves", reason="pip install 'lifechart[peers]'")
pytest.importorskip("lifelines", reason="pip install 'lifechart[peers]'")


@pytest.mark.filterwarnings("ignore")
def test_every_figure_agrees_to_1e_6() -> None:
    from bench.calibration import rows

    compared = list(rows(seed=1, number=500))
    assert len({name for name, *_ in compared}) > 20
    for name, package, ours, theirs in compared:
        assert ours == pytest.approx(theirs, abs=1e-6), (name, package)
