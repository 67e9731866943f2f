"""What every test shares: property tests without a clock, since a busy machine is not a fault of the code."""

from hypothesis import settings

settings.register_profile("lifechart", deadline=None)
settings.load_profile("lifechart")
