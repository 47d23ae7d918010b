"""The version of the service, in the one place that defines it.

A module and not package metadata, because the service is never installed: it runs from its folder, and the image has no
pyproject.toml. pyproject.toml reads the version from here. docs/releasing.md says when it changes.
"""

from __future__ import annotations

from django.http import HttpRequest

VERSION = "0.3.0.dev0"


def in_templates(request: HttpRequest) -> dict[str, str]:
    """A context processor: gives templates `{{ service_version }}`."""
    return {"service_version": VERSION}
