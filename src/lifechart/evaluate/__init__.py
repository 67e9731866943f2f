"""What a forecaster is worth: tasks, metrics with intervals, opponents, reports.

Read in this order: `tasks` (whom is asked, when, about what, and what came true; the protocols themselves are YAML in
protocols/; the row arithmetic below is data.history), `metrics` and `calibration` (pure mathematics), `baselines` and
`boosting` (boosted trees on data.features), `predictions` (labels of one's own), `oracle` (the best reachable, on
simulated data), `question`, `findings`, `headline` and `subgroups` (from forecasts to the rows of a Report),
`recorded`, `gaps` and `fairness` (is the record, or the model, worse for some), `page`, `verdicts` and `figures` (what
an ethics board reads), `examine` (one evaluation from start to ledger). Whatever keeps core's Forecaster protocol can
be examined.

After the release: `shift` (sequential detection), `signals` and `forecasts` (a week in numbers), `monitor` (alarms that
say what shifted), `follow_up` and `watch` (weeks on disk).
"""
