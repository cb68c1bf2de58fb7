"""Layout of the commands' help: options in groups, with their defaults and ranges in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["OTHER", "Command", "Option", "option", "together"]

OTHER = "Other options"
"""Heading of the options without a group, such as --help."""

_HYPHEN = "\u2011"  # non-breaking, so that click does not break --from-scratch into two lines
_WIDEST = 30  # as in click: a wider option stands alone on its line

F = TypeVar("F", bound=Callable[..., Any])


class Option(click.Option):
    """An option with a group: its heading in the help. Integers are shown as N."""

    def __init__(self, *declarations: Any, group: str = OTHER, **settings: Any) -> None:
        if isinstance(settings.get("type"), click.IntRange):
            settings.setdefault("metavar", "N")
        super().__init__(*declarations, **settings)
        self.group = group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's two columns, with default and range in brackets after the text."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        default = self.show_default if isinstance(self.show_default, str) else ""
        if self.is_flag and self.secondary_opts:
            default = (self.opts if self.default else self.secondary_opts)[0]
        elif not self.is_flag and isinstance(self.default, (str, int, float)):
            default = str(self.default)
        notes = [f"default: {default}" if default else "", _range(self.type), "required" if self.required else ""]
        text = "; ".join(filter(None, notes))
        return record[0], f"{self.help}  [{text}]" if text else self.help or ""


class Command(click.Command):
    """A command whose help has one section per group, ordered by the first option of each group."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.short_help = self.short_help or self.get_short_help_str(limit=80)
        self.help = (self.help or "").replace("-", _HYPHEN)

    def get_help(self, ctx: click.Context) -> str:
        """The formatted help."""
        return super().get_help(ctx).replace(_HYPHEN, "-")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections with a common column width; options without a group come last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                groups.setdefault(getattr(parameter, "group", OTHER), []).append(record)
        groups[OTHER] = groups.pop(OTHER, [])
        names = [name for records in groups.values() for name, _ in records]
        width = max(len(name) for name in names if len(name) <= _WIDEST)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text.replace("-", _HYPHEN)) for name, text in records])


def option(group: str, *declarations: str, **settings: Any) -> Callable[[F], F]:
    """Decorate a command with an option that belongs to a group."""
    return click.option(*declarations, cls=Option, group=group, **settings)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Combine several options into one decorator, in the order of the help."""

    def add(command: F) -> F:
        for add_option in reversed(options):
            command = add_option(command)
        return command

    return add


def _range(kind: click.ParamType[Any]) -> str:
    """Describe the range of a numeric type in words, such as "above 0, at most 1"."""
    if not isinstance(kind, (click.IntRange, click.FloatRange)):
        return ""
    counts = kind.min == 0 and not kind.min_open and kind.max is None  # obvious, not worth a note
    low = "" if kind.min is None or counts else f"{'above' if kind.min_open else 'at least'} {kind.min}"
    high = "" if kind.max is None else f"{'below' if kind.max_open else 'at most'} {kind.max}"
    return ", ".join(filter(None, (low, high)))
