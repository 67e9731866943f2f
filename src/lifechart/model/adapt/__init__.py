"""A released model made to fit another institution, on that institution's own records alone.

Read in this order:

- `reading`     which of the local codes the released vocabulary reads, and which results run at another level here
- `local`       the local questions that everything is fitted on, and what the released model says of them
- `head`        the released forecasts bent as far as the local records demand, and no farther
- `low_rank`    LoRA on the network itself (through `peft`, if it is installed)
- `adapter`     what changed, as a file of its own, bound to the one model that it is for
- `run`         `lifechart adapt`: all of it, with a statement for the ledger
"""
