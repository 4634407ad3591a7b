"""Wrong values of the daemons' options: one line each, which names the option."""

from __future__ import annotations

import pytest
from twisted.python.usage import Options

from sos.tap import api, blob

#: Texts that mean something whatever they are: addresses, files, and whole endpoints.
FREE = {"host", "api-host", "access-log", "audit-log", "config", "unfinished-dir"}
#: Files that are read at the start: what is wrong with one is told by its name.
FILES = {"secret-file", "token-file", "tls-certificate", "tls-client-ca", "tls-ca"}
FILES |= {"tls-key", "tls-client-certificate", "tls-client-key"}
#: What nothing that is checked can be.
WRONG = "?"


def values_of(module) -> list:
    options = module.Options()
    taking = {flag[:-1].replace("_", "-") for flag in options.longOpt if flag.endswith("=")}
    return [pytest.param(module, name, id=f"{options.program} --{name}") for name in sorted(taking)]


def refusal(capsys, options: Options, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        options.parseOptions(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{options.program}: ")
    assert "Errno" not in line
    return line


@pytest.mark.parametrize(("module", "name"), [*values_of(blob), *values_of(api)])
def test_no_value_and_a_wrong_one(module, name, capsys, tmp_path, monkeypatch):
    """Every option that takes a value; what is a file or an address shows when it is used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sos.tap.cluster.CONFIG_FILES", ())
    assert f"--{name}" in refusal(capsys, module.Options(), f"--{name}=").replace("option --", "--")
    assert name in refusal(capsys, module.Options(), f"--{name}")
    if name in FREE or (name == "store"):
        return
    options = module.Options()
    behind = ["--blob-server", "https://a"] if module is api and name != "blob-server" else []
    line = refusal(capsys, options, *behind, f"--{name}", WRONG)
    assert f"--{name}" in line or (name in FILES and str(tmp_path / WRONG) in line)
    assert "could not convert" not in line
    assert "invalid literal" not in line


def test_an_option_that_there_is_not(capsys):
    """It is named."""
    for module in (blob, api):
        assert "colour" in refusal(capsys, module.Options(), "--colour", "red")
        assert "red" in refusal(capsys, module.Options(), "red")


@pytest.mark.parametrize("place", ["nosuch://a", "redis:", "ftp://a/b"])
def test_a_store_that_there_is_not(capsys, place):
    """A scheme that nothing keeps blobs by."""
    assert "--store" in refusal(capsys, blob.Options(), "--store", place)
    assert "--store" in refusal(capsys, api.Options(), "--store", place)


def test_more_copies_than_servers(capsys, tmp_path, monkeypatch):
    """No upload could ever be answered; what is set in the file is refused as well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sos.tap.cluster.CONFIG_FILES", ())
    two = ["--blob-server", "http://a:1,http://b:1"]
    api.Options().parseOptions([*two, "--write-copies", "2"])
    line = refusal(capsys, api.Options(), *two, "--write-copies", "3")
    assert "--write-copies" in line
    assert "2" in line
    file = tmp_path / "sos.conf"
    file.write_text(
        "[a]\n-: http://a:1\n-: http://b:1\n[b]\n-: http://c:1\n[sos]\nwrite-copies = 3\n"
    )
    assert "write-copies" in refusal(capsys, api.Options(), "--config", str(file))
    api.Options().parseOptions(["--config", str(file), "--write-copies", "2"])
    # One process keeps one copy, whatever the cluster has.
    api.Options().parseOptions(["--store", str(tmp_path / "data"), "--write-copies", "3"])
