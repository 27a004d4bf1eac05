"""The pool interface and the worker process."""
