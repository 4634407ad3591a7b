"""The clients that people use, each as something that sends one request.

The programs beside this file take METHOD URL OUTPUT BODY RANGE CA, ``-`` for none, write the
body of the answer to OUTPUT, and print its status and Content-Length. They end with another
status than 0 when they had no whole answer.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

HERE = Path(__file__).parent
# Where Debian has the modules of Node.
_NODE_MODULES = "/usr/share/nodejs"
_SECONDS = 120


class NoAnswer(Exception):
    """A client had no whole answer, and says so."""


@frozen
class Answer:
    """What a client made of an answer.

    :param length: what it says of the Content-Length, or "-".
    """

    status: int
    length: str
    body: bytes


@frozen
class Question:
    """A request.

    :param body: the file of its body.
    :param span: the value of Range, behind ``bytes=``.
    :param begun: what there is in front of that part, for a client that asks for the rest alone.
    :param ca: file of the authority that is trusted beside, or instead of, those of the system.
    """

    method: str
    url: str
    body: Path | None = None
    span: str | None = None
    begun: bytes = b""
    ca: Path | None = None

    def words(self, output: Path) -> list[str]:
        """Return it as the programs here take it."""
        return [
            self.method,
            self.url,
            str(output),
            *(str(each or "-") for each in (self.body, self.span, self.ca)),
        ]


class Program:
    """A client that is a program.

    :param name: what it goes by.
    :param version: the command that tells its version.
    :param command: returns the command that sends a question, given where the answer goes.
    :param trusts: the variable of the environment that names the authority.
    :param alerts: whether it says so in the handshake when it does not trust a server.
    :param uploads: whether it can.
    """

    def __init__(
        self,
        name: str,
        version: list[str],
        command: Callable[[Question, Path], list[str]],
        trusts: str | None = None,
        alerts: bool = True,
        uploads: bool = True,
    ) -> None:
        self.name = name
        self._version = version
        self._command = command
        self._trusts = trusts
        self.alerts = alerts
        self.uploads = uploads

    def version(self) -> str:
        """Return its version, or skip the test where it is not installed."""
        if shutil.which(self._version[0]) is None:
            pytest.skip(f"{self._version[0]} is not installed")
        done = subprocess.run(
            self._version, capture_output=True, text=True, env=_environment(), timeout=_SECONDS
        )
        if done.returncode:
            pytest.skip(f"{self.name} is not installed")
        found = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
        assert found is not None
        return found[0]

    def start(self, question: Question, output: Path) -> subprocess.Popen[str]:
        """Send *question*, and do not wait for the answer."""
        return subprocess.Popen(
            self._command(question, output),
            env=_environment({self._trusts: str(question.ca)} if self._trusts else {}, question.ca),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: Question, output: Path) -> Answer:
        """Return the whole answer to *question*; raises NoAnswer."""
        output.unlink(missing_ok=True)
        with self.start(question, output) as process:
            printed, errors = process.communicate(timeout=_SECONDS)
        status, length = self.understand(printed, errors, process.returncode)
        return Answer(status, length, output.read_bytes() if output.exists() else b"")

    def understand(self, printed: str, errors: str, ended: int) -> tuple[int, str]:
        """Return the status and the length of the answer; raises NoAnswer."""
        if ended:
            raise NoAnswer(f"{self.name} ended with {ended}: {errors[-1000:]}")
        status, length = printed.split()[-2:]
        return int(status), length


class _Wget(Program):
    """It tells the head of the answer among its errors, and ends with 6 or 8 for an error."""

    def understand(self, printed: str, errors: str, ended: int) -> tuple[int, str]:
        statuses = re.findall(r"^  HTTP/1.1 (\d+)", errors, re.MULTILINE)
        if ended not in (0, 6, 8) or not statuses:
            raise NoAnswer(f"wget ended with {ended}: {errors[-1000:]}")
        lengths = re.findall(r"^  Content-Length: (\d+)", errors, re.MULTILINE)
        return int(statuses[-1]), lengths[-1] if lengths else "-"


class _Aria2(Program):
    """It tells no status; that it had the whole file is how it ends."""

    def understand(self, printed: str, errors: str, ended: int) -> tuple[int, str]:
        if ended:
            raise NoAnswer(f"aria2c ended with {ended}: {printed[-1000:]}")
        return 200, "-"


def _environment(more: dict[str, str] | None = None, ca: Path | None = None) -> dict[str, str]:
    kept = ("HOME", "PATH", "GOCACHE", "JAVA_HOME")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    found["NODE_PATH"] = os.pathsep.join(filter(None, [os.environ.get("NODE_PATH"), _NODE_MODULES]))
    return found | (more or {} if ca is not None else {})


def _curl(question: Question, output: Path) -> list[str]:
    command = ["curl", "-sS", "-o", str(output), "-w", "%{http_code} %header{content-length}-"]
    if question.method == "HEAD":
        command.append("-I")
    if question.body is not None:
        command += ["--data-binary", f"@{question.body}"]
    if question.span is not None:
        command += ["-r", question.span]
    if question.ca is not None:
        command += ["--cacert", str(question.ca)]
    return [*command, question.url]


def _wget(question: Question, output: Path) -> list[str]:
    command = ["wget", "-S", "--tries=1", "--no-hsts", "--content-on-error", "-O", str(output)]
    command.append(f"--method={question.method}")
    if question.body is not None:
        command.append(f"--body-file={question.body}")
    if question.span is not None:
        # It takes no part for an answer that it has not asked for by itself, to the end.
        command.append(f"--start-pos={question.span.partition('-')[0]}")
    if question.ca is not None:
        command.append(f"--ca-certificate={question.ca}")
    return [*command, question.url]


def _aria2(question: Question, output: Path) -> list[str]:
    command = ["aria2c", "--no-conf", "--max-tries=1", "--file-allocation=none"]
    command += ["--dir", str(output.parent), "--out", output.name]
    if question.span is not None:
        output.write_bytes(question.begun)
    command.append("--allow-overwrite=true" if question.span is None else "--continue=true")
    if question.ca is not None:
        command.append(f"--ca-certificate={question.ca}")
    return [*command, question.url]


def _python(library: str) -> Program:
    return Program(
        library,
        [sys.executable, "-c", f"import {library}; print({library}.__version__)"],
        lambda question, output: [
            sys.executable,
            str(HERE / "with_python.py"),
            library,
            *question.words(output),
        ],
    )


def _node(name: str, library: str, version: str) -> Program:
    return Program(
        name,
        ["node", "-p", version],
        lambda question, output: [
            "node",
            str(HERE / "with_node.cjs"),
            library,
            *question.words(output),
        ],
        trusts="NODE_EXTRA_CA_CERTS",
        alerts=False,  # it looks at the certificate when the handshake is over
    )


class _Go(Program):
    """It is compiled first, once: that takes a minute where nothing of its library has been."""

    def __init__(self) -> None:
        super().__init__(
            "Go net/http",
            ["go", "version"],
            lambda question, output: [str(self.built), *question.words(output)],
            trusts="SSL_CERT_FILE",
        )

    def build(self, directory: Path) -> None:
        self.built = directory / "with_go"
        subprocess.run(
            ["go", "build", "-o", str(self.built), str(HERE / "with_go.go")],
            env=_environment(),
            check=True,
            timeout=600,
        )


#: Every client that is a program.
PROGRAMS = (
    Program("curl", ["curl", "--version"], _curl),
    # Those over GnuTLS look at the certificate when the handshake is over.
    _Wget("wget", ["wget", "--version"], _wget, alerts=False),
    _Aria2("aria2", ["aria2c", "--version"], _aria2, alerts=False, uploads=False),
    _python("requests"),
    _python("httpx"),
    _python("aiohttp"),
    _node("node fetch", "fetch", "process.version"),
    _node("axios", "axios", "require('axios').VERSION"),
    _Go(),
    Program(
        "Java HttpClient",
        ["java", "-version"],
        lambda question, output: ["java", str(HERE / "WithJava.java"), *question.words(output)],
    ),
)


class Chromium:
    """The fetch of a page of the server that is asked."""

    name = "Chromium"
    alerts = uploads = True

    def __init__(self, browser) -> None:
        self._browser = browser

    def version(self) -> str:
        return self._browser.version

    def open(self, question: Question):
        """Return a page of the server."""
        context = self._browser.new_context(ignore_https_errors=question.ca is not None)
        page = context.new_page()
        page.goto("/".join(question.url.split("/")[:3]) + "/alive")
        return page

    def ask(self, question: Question, output: Path) -> Answer:
        """Return the whole answer to *question*; raises NoAnswer."""
        from playwright.sync_api import Error

        context = None
        try:
            page = self.open(question)
            context = page.context
            found = page.evaluate(_ASK, self.arguments_for(question))
        except Error as error:
            raise NoAnswer(str(error)) from None
        finally:
            if context is not None:
                context.close()
        return Answer(found["status"], found["length"] or "-", base64.b64decode(found["body"]))

    def arguments_for(self, question: Question) -> dict[str, object]:
        """Return what the page is told of *question*."""
        body, zeros = None, 0
        if question.body is not None and question.body.stat().st_blocks:
            body = base64.b64encode(question.body.read_bytes()).decode()
        elif question.body is not None:  # a file that is nothing but a hole need not be sent there
            zeros = question.body.stat().st_size
        return {
            "zeros": zeros,
            "method": question.method,
            "url": question.url,
            "span": question.span,
            "body": body,
        }


_ASK = """async ({method, url, span, body, zeros}) => {
  const headers = span ? {Range: `bytes=${span}`} : {};
  if (zeros) body = new Blob([new Uint8Array(zeros)]);
  else
  if (body !== null) body = await (await fetch("data:;base64," + body)).blob();
  const answer = await fetch(url, {method, headers, body});
  const bytes = new Uint8Array(await answer.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768)
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return {status: answer.status, length: answer.headers.get("Content-Length"), body: btoa(text)};
}"""
#: The same, not waited for.
SEND = f"question => {{ ({_ASK})(question).catch(() => null); }}"
