"""Training of one's own: one loop, one file per method. Started as `python -m danqing.training.own RUN_FOLDER`."""
