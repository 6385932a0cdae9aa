"""Filling in the templates of HTML pages."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(template: str, **values: Any) -> str:
    """Fill in a template of ``t4g_tracker/pages/templates``; all values are escaped.

    Args:
        template: Its file name.
        values: What it names; one that is missing is our mistake and raises ``jinja2.UndefinedError``.
    """
    environment = Environment(
        loader=PackageLoader("t4g_tracker.pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(**values)
