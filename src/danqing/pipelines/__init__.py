"""One short file per Request kind; all are generators of Calls."""
