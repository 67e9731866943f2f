"""What makes records safe to train on: `structured` (ids, codes, values, ZIPs), `dates` (times, ages), their tables."""
