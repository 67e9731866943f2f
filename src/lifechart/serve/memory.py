"""Keeps Python's search for cyclic garbage away from what a process holds for good: libraries, releases, Reports.

Reading a chart makes ten thousand objects, and every so often that sets off a walk through all there are: with
torch or the web stack in memory, tens of milliseconds in which nobody is answered.
"""

from __future__ import annotations

import gc

_YOUNG = (20_000, 20, 20)
"""Objects made before the youngest are walked through, and how many such walks before the older ones are."""


def keep() -> None:
    """Take everything that this process holds now out of the search. For processes of our own, once they are ready."""
    gc.set_threshold(*_YOUNG)
    gc.collect()
    gc.freeze()
