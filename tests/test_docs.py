"""Documentation that can be checked is checked: names, addresses, codes, links and examples are those of the code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls.resolvers import RoutePattern
from rest_framework import exceptions as drf
from rest_framework import serializers as fields
from rest_framework_simplejwt import serializers as simplejwt

from scores import award
from scores.api import problems, serializers, urls
from scores.exceptions import Malformed, RefusedBefore, ScoreError
from tools.servers import ROOT, UVICORN

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
CODE = sorted(
    [*(ROOT / "leaderboard_site").rglob("*.py"), *(ROOT / "realtime").rglob("*.py"), *(ROOT / "scores").rglob("*.py")]
)

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


# What the documents say


def section(text: str, heading: str) -> str:
    """The text under a heading, up to the next one of its level or a higher one."""
    marks, _, _ = heading.partition(" ")
    _, _, rest = text.partition(f"\n{heading}\n")
    assert rest, heading
    return re.split(rf"^#{{1,{len(marks)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in `text`, without its head."""
    found = re.search(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert found
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[0].splitlines()[2:]]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def code_in(text: str) -> list[str]:
    """What is set as code: blocks, and spans outside of them."""
    fenced = re.findall(r"^```.*?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# What the code says


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def variables() -> dict[str, str | None]:
    """The environment variables that are read, with the default of those that have one written beside the name."""
    found: dict[str, str | None] = {}
    site = ROOT / "leaderboard_site"
    for call in (call for path in (site / "settings.py", *(site / "local").glob("*.py")) for call in calls(path)):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Name("read")), args=[ast.Constant(str(name)), ast.Constant(default), *_]
            ):
                found[name] = str(default)
            case ast.Call(func=ast.Attribute(value=ast.Name("read")), args=[ast.Constant(str(name))]):
                found[name] = None
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"), args=[ast.Constant(str(name)), *_]
            ):
                found[name] = None
    return found


def demanded() -> set[str]:
    """What a start without any variable complains about."""
    env = {"PYTHONUTF8": "1"}
    ended = subprocess.run(UVICORN, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return set(re.findall(r"(\w+) is not set", ended.stderr))


def addresses() -> dict[str, Any]:
    """The paths of the API with their views."""
    entries: list[Any] = [entry for entry in urls.urlpatterns if isinstance(entry.pattern, RoutePattern)]
    return {named(f"/api/{entry.pattern}"): entry.callback for entry in entries}


def named(path: str) -> str:
    """With the names that parameters of paths have in documents: `<any:user_id>` is `{userId}`."""
    return re.sub(r"<\w+:(\w+)>", lambda match: f"{{{re.sub('_(.)', lambda m: m[1].upper(), match[1])}}}", path)


def below(kind: type[Any]) -> Iterator[type[Any]]:
    """The classes below `kind` that nothing is below of."""
    for child in kind.__subclasses__():
        yield from below(child) if child.__subclasses__() else [child]


def field_codes() -> set[str]:
    """What is said about fields of bodies and of the query string."""
    found = {f"{field}_{code}" for field in ("points", "score") for code in award.NUMBER_ERRORS}
    for serializer in (
        serializers.RegistrationSerializer(),
        simplejwt.TokenObtainPairSerializer(),
        simplejwt.TokenRefreshSerializer(),
        simplejwt.TokenBlacklistSerializer(),
    ):
        for name, field in serializer.fields.items():
            if field.read_only:
                continue
            codes = {"required", "null"}
            if isinstance(field, fields.CharField):
                codes |= {"blank", "invalid"} | {getattr(rule, "code", "invalid") for rule in field.validators}
            found |= {f"{name}_{code}" for code in codes}
    for (
        parameter
    ) in serializers.PageSerializer().fields:  # in a query string everything is a text, and no half of a pair
        found |= {f"{parameter}_invalid", f"{parameter}_null_characters_not_allowed"}
    return found


def written_codes() -> dict[str, int]:
    """The codes that stand as texts in calls which raise or answer."""
    found: dict[str, int] = {}
    for call in (call for path in CODE for call in calls(path)):
        match call:
            case ast.Call(
                func=ast.Name("problem_response") | ast.Attribute(attr="problem_response"),
                args=[ast.Constant(int(status)), ast.Constant(str(code)), *_],
            ):
                found[code] = status
            case ast.Call(func=ast.Name("_refuse"), args=[_, ast.Constant(int(status)), ast.Constant(str(code)), *_]):
                found[code] = status
            case ast.Call(func=ast.Name("ParseError"), args=[_, ast.Constant(str(code))]):
                found[code] = 400
            case ast.Call(func=ast.Name("Malformed"), args=[ast.Constant(str(code)), _]):
                found[code] = 400
            case ast.Call(
                func=ast.Name("ValidationError") | ast.Attribute(attr="ValidationError"),
                args=[ast.Dict(keys=[ast.Constant(str(field))]), ast.Constant(str(code))],
            ):
                found[f"{field}_{code}"] = 400
    return found


def codes() -> dict[str, int]:
    """Every code that an error may have, with its status."""
    found = dict.fromkeys(field_codes(), 400) | written_codes()
    for kind in below(ScoreError):
        if kind in (Malformed, RefusedBefore):  # have no code of their own
            continue
        found[kind.code] = next(status for base, status in problems.STATUS.items() if issubclass(kind, base)).value
    for kind in below(drf.APIException):
        if kind.__module__.startswith("scores."):
            found[kind.default_code] = kind.status_code
    for kind in (drf.NotAuthenticated, drf.MethodNotAllowed, drf.NotAcceptable, drf.UnsupportedMediaType):
        found[kind.default_code] = kind.status_code
    found |= dict.fromkeys(simplejwt.TokenObtainSerializer.default_error_messages, 401)
    return found | {problems.CODES["parse_error"]: 400, problems.CODES["invalid"]: 400, problems.CODES["error"]: 500}


# Variables


def test_the_readme_names_every_variable_and_no_other() -> None:
    named = [row[0].strip("`") for row in rows(section(README, "## Configuration"))]

    assert sorted(named) == sorted(variables())


def test_the_readme_has_the_defaults_of_the_settings() -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in rows(section(README, "## Configuration"))}

    assert {name: told[name] for name, default in variables().items() if default} == {
        name: default for name, default in variables().items() if default
    }


def test_the_readme_calls_required_what_the_start_demands() -> None:
    required = {row[0].strip("`") for row in rows(section(README, "## Configuration")) if row[1] == "required"}

    assert required == demanded()


def test_the_example_environment_names_real_variables_and_all_of_them() -> None:
    named = re.findall(r"^#?([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE)
    of_compose = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))

    assert sorted(named) == sorted((variables().keys() | of_compose) - {"BROKER", "DATA_DIR"})


def test_the_example_environment_leaves_open_what_compose_demands() -> None:
    left_open = re.findall(r"^([A-Z_]+)=$", ENV_EXAMPLE, re.MULTILINE)

    # Or a key pair in the place of JWT_SIGNING_KEY, which Compose cannot say.
    assert set(left_open) == set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE)) | {"JWT_SIGNING_KEY"}


def test_the_example_environment_has_the_defaults_of_compose() -> None:
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-(\w*)\}", COMPOSE))
    del defaults["JWT_SIGNING_KEY"]  # stands among the required ones
    told = dict(re.findall(r"^#([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))

    assert {name: told[name] for name in defaults} == defaults


# Addresses and errors


def test_the_readme_lists_every_address_of_the_api() -> None:
    listed = re.findall(r"^\| `[A-Z]+ (/api/\S+)`", README, re.MULTILINE)

    assert sorted(listed) == sorted(addresses())


def test_the_protocol_describes_every_address_and_a_method_it_has() -> None:
    headings = re.findall(r"^### ([A-Z]+) (/api/\S+)$", PROTOCOL, re.MULTILINE)
    described = {path: method for method, path in headings}

    assert described.keys() == addresses().keys()
    assert all(hasattr(addresses()[path].view_class, method.lower()) for path, method in described.items())


def test_the_protocol_has_every_error_code_with_its_status() -> None:
    documented = {
        code: int(status)
        for names, status, _ in rows(section(PROTOCOL, "## Errors"))
        for code in re.findall(r"`(\w+)`", names)
    }

    assert documented == codes()


# Commands and links


@every_document
def test_a_make_target_that_is_named_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))

    named = {target for code in code_in(path.read_text()) for target in re.findall(r"\bmake ([a-z]+)", code)}

    assert named <= targets


def test_the_readme_lists_the_targets_that_make_lists() -> None:
    helped = re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE)

    listed = [row[0].strip("`").removeprefix("make ") for row in rows(section(README, "## Make targets"))]

    assert sorted(listed) == sorted(helped)


@every_document
def test_a_selection_of_tests_selects_some(path: Path) -> None:
    tests = "".join(f"{file.name} {file.read_text()}" for file in (ROOT / "tests").rglob("test_*.py"))

    for word in re.findall(r"-k (\w+)", path.read_text()):
        assert re.search(rf"test_\w*{word}", tests), word


@every_document
def test_a_link_leads_somewhere(path: Path) -> None:
    for link in re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    ):
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@every_document
def test_a_file_that_is_named_exists(path: Path) -> None:
    for code in code_in(path.read_text()):
        if re.fullmatch(
            r"\.?[\w./-]+\.(py|md|toml|yaml|txt)|(docs|tests|scores|realtime|leaderboard_site)/[\w./-]*", code
        ):
            assert (ROOT / code).exists(), code


@every_document
def test_an_example_can_be_read_by_its_language(path: Path) -> None:
    text = path.read_text()

    for block in blocks(text, "python"):
        compile(block, str(path), "exec")
    for block in blocks(text, "json"):
        json.loads(block)
    for block in blocks(text, "sh"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@every_document
def test_a_document_does_not_depend_on_a_machine(path: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|Users|work)/", path.read_text())


# Decisions


def test_the_index_has_every_decision_by_its_title() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    titles = {page.name: page.read_text().splitlines()[0].removeprefix("# ") for page in pages}

    index = re.findall(
        r"^\| \[(\d{4})\]\((\S+)\) \| (.*) \|$", (ROOT / "docs" / "adr" / "README.md").read_text(), re.MULTILINE
    )

    assert {name: f"{number}: {title}" for number, name, title in index} == titles
    assert [number for number, _, _ in index] == [f"{n:04}" for n in range(1, len(pages) + 1)]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")), ids=lambda page: str(page.name))
def test_a_decision_has_its_four_parts(page: Path) -> None:
    assert re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE) == ["Status", "Context", "Decision", "Consequences"]


def test_a_decision_that_the_code_refers_to_exists() -> None:
    referred = {number for path in CODE for number in re.findall(r"docs/adr/(\d{4})", path.read_text())}

    assert referred
    assert referred <= {page.name[:4] for page in (ROOT / "docs" / "adr").glob("[0-9]*.md")}
