"""The head's fit: the optimum that any solver finds, the released forecast where nothing speaks against it."""

import numpy as np
import pytest
from scipy.optimize import minimize

from lifechart.model.adapt.head import Prior, Problem

PRIOR = Prior()
SPREAD = np.array([0.7, 0.1, 0.03])


def problem(rate: float, events: int = 400, seed: int = 0) -> Problem:
    """Questions whose true hazard is `rate` times what is said."""
    rng = np.random.default_rng(seed)
    said = np.log(1e-3) + rng.normal(0, 0.7, (events, 1)) + np.zeros((1, 2))
    exposure = rng.uniform(10, 300, (events, 2))
    seen = (rng.random((events, 2)) < rate * np.exp(said) * exposure).astype(float)
    read = np.concatenate([np.ones((events, 1)), rng.normal(size=(events, 2))], axis=1)
    return Problem(said, said - said.mean(), exposure, seen, read, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_newton_finds_what_a_general_solver_finds(seed: int) -> None:
    here = problem(0.4, seed=seed)
    x, expected = here.solve(PRIOR, SPREAD)
    weight = 1 / np.square(np.concatenate([np.full(2, PRIOR.level), [PRIOR.slope], SPREAD]))
    slow = minimize(lambda z: here._value(z, weight), np.zeros(len(x)), method="BFGS", options={"gtol": 1e-6})
    assert here._value(x, weight) == pytest.approx(slow.fun, abs=2e-3)
    np.testing.assert_allclose(x, slow.x, atol=0.01)
    assert expected.sum() == pytest.approx(here._expected(x).sum())


def test_its_gradient_and_curvature_are_those_of_its_value() -> None:
    here, weight = problem(0.5), np.full(6, 3.0)
    x = np.linspace(-0.2, 0.2, 6)
    gradient, curvature = here._derivatives(x, weight)
    for at in range(6):
        step = np.zeros(6)
        step[at] = 1e-5
        slope = (here._value(x + step, weight) - here._value(x - step, weight)) / 2e-5
        assert slope == pytest.approx(gradient[at], rel=1e-4, abs=1e-4)
        bend = (here._derivatives(x + step, weight)[0] - here._derivatives(x - step, weight)[0]) / 2e-5
        np.testing.assert_allclose(bend, curvature[at], rtol=1e-3, atol=1e-3)


def test_a_lower_rate_is_found_and_few_records_move_little() -> None:
    many, _ = problem(0.4, 4000).solve(PRIOR, SPREAD)
    few, _ = problem(0.4, 4).solve(PRIOR, SPREAD)
    shift = many[:2].mean() + many[3]
    assert shift == pytest.approx(np.log(0.4), abs=0.2)
    assert abs(few[:2].mean() + few[3]) < abs(shift)


def test_nothing_seen_and_nothing_at_risk_leaves_the_released_forecast() -> None:
    here = problem(1.0, 50)
    here.exposure[:] = 0
    here.seen[:] = 0
    x, expected = here.solve(PRIOR, SPREAD)
    assert not x.any()
    assert not expected.any()
