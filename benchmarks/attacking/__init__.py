"""Parts of `benchmarks/attacks.py`.

Not here: the attacks (anonymotion.attacks).
"""
