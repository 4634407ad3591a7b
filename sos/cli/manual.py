"""The manual pages, made of the same texts as ``--help``: ``python -m sos.cli.manual DIR``.

There is one for ``sos``, one for each of its commands, and one for each daemon.
What is new in a command's help is in its page when this has been run again, which a
test insists on.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import Options

from sos import __version__
from sos.cli import main
from sos.cli.configuration import CONFIGURATION
from sos.cli.program import STATUSES
from sos.daemon.options import DaemonOptions

_EXAMPLES = re.compile(r"(?:(?<=\s)|^)(Examples?\b[^:]*:)\s*$")


def pages() -> dict[str, str]:
    """Return the text of each page, by the name of its file."""
    context = click.Context(main, info_name="sos", **main.context_settings)
    commands = [main.commands[name] for name in sorted(main.commands)]
    found = {"sos.1": _program(context, commands), "sos.conf.5": _configuration()}
    for command in commands:
        found[f"sos-{command.name}.1"] = _command(command, context)
    plugins: Iterable[Any] = getPlugins(IServiceMaker)
    for plugin in plugins:
        if plugin.module.startswith("sos."):
            options = import_module(plugin.module).Options
            found[f"{plugin.tapname}.8"] = _daemon(options, plugin.description)
    return found


def _program(context: click.Context, commands: list[click.Command]) -> str:
    lines = [
        *_title("sos", 1, _first_paragraph(main)),
        *_section("Synopsis", r"\fBsos\fR \fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGS\fR]"),
        *_section("Description", *_prose(cleandoc(main.help or ""))),
        *_section("Commands"),
    ]
    for command in commands:
        lines += _item(_bold(f"sos-{command.name}") + "(1)", _first_paragraph(command))
    lines += _section("Options", *_options(main, context))
    lines += _statuses("")
    lines += _section("Files")
    lines += _item(_bold("/etc/sos.conf"), "The servers, see sos.conf(5).")
    lines += _item(_bold("~/.sos.conf"), "The same; it is read after the other.")
    others = [f"sos-{command.name}(1)" for command in commands]
    return _page(lines, [*others, "sos.conf(5)", "sos-blob(8)", "sos-api(8)"])


def _command(command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=command.name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    text, examples = _parted(cleandoc((command.help or "").replace("\b", "")))
    lines = [
        *_title(f"sos-{command.name}", 1, _first_paragraph(command)),
        *_section("Synopsis", f"{_bold(f'sos {command.name}')} {_escaped(usage)}"),
        *_section("Description", *_prose(text)),
        *_section("Options", *_options(command, context)),
        *_statuses(text),
        *_section("Examples", *examples),
    ]
    return _page(lines, ["sos(1)", "sos.conf(5)", "sos-blob(8)", "sos-api(8)"])


def _daemon(kind: type[DaemonOptions], description: str) -> str:
    options = kind()
    program = options.program
    lines = [
        *_title(program, 8, description.removeprefix("SOS: ")),
        *_section(
            "Synopsis",
            rf"\fBtwistd\fR [\fITWISTD OPTIONS\fR] {_bold(program)} {_escaped(options.synopsis)}",
        ),
        *_section("Description", *_prose(cleandoc(options.longdesc))),
        *_section("Options"),
    ]
    for flags, text in sorted(_daemon_options(options), key=lambda each: each[0][-1]):
        lines += _item(", ".join(flags), text)
    lines += _section(
        "Signals",
        *_prose(
            "SIGTERM ends it when what is under way is finished, or after ten seconds. "
            "SIGHUP has it read certificates, keys, tokens and, where it has one, sos.conf again."
        ),
    )
    lines += _section("Exit status")
    for status, text in (
        (1, "It could not start; the log says why."),
        (2, "An option or sos.conf is wrong; one line says which."),
    ):
        lines += _item(_bold(str(status)), text)
    return _page(lines, ["twistd(1)", "sos(1)", "sos.conf(5)", "sos-blob(8)", "sos-api(8)"])


def _configuration() -> str:
    lines = _title("sos.conf", 5, "The servers of SOS, and settings.")
    for title, text in CONFIGURATION:
        lines += _section(title, *_prose(cleandoc(text)))
    return _page(lines, ["sos(1)", "sos-api(8)"])


def _daemon_options(options: Options) -> Iterator[tuple[list[str], str]]:
    """Tell the flags of each option, and what it does with its default."""
    shorts: dict[str, list[str]] = {}
    for flag, name in options.synonyms.items():
        shorts.setdefault(name, []).append(flag)
    flags = {flag.rstrip("=").replace("_", "-") for flag in options.longOpt if flag[-1:] != "="}
    for name, text in options.docs.items():
        long = name.replace("_", "-")
        if long == "help":
            text = "Show the options, and end."
        if not text:
            text = cleandoc(getattr(options, f"opt_{name.replace('-', '_')}").__doc__ or "")
        value = "" if long in flags else r"=\fIVALUE\fR"
        short = [_bold(f"-{each}") for each in shorts.get(name, ()) if len(each) == 1]
        default = options.defaults.get(name)
        if value and default is not None and "[default" not in text:
            text += f" [default: {default}]"
        yield [*short, _bold(f"--{long}") + value], text


def _options(command: click.Command, context: click.Context) -> list[str]:
    lines: list[str] = []
    for parameter in command.get_params(context):
        told = parameter.get_help_record(context)
        if told is not None and told[1]:
            flags, text = told
            marked = re.sub(r"(?<![\w-])(--?[\w-]+)", lambda found: _bold(found[1]), flags)
            lines += _item(marked, text)
    return lines


def _statuses(text: str) -> list[str]:
    """Tell the exit statuses, and of the description *text* when it ends with which."""
    own = " ".join(re.findall(r"Ends\s+with\s[^.]*\.", text)).replace("\n", " ")
    lines = _section("Exit status", *([_escaped(own)] if own else []))
    for status, meaning in STATUSES:
        lines += _item(_bold(str(status)), meaning)
    return lines


def _parted(text: str) -> tuple[str, list[str]]:
    """Return what comes before the examples, and these, as lines of a page."""
    before: list[str] = []
    examples: list[str] = []
    for paragraph in text.split("\n\n"):
        if re.match(r"\s{2,}\S|\n\s{2,}\S", paragraph):
            block = cleandoc("\n" + paragraph.strip("\n"))
            examples += [".PP", ".nf", ".RS 4", *map(_escaped, block.splitlines()), ".RE", ".fi"]
            continue
        joined = " ".join(paragraph.split())
        found = _EXAMPLES.search(joined)
        if found is not None:
            if found[1] not in ("Example:", "Examples:"):
                examples += [".PP", _escaped(found[1].partition(" ")[2].capitalize())]
            joined = joined[: found.start()].rstrip()
        if joined:
            before.append(joined)
    return "\n\n".join(before), examples


def _prose(text: str) -> list[str]:
    """Set *text*: paragraphs, and what is indented as it stands."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("  "):
            block = cleandoc("\n" + paragraph)
            lines += [".PP", ".nf", ".RS 4", *map(_escaped, block.splitlines()), ".RE", ".fi"]
        elif paragraph.strip():
            lines += [".PP", _escaped(" ".join(paragraph.split()))]
    return lines


def _first_paragraph(command: click.Command) -> str:
    paragraph = cleandoc(command.help or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def _title(name: str, section: int, told: str) -> list[str]:
    summary = told.rstrip(".")
    return [
        f'.TH "{name.upper()}" "{section}" "" "SOS {__version__}" "Simple Object Storage"',
        *_section("Name", rf"{_escaped(name)} \- {_escaped(summary)}"),
    ]


def _section(title: str, *lines: str) -> list[str]:
    return [f".SH {title.upper()}", *lines]


def _item(head: str, text: str) -> list[str]:
    return [".TP", head, _escaped(" ".join(text.split()))]


def _page(lines: list[str], others: list[str]) -> str:
    own = lines[0].split('"')
    own_name = f"{own[1].lower()}({own[3]})"
    named = ", ".join(_reference(each) for each in others if each != own_name)
    made = r".\" Made by python -m sos.cli.manual: change the texts of --help instead."
    return "\n".join([made, *lines, *_section("See also", named), ""])


def _reference(page: str) -> str:
    name, _, section = page.partition("(")
    return f"{_bold(name)}({section}"


def _bold(text: str) -> str:
    return rf"\fB{_escaped(text)}\fR"


def _escaped(text: str) -> str:
    """Return *text* so that troff takes it as it stands."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    escaped = escaped.replace("`", r"\(ga").replace("~", r"\(ti").replace("^", r"\(ha")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write(directory: Path) -> None:
    """Write all pages into *directory*, and remove those that are no more."""
    directory.mkdir(parents=True, exist_ok=True)
    made = pages()
    for path in directory.glob("*.[0-9]"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (directory / name).write_text(text, encoding="utf-8")


def _main(arguments: list[str]) -> Any:
    if len(arguments) != 1:
        return "usage: python -m sos.cli.manual DIR"
    return write(Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
