"""The application service that CLI, API and UI share."""
