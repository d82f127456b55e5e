"""The command line as a new user meets it: help in whole sentences, tables, and output that is closed early."""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from latentlab.cli import CLOSED, _parser, main
from latentlab.cli.inversion import KINDS


def walk(parser: argparse.ArgumentParser, says: str | None) -> Iterator[tuple[argparse.ArgumentParser, str | None]]:
    """Every command with its line in the list of commands."""
    yield parser, says
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {choice.dest: choice.help for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield from walk(command, lines[name])


COMMANDS = {parser.prog: (parser, says) for parser, says in walk(_parser(), None)}


def faults(parser: argparse.ArgumentParser, says: str | None) -> list[str]:
    """Parts of a command's help that are not a sentence, or do not say the default."""
    told = {f"{parser.prog}, its description": parser.description}
    same = says is None or parser.description.startswith(says)
    found = [] if same else [f"{parser.prog}: the list of commands says {says!r}"]
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._VersionAction | argparse._SubParsersAction):
            continue
        name = f"{parser.prog} {'/'.join(action.option_strings) or action.dest}"
        told[name] = text = parser._get_formatter()._expand_help(action) if action.help else ""
        given = action.nargs != 0 and action.default not in (None, [])
        if given and f"(default: {action.default})" not in text and f"(default: {action.default}," not in text:
            found.append(f"{name} does not say its default, {action.default}: {text}")
        if action.required and action.option_strings and "default" in text:
            found.append(f"{name} must be given, and yet speaks of a default: {text}")
        either = any(action in group._group_actions for group in parser._mutually_exclusive_groups)
        optional = action.option_strings and not (action.required or action.nargs == 0 or either)
        if optional and "(default: " not in text:
            found.append(f"{name} may be left out, and does not say what then holds: {text}")
    for name, text in told.items():
        if not re.fullmatch(r"[A-Z].*[.]", text or "", re.S) or len(text.split()) < 3:
            found.append(f"{name} is no sentence: {text}")
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_in_sentences_that_say_the_default(name):
    assert not (found := faults(*COMMANDS[name])), "\n".join(found)


def test_faulty_help_is_found():
    parser = argparse.ArgumentParser("x", description="This or that is done.")
    parser.add_argument("--a", default=3, help="Number of things.")
    parser.add_argument("--b", default=3, help="of things (default: 3)")
    parser.add_argument("--c", help="Number of things.")
    parser.add_argument("--d", required=True, help="Number of things (default: 3).")
    parser.add_argument("--e", default=3, help="Number of things (default: %(default)s).")
    found = "\n".join(faults(parser, "Does this."))
    assert [name in found for name in ("x --a", "x --b", "x --c", "x --d", "x --e", "the list of commands says")] == [
        *(True,) * 4, False, True,
    ]  # fmt: skip


def test_a_line_for_each_training_says_what_and_how_long():
    (action,) = (a for a in COMMANDS["latentlab train"][0]._actions if isinstance(a, argparse._SubParsersAction))
    for choice in action._choices_actions:
        assert re.search(r"; (about )?[\d.]+ (min|h)\.$", choice.help), f"{choice.dest}: {choice.help}"
        assert len(choice.help) <= 80 - 26  # one line of a terminal, behind the name


def test_help_fits_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for name, (parser, _) in COMMANDS.items():
        wide = [line for line in parser.format_help().splitlines() if len(line) > 100]
        assert not wide, f"{name}: {wide}"


def test_methods_are_listed_in_columns_flush_left(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    for title in [*KINDS.values(), "Factors of rendered faces"]:
        begin = lines.index(title) + 1
        table = lines[begin : lines.index("", begin) if "" in lines[begin:] else None]
        starts = [match.start() for match in re.finditer(r"(?<=  )\S", table[0])]
        assert len(starts) >= 3 and len(table) >= 3, title
        for line in table:
            assert all(line[at - 2 : at] == "  " and line[at : at + 1].strip() for at in starts), line


SHOUT = """
import argparse, sys
from latentlab import cli
def run(options):
    for i in range(100_000):
        print(f"line {i} of many")
parser = argparse.ArgumentParser()
parser.set_defaults(run=run, command="shout")
cli._parser = lambda: parser
sys.exit(cli.main([]))
"""
ASK = "import sys; from latentlab.cli import main; sys.exit(main(['--help']))"


@pytest.mark.parametrize("program", [SHOUT, ASK], ids=["a long table", "help"])
def test_a_command_ends_quietly_when_its_output_is_closed(program):
    begin = partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with begin([sys.executable, "-c", program], env=buffered) as process:
        if program == SHOUT:
            assert process.stdout.readline() == "line 0 of many\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=120) == CLOSED


def test_other_errors_of_the_system_are_still_told(capsys, tmp_path):
    assert main(["course", str(tmp_path), "--notebooks", str(tmp_path / "none")]) == 2
    assert "latentlab course: notebooks: expected a folder of notebooks" in capsys.readouterr().err
