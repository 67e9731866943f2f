"""Randomised trials of a capability.

`allocation`: who gets what. `power`: how many are needed. `analysis`: what it did.
`release.sequential` has the boundaries for looks on the way.
"""
