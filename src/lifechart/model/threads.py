"""How many cores one pass of the network may use. A server answers several people at once and gives each pass one."""

from __future__ import annotations

import torch


def limit(num: int) -> None:
    """Keep every pass in this process to `num` cores.

    Passes over one chart are small: on two cores torch's own threads wait for each other longer than they work, and
    where other processes want the cores as well, they spin.
    """
    torch.set_num_threads(num)
