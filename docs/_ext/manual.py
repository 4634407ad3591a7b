"""Directives for the manual pages, in HTML and for ``man``.

``.. command:: NAME`` describes a click command of ``sos``, ``.. daemon:: NAME`` a daemon of
``twistd``, and ``.. settings::`` the settings of ``sos.conf``.  The texts are those of ``--help``;
the content of a directive is added to the description.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from inspect import cleandoc
from typing import Any

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

from sos.cli import main
from sos.daemon.options import DaemonOptions
from sos.model.settings import SETTINGS

_PLUGINS: Iterable[Any] = getPlugins(IServiceMaker)
#: The plugins of twistd that start our daemons, by name.
_DAEMONS = {each.tapname: each for each in _PLUGINS if each.module.startswith("sos.")}

#: What is set as a literal in the texts of ``--help``: options, and URLs.
_LITERAL = re.compile(r"((?<![\w-])--?[a-z][\w-]*|\w+://[^\s\],;]*[^\s\],;.)])")
_EXAMPLES = re.compile(r"\s*\bExamples?(?:,\s+([^:]*))?:\s*\n\n(?= )")
_EXIT_STATUS = re.compile(r"\s*\bEnds\s+with\s.*?\.(?=\s|$)", re.DOTALL)


def man_pages() -> list[tuple[str, str, str, list[str], int]]:
    """Return the value of Sphinx's setting ``man_pages``."""
    summaries = {
        ("sos", 1): _summary(main),
        **{(f"sos-{name}", 1): _summary(command) for name, command in main.commands.items()},
        **{
            (name, 8): plugin.description.removeprefix("SOS: ") for name, plugin in _DAEMONS.items()
        },
        ("sos.conf", 5): "the configuration of SOS",
    }
    return [
        (f"reference/manual/{name}", name, summary.rstrip("."), [], section)
        for (name, section), summary in summaries.items()
    ]


class _Page(SphinxDirective):
    """A directive that stands for generated reStructuredText."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.lines())
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    def lines(self) -> Iterator[str]:
        """Return the text to parse, by line."""
        raise NotImplementedError


class Command(_Page):
    """The page of the command that the argument names, of ``sos`` without one."""

    optional_arguments = 1

    def lines(self) -> Iterator[str]:
        context = click.Context(main, info_name="sos", **main.context_settings)
        command: click.Command = main
        if self.arguments:
            command = main.commands[self.arguments[0]]
            context = click.Context(command, info_name=command.name, parent=context)
        text, introduction, examples = _split(command)
        yield f".. program:: {context.command_path}"
        yield from _section("Synopsis", _usage(context))
        yield from _section("Description", _prose(_EXIT_STATUS.sub("", text)), "", *self.content)
        if command is main:
            yield from _section("Commands")
            for name, each in main.commands.items():
                yield from _item(f":doc:`sos-{name}(1) <sos-{name}>`", _escaped(_summary(each)))
        yield from _section("Options", *_command_options(context))
        if isinstance(command, click.Group) and command is not main:
            yield from _section("Subcommands", *_subcommands(command, context))
        statuses = [_prose(each) for each in _EXIT_STATUS.findall(text)]
        yield from _section("Exit status", *statuses, "", ".. include:: exit-status.inc")
        if examples:
            yield from _section("Examples", _prose(introduction), *_literal(examples))
        if command is not main:
            yield from _section("See also", ".. include:: see-also.inc")


class Daemon(_Page):
    """The synopsis, the description and the options of the daemon that the argument names."""

    required_arguments = 1

    def lines(self) -> Iterator[str]:
        options = import_module(_DAEMONS[self.arguments[0]].module).Options()
        program = options.program
        yield f".. program:: {program}"
        usage = rf"**twistd** [*TWISTD OPTIONS*] **{program}** {_marked(options.synopsis)}"
        yield from _section("Synopsis", usage)
        yield from _section("Description", _prose(cleandoc(options.longdesc)), "", *self.content)
        yield from _section("Options")
        for flags, text in _daemon_options(options):
            yield from _described("option", flags, text)


class Settings(_Page):
    """All settings, with their defaults."""

    def lines(self) -> Iterator[str]:
        for name, setting in SETTINGS.items():
            default = f" [default: {setting.shown}]" if setting.shown else ""
            yield from _described("confval", name, setting.text + default)


def _command_options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        help_record = parameter.get_help_record(context)
        if help_record is not None and help_record[1]:
            yield from _described("option", *help_record)


def _subcommands(group: click.Group, parent: click.Context) -> Iterator[str]:
    for name, command in group.commands.items():
        context = click.Context(command, info_name=name, parent=parent)
        text, _, _ = _split(command)
        yield from ("", f".. program:: {context.command_path}", "")
        yield from _item(_usage(context), _prose(text))
        yield ""
        yield from (f"   {line}" for line in _command_options(context))


def _daemon_options(options: DaemonOptions) -> Iterator[tuple[str, str]]:
    """Return the flags of each option, and what it does, with its default."""
    for name, text in sorted(options.docs.items()):
        short = [f"-{flag}, " for flag, long in options.synonyms.items() if flag != long == name]
        value = "=VALUE" if f"{name}=" in options.longOpt else ""
        default = options.defaults.get(name)
        if value and default is not None and "[default" not in text:
            text += f" [default: {default}]"
        yield f"{''.join(short)}--{name}{value}", text


def _summary(command: click.Command) -> str:
    return " ".join(cleandoc(command.help or "").split("\n\n")[0].split())


def _split(command: click.Command) -> tuple[str, str, str]:
    """Return the help of *command*, what it says of its examples, and these."""
    text = cleandoc(command.help or "").replace("\b\n", "")
    text, introduction, examples = [*_EXAMPLES.split(text), "", ""][:3]
    introduction = f"{introduction}:" if introduction else ""
    return text, introduction[:1].upper() + introduction[1:], examples


def _usage(context: click.Context) -> str:
    pieces = context.command.collect_usage_pieces(context)
    return f"**{context.command_path}** {_marked(' '.join(pieces))}"


def _section(title: str, *lines: str) -> Iterator[str]:
    yield from ("", title, "-" * len(title), "", *lines, "")


def _item(term: str, text: str) -> Iterator[str]:
    yield from (term, f"   {text}")


def _described(directive: str, signature: str, text: str) -> Iterator[str]:
    yield from (f".. {directive}:: {signature}", "", f"   {_prose(text)}", "")


def _literal(text: str) -> Iterator[str]:
    yield from ("", "::", "", *(f"    {line}" for line in cleandoc("\n" + text).splitlines()))


def _prose(text: str) -> str:
    """Return the paragraphs of *text* as reStructuredText, with its literals marked."""
    paragraphs = (" ".join(each.split()) for each in text.split("\n\n"))
    return "\n\n".join(map(_marked, paragraphs))


def _marked(text: str) -> str:
    parts = _LITERAL.split(text)
    parts[::2] = map(_escaped, parts[::2])
    parts[1::2] = (f"``{each}``" for each in parts[1::2])
    return "".join(parts)


def _escaped(text: str) -> str:
    """Return *text* so that it is taken as it stands."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def _show_references_as_text(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Set references in bold in man pages, where the writers of Sphinx 9 add an empty URL."""
    if app.builder.format == "man":
        for each in list(doctree.findall(nodes.reference)):
            each.replace_self(nodes.strong("", each.astext()))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("command", Command)
    app.add_directive("daemon", Daemon)
    app.add_directive("settings", Settings)
    app.connect("doctree-resolved", _show_references_as_text)
    return {"parallel_read_safe": True}
