"""What a forecaster is worth: tasks, metrics with intervals, opponents, reports.

Read in this order: `tasks` (whom is asked, when, about what, and what came true; the protocols themselves are YAML in
protocols/; the row arithmetic below is data.history), `metrics` and `calibration` (pure mathematics), `baselines` and
`boosting` (boosted trees on data.features), `predictions` (labels of one's own), `oracle` (the best reachable, on
`boosting` (boosted trees on data.features), `predictions` (labels of one's own), `oracle` (the best reachable, on
simulated data), `question`, `findings`, `headline` and
ledger). Whatever keeps core's Forecaster protocol can be examined.

After the release: `shift` (sequential detection), `signals` and `forecasts` (a week in numbers), `monitor` (alarms that
say what shifted), `follow_up` and `watch` (weeks on disk).
"""
