"""Which version of the service this is: the one place that says so.

A module and not package metadata, since the service is never installed: it runs from its folder, and the image has no
pyproject.toml, which reads the version from here. docs/releasing.md says when it changes.
"""

from __future__ import annotations

from django.http import HttpRequest

VERSION = "0.2.0.dev0"


def in_templates(request: HttpRequest) -> dict[str, str]:
    """A context processor: `{{ service_version }}`."""
    return {"service_version": VERSION}
