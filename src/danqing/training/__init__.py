"""One loop; one file per method."""
