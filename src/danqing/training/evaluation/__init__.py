"""How good the built-in family is: every figure of docs/builtin-model.md.

Run it with `danqing eval builtin`, or `python -m danqing.training.evaluation`.
"""
