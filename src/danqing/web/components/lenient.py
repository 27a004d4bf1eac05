"""Gradio's inputs without their own checks.

Gradio refuses a value outside its range in English, in a toast, before our code sees it. These pass every value on, so
that one place (`web.form`) checks it and the error stands beside its field in the page's language.
"""

from __future__ import annotations

from typing import Any

import gradio as gr


class _Lenient:
    """Hands the browser's value on as it is, under the frontend name of Gradio's own component."""

    def get_block_name(self) -> str:
        """The frontend component: that of the class this one is built on."""
        return type(self).__mro__[2].__name__.lower()

    def preprocess(self, payload: Any) -> Any:
        """The value as it came."""
        return payload


class Slider(_Lenient, gr.Slider):
    """A slider that leaves checking to the form."""


class Number(_Lenient, gr.Number):
    """A number field that leaves checking to the form; empty is None."""


class Dropdown(_Lenient, gr.Dropdown):
    """A choice that leaves checking to the form."""


class Radio(_Lenient, gr.Radio):
    """Radio buttons that leave checking to the form."""


class CheckboxGroup(_Lenient, gr.CheckboxGroup):
    """Chips that leave checking to the form."""
