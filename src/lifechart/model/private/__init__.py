"""Training with differential privacy for each patient, and audits of what a model remembers of one.

Read in this order:

- `accounting`     what a series of noisy releases costs: privacy loss distributions
- `lot`            chance that nobody can draw again
- `plan`           how a run spends its epsilon, settled before any record is read
- `statistics`     vocabulary, value scales, outcomes and base rates from noisy sums
- `moments`        what is asked about each life, from that life alone
- `ghost`, `learn` clipped sums of patients' gradients, and the fit by them
- `recalibration`  calibration, intervals and novelty from noisy sums over the tuning split
- `train`          a data set in, a model folder and a statement out
- `attacks`, `canaries`, `audit`  whether the promise is borne out
"""
