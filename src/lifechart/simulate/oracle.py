"""The two ceilings: what could be known of an outcome by knowing everything, and by knowing the record alone.

`latent_risks` starts from the true latents and hidden disease. `record_risks` is their posterior mean given only
what an export shows, so no forecaster that reads records can score better in expectation. Both are Monte Carlo
estimates: more `draws` make them less noisy, not different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from lifechart.codes.systems import URIS, join
from lifechart.core.errors import InputError, IntegrityError
from lifechart.core.timeline import DEATH as DEATH_CODE
from lifechart.simulate import futures, planted, tables
from lifechart.simulate.assess import Block, assess
from lifechart.simulate.processes import LATENTS

BLOCK = 1000
"""Lives replayed together."""
ADMISSION_CODE = "ENCOUNTER//inpatient"

Report = Callable[[int, int], None]


class Oracle:
    """The truth of one simulated hospital, and what follows from it."""

    def __init__(
        self, people: pl.DataFrame, events: pl.DataFrame, latent: pl.DataFrame, occult: pl.DataFrame, seed: int
    ) -> None:
        self._people, self._events, self._latent, self._occult, self._seed = people, events, latent, occult, seed
        self._dims = len(LATENTS) + len(set(planted.TRAITS) & set(latent.columns))

    @classmethod
    def load(cls, truth: Path) -> Oracle:
        """Read a truth folder; raises IntegrityError if it was simulated from other tables than these."""
        try:
            about = orjson.loads((truth / "truth.json").read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise InputError("truth", str(truth), "a folder that `lifechart simulate` wrote") from error
        if about["tables"] != tables.digest():
            raise IntegrityError(f"{truth / 'truth.json'}: simulated from other tables than those installed")
        people, events, latent, occult = (
            pl.read_parquet(truth / f"{name}.parquet") for name in ("people", "events", "latent", "occult")
        )
        if "planted" in about:
            if about["planted"] != planted.digest():
                raise IntegrityError(f"{truth / 'truth.json'}: planted by another table than the one installed")
            traits = pl.read_parquet(truth / "planted.parquet", columns=["life", *planted.TRAITS])
            latent = latent.join(traits, on="life", how="left", maintain_order="left")
        return cls(people, events, latent, occult, about["seed"])

    @property
    def outcomes(self) -> dict[str, str]:
        """Code of each outcome (as in a data set) to its key here."""
        codes = {
            join(URIS["SNOMED"], row["snomed"]): row["key"]
            for row in tables.rows("conditions")
            if row["outcome"] == "1"
        }
        return {**codes, DEATH_CODE: futures.DEATH, ADMISSION_CODE: futures.ADMISSION}

    @property
    def people(self) -> pl.DataFrame:
        """Everyone in the hospital, as in people.parquet."""
        return self._people

    def latent_risks(
        self, prompts: pl.DataFrame, keys: Sequence[str], horizons: Sequence[int], *, draws: int = 16,
        workers: int = 1, report: Report | None = None,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Return true risks [P, O, Z] of outcomes `keys` within `horizons` days.

        `prompts` has columns `life` and `prediction_time`. `draws` futures are simulated for each.
        """
        return self._run(prompts, keys, horizons, draws, True, workers, report)

    def record_risks(
        self, prompts: pl.DataFrame, keys: Sequence[str], horizons: Sequence[int], *, draws: int = 16,
        workers: int = 1, report: Report | None = None,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Return the best possible forecast [P, O, Z] from the record up to each prompt; `draws` must be even."""
        if draws % 2:
            raise InputError("draws", draws, "an even number")
        return self._run(prompts, keys, horizons, draws, False, workers, report)

    def _run(
        self, prompts: pl.DataFrame, keys: Sequence[str], horizons: Sequence[int], draws: int, latent: bool,
        workers: int, report: Report | None,
    ) -> NDArray[np.float32]:  # fmt: skip
        unknown = set(keys) - set(self.outcomes.values())
        if unknown:
            raise InputError("keys", sorted(unknown), "keys of Oracle.outcomes")
        result = np.zeros((prompts.height, len(keys), len(horizons)), np.float32)
        jobs = list(self._jobs(prompts, tuple(keys), tuple(horizons), draws, latent))
        done = 0
        for index, risks in _map(jobs, workers):
            result[index] = risks
            done += len(index)
            if report is not None:
                report(done, prompts.height)
        return result

    def _jobs(
        self, prompts: pl.DataFrame, keys: tuple[str, ...], horizons: tuple[int, ...], draws: int, latent: bool
    ) -> list[Block]:
        asked = prompts.select("life", "prediction_time").with_row_index("index").cast({"life": pl.Int32})
        lives = asked["life"].unique().sort()
        strangers = set(lives) - set(self._people["life"])
        if strangers:
            raise InputError("life", min(strangers), "a life of this hospital")
        jobs = []
        for first in range(0, len(lives), BLOCK):
            block = lives[first : first + BLOCK]
            picked = [
                frame.filter(pl.col("life").is_in(block.implode()))
                for frame in (self._people, self._events, self._latent, self._occult, asked)
            ]
            people, events, latents, occult, here = picked
            jobs.append(
                Block(
                    people, events, latents if latent else None, occult if latent else None, here, keys, horizons,
                    draws, self._seed * 1_000_003 + first, self._dims,
                )
            )  # fmt: skip
        return jobs


def _map(jobs: list[Block], workers: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    if workers == 1 or len(jobs) == 1:
        yield from map(assess, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(assess, jobs)
