"""The report of a run: from stored slices to one page that works without a network."""
