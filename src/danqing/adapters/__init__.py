"""What is put into a model for one Request and taken out again: one file for each kind."""
