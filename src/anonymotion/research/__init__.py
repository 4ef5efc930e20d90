"""The research harness: data sets, clips, networks, training and tables of the paper's protocol.

Not here: any code of its own.
"""
