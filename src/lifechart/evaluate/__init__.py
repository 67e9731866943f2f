"""What a forecaster is worth: tasks, metrics with intervals, baselines, reports."""
