"""The API as a page at `/api/docs/` and as an OpenAPI schema at `/api/schema/`. This site serves all their files."""

from __future__ import annotations

from functools import cache

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

# Swagger UI draws its icons from data URLs and sets styles only by script, which `style-src` does not restrict.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    response = render(request, "docs.html")
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@require_safe
def openapi_schema(request: HttpRequest) -> HttpResponse:
    """Serves docs/openapi.yaml as JSON, with the limits of this server's settings."""
    # Public: tools on other sites fetch it.
    headers = {"Cache-Control": "max-age=300", "Access-Control-Allow-Origin": "*"}
    return HttpResponse(generated(), content_type="application/vnd.oai.openapi+json", headers=headers)


@cache
def generated() -> bytes:
    """The schema as JSON, generated once: settings do not change."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    return bytes(OpenApiJsonRenderer().render(document, renderer_context={}))
