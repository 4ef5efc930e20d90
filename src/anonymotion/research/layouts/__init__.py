"""One module per data set: from its original layout and its own lists to clips, labels and splits.

Each has `read(root) -> Dataset`.  Not here: what a data set is (datasets), pixels (clips).
"""
