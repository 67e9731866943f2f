"""One contender of `model_speed` in a process of its own: `python -m bench._peers_run NAME FOLDER SECONDS`.

Prints one line of JSON: events, tokens and seconds of the steps after the first two, and the process's greatest
resident memory less what it held when all that it uses had been imported, in MiB: libraries are no part of a scheme.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any


def resident() -> float:
    """Return this process's resident memory now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def greatest() -> float:
    """Return the most that was resident, in MiB. `ru_maxrss` would not do: it begins at that of whoever started us."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


WARM = 2


def main(name: str, folder: Path, seconds: float) -> None:
    """Train for about `seconds` and print what was measured."""
    import orjson
    import torch._dynamo  # What torch's optimizers import when first used, whoever trains.

    peer, _, how = name.partition(":")
    from bench import _peers_delphi, _peers_ethos
    from bench._peers_records import Records

    ours: Any = None
    if peer == "lifechart":
        from bench import _peers_lifechart
        from lifechart.model.encoders import encoder

        ours = _peers_lifechart.learn

        encoder("event")  # Imports what reads images and genomes as well.
    torch.linalg.vector_norm(torch.ones(1))
    held, first_stage = resident(), 0.0
    if ours is not None:
        steps = ours(folder, how, short=seconds < 10)
        began = time.perf_counter()
        next(steps)
        first_stage = time.perf_counter() - began
        steps_left = WARM - 1
    else:
        learn = {"ethos": _peers_ethos.learn, "delphi": _peers_delphi.learn}[peer]
        steps, steps_left = learn(Records.load(folder / "records.npz"), how), WARM
    for _ in range(steps_left):
        next(steps)
    began, events, tokens, number = time.perf_counter(), 0, 0, 0
    while number < 3 or time.perf_counter() - began < seconds:
        more_events, more_tokens = next(steps)
        events, tokens, number = events + more_events, tokens + more_tokens, number + 1
    took = time.perf_counter() - began
    steps.close()
    peak = greatest()
    measured = {
        "events": events, "tokens": tokens, "seconds": took, "steps": number, "memory": peak - held,
        "first_stage": first_stage,
    }  # fmt: skip
    print(orjson.dumps(measured).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
