"""Named ways to a deliverable, against the public Request API only."""
