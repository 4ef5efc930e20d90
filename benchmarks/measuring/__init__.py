"""What `benchmarks/coverage.py` is made of; see docs/coverage.md.

Not here: the instruments' own code (instrument_scripts/) and their environments (instruments.py).
"""
