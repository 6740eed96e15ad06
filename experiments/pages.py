"""The pages of studies: the template that lies beside a study's modules, filled in."""

import importlib.resources
from typing import Any

import jinja2


def filled(package: str, /, **values: Any) -> str:
    """Returns a page, HTML that needs nothing else.

    Args:
      package: The study's, `__package__` there, which has `report.html.jinja`.
      values: What the template shows, by name; text in it is escaped.
    """
    source = importlib.resources.files(package) / 'report.html.jinja'
    template = jinja2.Environment(autoescape=True).from_string(
        source.read_text('utf-8')
    )
    return template.render(**values)
