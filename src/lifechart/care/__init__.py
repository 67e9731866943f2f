"""What Lifechart may do for someone: one capability a file, and the medicine that it rests on as tables beside it.

Read in this order: `comparison` (what is usual for people like this one, and how well the model did on them),
`red_flags` (findings that must not wait for a forecast), then `risk`, the first capability.
"""
