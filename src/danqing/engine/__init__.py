"""The event loop that batches the Calls of all live Sessions."""
