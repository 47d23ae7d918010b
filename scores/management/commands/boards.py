"""`manage.py boards`: the definitions of boards as a TOML file that lives beside the game."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from scores.boards import definitions
from scores.boards.documents import WRITE_ONLY, document, parse
from scores.exceptions import DATABASE_AWAY, BoardFixed, BoardInvalid, Refused
from scores.log.head import log
from scores.models import Board

ACTOR = "manage.py boards"


class Command(BaseCommand):
    help = "Make the boards that a TOML file has, one table [boards.NAME] each, or print those that there are."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True, metavar="apply|export")
        apply = commands.add_parser("apply", help="create and change boards: all that the file has, or none")
        apply.add_argument("file", type=Path)
        commands.add_parser("export", help="print all boards as apply reads them")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["command"] == "export":
                self._export()
            else:
                self._apply(options["file"])
        except DATABASE_AWAY as error:
            raise CommandError(f"Nothing was done: {str(error).strip()}") from error

    def _export(self) -> None:
        boards = Board.objects.order_by("name")
        self.stdout.write("\n".join(toml(document(definitions.definition_of(board))) for board in boards), ending="")

    def _apply(self, file: Path) -> None:
        tables = tables_of(file)
        problems: list[str] = []
        told: list[str] = []
        existing = set(Board.objects.values_list("name", flat=True))
        # One transaction, and so one lock: writers wait for as long as it takes to make the boards of the file.
        with transaction.atomic(using=log.alias):
            # Boards that rank the stream of another one come after it.
            for name, fields in sorted(tables.items(), key=ranks_another):
                if fields.get("name", name) != name:
                    problems.append(f"{name}: name: The table is named {name}.")
                try:
                    told.append(f"{applied(name, fields | {'name': name}, is_new=name not in existing)} {name}")
                except Refused as error:
                    problems += [f"{name}: {sentence}" for sentence in sentences(error)]
            if problems:
                raise CommandError("\n".join([*problems, "Nothing was applied."]))
        for line in told:
            self.stdout.write(line)
        for name in sorted(existing - tables.keys()):
            self.stdout.write(f"left {name}, which is not in the file")


def ranks_another(table: tuple[str, dict[str, Any]]) -> bool:
    name, fields = table
    return isinstance(fields.get("stream"), str) and fields["stream"] != name


def applied(name: str, fields: dict[str, Any], *, is_new: bool) -> str:
    """What was done with the board, in a word. Raises what `definitions` raises; then nothing was done with it."""
    if not is_new:
        return "changed" if definitions.apply(name, fields, ACTOR).is_different else "unchanged"
    definitions.create(parse(fields), ACTOR)
    return "created"


def tables_of(file: Path) -> dict[str, dict[str, Any]]:
    """The tables of boards in a file. Raises `CommandError`."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise CommandError(f"{file} is not TOML: {error}") from error
    tables = content.pop("boards", {})
    if content or not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise CommandError(f"{file}: expected tables [boards.NAME] and nothing else.")
    return tables


def sentences(error: Refused) -> list[str]:
    if isinstance(error, BoardInvalid):
        return [f"{mistake.field}: {mistake.sentence}" for mistake in error.mistakes]
    if isinstance(error, BoardFixed):
        return [f"{field} cannot be changed any more." for field in error.fields]
    return [str(error)]


def toml(fields: dict[str, Any]) -> str:
    """The table of a board. The texts of JSON are those of TOML, but for one control character, which no field has."""
    name = fields.pop("name")
    lines = [f"{field} = {value(each)}" for field, each in fields.items()]
    if "webhookUrl" in fields:
        lines.append(f"# {WRITE_ONLY} is not exported; a file that does not name it leaves it as it is.")
    return "\n".join([f"[boards.{name}]", *lines, ""])


def value(each: Any) -> str:
    if isinstance(each, list):
        return "".join(["[\n", *(f"    {value(item)},\n" for item in each), "]"])
    if isinstance(each, dict):
        pairs = ", ".join(f"{field} = {value(item)}" for field, item in each.items())
        return f"{{ {pairs} }}"
    return json.dumps(each, ensure_ascii=False)
