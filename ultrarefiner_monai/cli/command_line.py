"""The words of a command line, read by the signature of the verb that they call, before `fire` calls it.

`fire` takes words for what they look like, and calls a verb before it has used all of them: `--out 2024.20` would write to
2024.2, an `--out` without a value to a folder True, and a word too many would be told once all is done. Here each word is
read as the annotation of its parameter says, and `fire` gets a command that can mean one thing only.
"""

import inspect
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import Parameter
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from fire import parser

from ultrarefiner_monai.errors import SHOWN_PROBLEMS, DataError, did_you_mean, shown
from ultrarefiner_monai.systems.key import WORDS

NAME = "ultrarefiner"
HELP = {"-h", "--help"}
OPTION = re.compile(r"--|-[a-zA-Z]")  # -1 is a value, as fire has it
FAMILIES: dict[Any, str] = {  # of values, in words; bool is an int and str a Sequence: the first one counts
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "text",
    Sequence: "a list such as A,B",
    Mapping: "names and values such as {A: B}",
}


class UsageError(DataError):
    """Words that are no command: unknown, missing, surplus, or not of the kind that is meant. Nothing was run."""


def command(verbs: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    """The words as `fire` is to have them: the verb, and each value as a Python literal beside its name.

    Args:
        verbs: functions by name, and objects whose methods are a group of them.
        words: as they were typed. Those behind a last "--" are fire's own, such as `-- --trace`, and stay.

    Raises:
        UsageError: everything that is wrong, in one line.
    """
    todo, flags = parser.SeparateFlagArgs(list(words))
    if unknown := parser.CreateParser().parse_known_args(flags)[1]:
        raise UsageError(f"{unknown[0]}: no flag of fire, the only words behind --, such as --trace")
    route: list[str] = []
    verb: Any = verbs
    while not callable(verb) and todo and todo[0] not in HELP:
        verb = _member(verb, todo[0], route)
        route.append(todo.pop(0))
    if HELP & {*todo, *flags}:
        return [*route, "--", "--help"]
    return [*route, *(_Verb(verb, route).literals(todo) if callable(verb) else ()), "--", *flags]


def overview(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """The verbs by purpose with the first line of what each does, in 80 columns.

    Args:
        groups: purpose -> verbs as `command` takes them.
    """
    lines = [f"{NAME} VERB WORDS; {NAME} VERB --help names the words of a verb"]
    for purpose, verbs in groups.items():
        lines += ["", purpose]
        for name, verb in verbs.items():
            each = {name: verb} if callable(verb) else {f"{name} {key}": one for key, one in _members_of(verb).items()}
            for words, function in each.items():
                told = (inspect.getdoc(function) or "").partition("\n")[0]
                lines += textwrap.wrap(told, 80, initial_indent=f"  {words:<19} ", subsequent_indent=22 * " ")
    return "\n".join(lines)


def _members_of(group: Any) -> dict[str, Any]:
    """The verbs of a group, by name."""
    members = group if isinstance(group, Mapping) else dict(inspect.getmembers(group, inspect.ismethod))
    return {key: member for key, member in members.items() if not key.startswith("_")}


def _member(group: Any, name: str, route: Sequence[str]) -> Any:
    """The verb, or group of verbs, of that name."""
    known = _members_of(group)
    if name not in known:
        raise UsageError(f"{' '.join([NAME, *route])}: unknown verb '{name}': {did_you_mean(name, known)}")
    return known[name]


class _Verb:
    """The parameters of a verb, and what is wrong with the words that it is called with."""

    def __init__(self, function: Callable[..., None], route: Sequence[str]) -> None:
        self.called = " ".join([NAME, *route])
        self.problems: list[str] = []
        self.named: dict[str, Parameter] = {}
        self.rest: Parameter | None = None  # *paths
        self.free: Parameter | None = None  # **shared
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
            if parameter.kind is Parameter.VAR_POSITIONAL:
                self.rest = parameter
            elif parameter.kind is Parameter.VAR_KEYWORD:
                self.free = parameter
            else:
                self.named[name] = parameter

    def literals(self, words: Sequence[str]) -> list[str]:
        """The words as Python literals: `--name='text'`, and those of `*paths` by themselves."""
        alone, options = _split(words)
        given: dict[str, list[str]] = {}
        for option, text in options:
            self._name(option, text, given)
        rest = self._place(alone, given)
        found = [f"--{name}={self._value(name, texts)!r}" for name, texts in given.items()]
        found += [repr(self._value(None, [text])) for text in rest]
        if self.problems:
            told = shown(self.problems, SHOWN_PROBLEMS, "; ")
            raise UsageError(f"{self.called}: {told}; see {self.called} --help")
        return found

    def _name(self, option: str, text: str | None, given: dict[str, list[str]]) -> None:
        """Give an option's text to the parameter that it means; one that stands alone is a truth value."""
        starting = [] if self.free else [name for name in self.named if name[0] == option]
        name = starting[0] if len(starting) == 1 else option
        denied = name.removeprefix("no")
        if name in self.named or (self.free and not self._is_truth(denied)):
            if text is None and name in self.named and not self._is_truth(name):
                self.problems.append(f"--{name}: expected {_expected(self.named[name])}, found no value")
            given.setdefault(name, []).append("true" if text is None else text)
        elif text is None and self._is_truth(denied):
            given.setdefault(denied, []).append("false")
        else:
            known = [f"--{one}" for one in self.named]
            self.problems.append(f"unknown option --{option}: {did_you_mean(f'--{option}', known)}")

    def _is_truth(self, name: str) -> bool:
        return name in self.named and bool in _kinds(self.named[name])

    def _place(self, alone: list[str], given: dict[str, list[str]]) -> list[str]:
        """Give words that stand alone to the parameters without an option, in their order; those of `*paths` are left."""
        for name, parameter in self.named.items():
            if alone and name not in given and parameter.kind is not Parameter.KEYWORD_ONLY:
                given[name] = [alone.pop(0)]
            elif name not in given and parameter.default is Parameter.empty:
                self.problems.append(f"--{name} is missing")
        if self.rest and not alone:
            self.problems.append(f"{self.rest.name} are missing")
        if alone and not self.rest:
            self.problems.append(f"'{alone[0]}' is a word too many")
        return alone if self.rest else []

    def _value(self, name: str | None, texts: Sequence[str]) -> Any:
        """What the texts of a parameter mean; of several only a list."""
        parameter: Any = self.rest if name is None else self.named.get(name, self.free)
        told = parameter.name if name is None else f"--{name}"
        try:
            return _read(_kinds(parameter), texts[0] if len(texts) == 1 else list(texts))
        except ValueError:
            found = repr(texts[0]) if len(texts) == 1 else f"it {len(texts)} times"
            self.problems.append(f"{told}: expected {_expected(parameter)}, found {found}")
            return None


def _split(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Words that stand alone; options with the text of each, None where an option stands alone."""
    alone: list[str] = []
    options: list[tuple[str, str | None]] = []
    todo = list(words)
    while todo:
        word = todo.pop(0)
        if OPTION.match(word):
            option, equals, text = word.lstrip("-").partition("=")
            is_alone = not equals and (not todo or OPTION.match(todo[0]))
            options.append((option.replace("-", "_"), text if equals else None if is_alone else todo.pop(0)))
        else:
            alone.append(word)
    return alone, options


def _kinds(parameter: Parameter) -> list[Any]:
    """The kinds of value that a parameter is annotated with."""
    return _members(parameter.annotation)


def _members(annotation: Any) -> list[Any]:
    """The members of a union, those that are any text last."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return sorted(members, key=lambda kind: kind in (str, Path, Any))


def _family(kind: Any) -> Any:
    """The type of `FAMILIES` that a kind belongs to; Literal and Any are their own."""
    origin = get_origin(kind) or kind
    return next((one for one in FAMILIES if isinstance(origin, type) and issubclass(origin, one)), origin)


def _expected(parameter: Parameter) -> str:
    """What a parameter must be, in words."""
    kinds = [kind for kind in _kinds(parameter) if kind is not NoneType]
    words = [", ".join(get_args(kind)) if get_origin(kind) is Literal else FAMILIES[_family(kind)] for kind in kinds]
    return " or ".join(dict.fromkeys(words))


def _read(kinds: Sequence[Any], value: Any) -> Any:
    """The first of the kinds that a text, or a list or mapping of texts, is a value of; ValueError where there is none."""
    for kind in kinds:
        with suppress(ValueError):
            return _as(kind, value, is_list=str not in kinds)
    raise ValueError


def _as(kind: Any, value: Any, is_list: bool) -> Any:
    """A text as a value of one kind; that of a list may do without brackets where it `is_list` in any case."""
    family, arguments = _family(kind), get_args(kind)
    if family is Sequence:
        value = _structure(f"[{value}]" if is_list and isinstance(value, str) and value[:1] not in "[(" else value)
        if isinstance(value, list):
            return [_read(_members(arguments[0]), item) for item in value]
    elif family is Mapping:
        value = _structure(value)
        if isinstance(value, dict):
            return {key: _read(_members(arguments[1]), item) for key, item in value.items()}
    elif family is Any or (family is NoneType and value == "None"):
        return None if value in ("None", "null") else value
    elif isinstance(value, str):
        return _plain(family, arguments, value)
    raise ValueError


def _plain(family: Any, arguments: Sequence[Any], text: str) -> Any:
    """A text as one plain value."""
    if family is bool and text.lower() in WORDS:
        return WORDS[text.lower()]
    if family is int:
        return int(text)
    if family is float and math.isfinite(float(text)):
        return float(text)
    if (family is Literal and text in arguments) or (family in (str, Path) and text.strip()):
        return text
    raise ValueError


def _structure(value: Any) -> Any:
    """The list or mapping of texts that a text in brackets stands for; other values as they are."""
    if not isinstance(value, str) or value[:1] not in tuple("[{("):
        return value
    import yaml

    try:
        return yaml.load(f"[{value[1:-1]}]" if value[0] == "(" else value, yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError from error
