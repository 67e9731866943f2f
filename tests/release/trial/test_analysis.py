"""The robust comparison beside its definition written out, and beside the t test where they are the same thing."""

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import sqrtm

from lifechart.core.errors import InputError
from lifechart.release.trial.analysis import Comparison

RNG = np.random.default_rng(5)


def clustered(num: int = 10, size: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    clusters = np.repeat(np.arange(num), RNG.integers(2, size, num))
    arms = (clusters % 2).astype(np.int64)
    outcomes = RNG.standard_normal(num)[clusters] * 0.5 + RNG.standard_normal(len(clusters)) + 0.3 * arms
    return arms, clusters, outcomes


def written_out(
    arms: np.ndarray, clusters: np.ndarray, periods: np.ndarray, outcomes: np.ndarray, icc: float
) -> tuple[float, float, float]:
    """Return estimate, CR2 standard error and Satterthwaite degrees by full n x n matrices."""
    same = clusters[:, None] == clusters[None, :]
    root = np.linalg.inv(np.real(sqrtm(np.where(same, icc, 0.0) + (1 - icc) * np.eye(len(arms)))))
    dummies = [(periods == level).astype(float) for level in np.unique(periods)[1:]]
    design = root @ np.column_stack([arms, np.ones(len(arms)), *dummies])
    outcome = root @ outcomes
    bread = np.linalg.inv(design.T @ design)
    hat = design @ bread @ design.T
    residual = outcome - hat @ outcome
    variance, parts = 0.0, []
    for cluster in np.unique(clusters):
        own = clusters == cluster
        adjust = np.real(np.linalg.inv(sqrtm(np.eye(own.sum()) - hat[np.ix_(own, own)])))
        weight = adjust @ design[own] @ bread[:, 0]
        variance += (weight @ residual[own]) ** 2
        parts.append((np.eye(len(arms)) - hat)[:, own] @ weight)
    products = np.array(parts) @ np.array(parts).T
    degrees = np.trace(products) ** 2 / (products**2).sum()
    return float((bread @ design.T @ outcome)[0]), float(np.sqrt(variance)), float(degrees)


@pytest.mark.parametrize("icc", [0.0, 0.1, 0.4])
def test_it_equals_its_definition_with_full_matrices(icc: float) -> None:
    arms, clusters, outcomes = clustered()
    periods = np.arange(len(arms)) % 3
    found = Comparison(arms, clusters=clusters, periods=periods, icc=icc).test(outcomes)
    slow = written_out(arms, clusters, periods, outcomes, icc)
    np.testing.assert_allclose([found.estimate[0], found.standard_error[0], found.degrees], slow, rtol=1e-9)


def test_equal_clusters_give_the_t_test_of_their_means() -> None:
    clusters = np.repeat(np.arange(12), 5)
    arms = (clusters < 6).astype(np.int64)
    outcomes = RNG.standard_normal((60, 4))
    found = Comparison(arms, clusters=clusters, icc=0.2).test(outcomes)
    means = outcomes.reshape(12, 5, 4).mean(1)
    wanted = stats.ttest_ind(means[:6], means[6:])
    np.testing.assert_allclose(found.p, wanted.pvalue, rtol=1e-9)
    low, high = found.interval()
    assert (low < found.estimate).all()
    assert (found.estimate < high).all()


def test_participants_alone_are_clusters_of_one() -> None:
    arms, _, outcomes = clustered()
    alone = Comparison(arms).test(outcomes)
    as_clusters = Comparison(arms, clusters=np.arange(len(arms))).test(outcomes)
    np.testing.assert_allclose(alone.standard_error, as_clusters.standard_error, rtol=1e-9)


def test_the_z_of_a_t_keeps_its_tail() -> None:
    effect = Comparison(np.array([0, 1] * 20)).test(np.array([0.0, 50.0] * 20) + RNG.standard_normal(40))
    assert stats.norm.sf(effect.z[0]) == pytest.approx(effect.p[0] / 2, rel=1e-6)


def test_one_arm_alone_is_refused() -> None:
    with pytest.raises(InputError, match="both arms"):
        Comparison(np.ones(10, dtype=np.int64))
    with pytest.raises(InputError, match="icc"):
        Comparison(np.array([0, 1]), icc=1.0)
