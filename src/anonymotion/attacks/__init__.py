"""An adversary's view of our own output: what can be recovered of what was hidden, against what chance gives.

Not here: hiding (pipeline); whether a mask is where it must be (benchmarks/coverage.py).
"""
