"""Settings of the documentation site, which scripts/docs builds with Sphinx."""

from __future__ import annotations

from collections.abc import Iterator

import click
from sphinx.application import Sphinx

import edgeq
from edgeq.cli import cli

project = "edgeq"
author = "the edgeq developers"
version = release = edgeq.__version__

highlight_language = "text"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "code"  # a docstring's `name`

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # as on GitHub, so that links work in both places

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"edgeq {version}"
html_static_path = ["_static"]
html_css_files = ["edgeq.css"]
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False
linkcheck_timeout = 20
linkcheck_retries = 2


def commands(command: click.Command, path: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Yield each command and subcommand, such as ``edgeq device info``, with the help that it prints."""
    with click.Context(
        command, info_name=path.rpartition(" ")[2], parent=parent, **command.context_settings
    ) as context:
        yield path, command.get_help(context)
        if isinstance(command, click.Group):
            for child_name in command.list_commands(context):
                child = command.get_command(context, child_name)
                assert child is not None
                yield from commands(child, f"{path} {child_name}", context)


def add_commands(app: Sphinx, page: str, source: list[str]) -> None:
    """Append to the page of commands what each prints as its help."""
    if page == "commands":
        source[0] += "".join(f"\n## {path}\n\n```text\n{text}\n```\n" for path, text in commands(cli, "edgeq"))


def setup(app: Sphinx) -> None:
    """Connect the page of commands."""
    app.connect("source-read", add_commands)
