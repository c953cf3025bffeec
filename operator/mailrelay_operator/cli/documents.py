"""Reads YAML files into documents that know their lines, for messages with FILE:LINE.

`inventory` interprets the documents; nothing is guessed or repaired.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer

#: Manifests are kilobytes; etcd's limit for an object is 1.5 MiB. This stops a core dump.
MAX_FILE_OCTETS = 16 * 1024 * 1024
#: The same suffixes as with kubectl, and like it without subfolders.
ENDINGS = (".yaml", ".yml", ".json")
STDIN = "-"
#: Characters of a value in a message; the rest is cut.
MAX_SHOWN = 60

# One step of a path: `.field`, or `[entry]` with the entry's name or number.
STEP = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProblem:
    """A problem in a file: the place, the value seen, and what to do."""

    file: str
    sentence: str
    line: int = 0  # counted from 1; 0: the file as a whole
    subject: str = ""  # `MailRelay default/sandbox`
    path: str = ""  # `spec.listeners[0].port`
    value: str = ""  # as shown, a string in quotes
    is_warning: bool = False  # valid, but maybe not intended

    def __str__(self) -> str:
        """`FILE:14: MailRelay default/sandbox: spec.x: VALUE: sentence`, in the format of
        compilers, which editors understand."""
        where = f"{shown_name(self.file)}:{self.line}" if self.line else shown_name(self.file)
        kind = "warning" if self.is_warning else ""
        parts = (where, kind, self.subject, self.path, self.value, self.sentence)
        return ": ".join(part for part in parts if part)


class FilesUnusable(Exception):
    """The files are not valid; `problems` has at least one member."""

    def __init__(self, problems: Sequence[FileProblem]) -> None:
        """Keep all problems."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The contents of all files. `problems` says what could not be read; `empty` are the files
    without objects."""

    documents: tuple[Document, ...]
    problems: tuple[FileProblem, ...] = ()
    empty: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One object of a file. `body` is the parsed YAML, `node` has the lines."""

    file: str
    body: dict[str, Any] = field(repr=False)
    node: yaml.Node = field(repr=False)

    @property
    def kind(self) -> str:
        """`kind`; "" if it is missing or not a string."""
        kind = self.body.get("kind")
        return kind if isinstance(kind, str) else ""

    @property
    def api_version(self) -> str:
        """`v1`, `mailrelay.dev/v1alpha1`; "" if it is missing or not a string."""
        version = self.body.get("apiVersion")
        return version if isinstance(version, str) else ""

    @property
    def group(self) -> str:
        """`mailrelay.dev` of `mailrelay.dev/v1alpha1`; "" for the core's `v1`."""
        group, slash, _ = self.api_version.rpartition("/")
        return group if slash else ""

    @property
    def name(self) -> str:
        """`metadata.name`; "" if it is missing or not a string."""
        return self._metadata("name")

    @property
    def namespace(self) -> str:
        """`metadata.namespace`; `default` if it is missing, like kubectl without a context."""
        return self._metadata("namespace") or "default"

    @property
    def subject(self) -> str:
        """`KIND NS/NAME`, for messages."""
        if not self.kind:
            return ""
        if self.kind == "Namespace":
            return f"Namespace {self.name or '?'}"
        return f"{self.kind} {self.namespace}/{self.name or '?'}"

    def line_of(self, path: str) -> int:
        """The line (from 1) of `spec.listeners[web].port`, or of its nearest existing ancestor."""
        node = self.node
        line = node.start_mark.line
        for field_name, entry in STEP.findall(path):
            found = _child(node, field_name) if field_name else _entry(node, entry)
            if found is None:
                break
            line, node = found
        return int(line) + 1

    def problem(self, sentence: str, path: str = "", *, value: Any = None) -> FileProblem:
        """A problem of this document at `path`, without a value if `value` is None."""
        return FileProblem(
            file=self.file,
            line=self.line_of(path),
            subject=self.subject,
            path=path,
            value="" if value is None else show(value),
            sentence=sentence,
        )

    def _metadata(self, key: str) -> str:
        metadata = self.body.get("metadata")
        value = metadata.get(key) if isinstance(metadata, dict) else None
        return value if isinstance(value, str) else ""


def show(value: Any) -> str:
    """A value for a message, on one line and truncated."""
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    shown = " ".join(shown.split())
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."


def shown_name(file: str) -> str:
    """The name of a file for messages."""
    return "<stdin>" if file == STDIN else file


def files_of(names: Iterable[str]) -> tuple[str, ...]:
    """The files named by arguments: a folder means its files, `-` standard input."""
    found, problems = _list_files(names)
    if problems:
        raise FilesUnusable(problems)
    return found


def read_stdin(names: Iterable[str]) -> str | None:
    """The text of standard input if `-` is among the arguments; it can be read only once."""
    if STDIN not in names:
        return None
    if sys.stdin is None:  # a shell's `<&-`
        raise FilesUnusable(
            [FileProblem(file=STDIN, sentence="standard input is closed; give a file instead.")]
        )
    try:
        return sys.stdin.buffer.read(MAX_FILE_OCTETS + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FilesUnusable([FileProblem(file=STDIN, sentence=_not_text(error))]) from None
    except OSError as error:
        sentence = f"cannot be read: {error.strerror}."
        raise FilesUnusable([FileProblem(file=STDIN, sentence=sentence)]) from None


def read_files(names: Iterable[str], *, stdin: str | None = None) -> Reading:
    """All documents of all files, in order, and everything that cannot be read.

    `stdin` is the text for `-`, from `read_stdin`.
    """
    files, problems = _list_files(names)
    documents: list[Document] = []
    empty: list[str] = []
    for name in files:
        try:
            found = scan(name, _read_text(name, stdin))
        except FilesUnusable as error:
            problems.extend(error.problems)
            continue
        documents.extend(found.documents)
        problems.extend(found.problems)
        empty.extend(found.empty)
    return Reading(documents=tuple(documents), problems=tuple(problems), empty=tuple(empty))


def parse_documents(file: str, text: str) -> tuple[Document, ...]:
    """The documents of one file's text; raises FilesUnusable with all its problems."""
    found = scan(file, text)
    if found.problems:
        raise FilesUnusable(found.problems)
    return found.documents


def scan(file: str, text: str) -> Reading:
    """The documents of one file's text, without empty ones and with the members of a `List`
    separately, and its problems. Reading stops at a syntax error."""
    documents: list[Document] = []
    problems: list[FileProblem] = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # after check_node()
            body = loader.construct_document(node)
            if body is None:
                continue
            if not isinstance(body, dict):
                problems.append(
                    FileProblem(
                        file=file,
                        line=node.start_mark.line + 1,
                        value=show(body),
                        sentence="is not an object: it needs apiVersion, kind and metadata.",
                    )
                )
                continue
            documents.extend(_expand(Document(file=file, body=body, node=node)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "cannot be read"
        # A premature end is reported on a line after the last.
        line = min(mark.line, max(len(text.splitlines()) - 1, 0)) + 1 if mark else 0
        sentence = f"not valid YAML: {what}"
        if mark:
            sentence += f" (column {mark.column + 1})"
        if advice := advise(text, line, what):
            sentence += f"; {advice}"
        problems.append(FileProblem(file=file, line=line, sentence=f"{sentence}."))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # ReaderError (a control character), excessive nesting, an invalid number or date.
        what = (
            "nested too deeply" if isinstance(error, RecursionError) else str(error).split("\n")[0]
        )
        problems.append(FileProblem(file=file, line=1, sentence=f"not valid YAML: {what}."))
    is_empty = not documents and not problems
    return Reading(
        documents=tuple(documents), problems=tuple(problems), empty=(file,) if is_empty else ()
    )


def advise(text: str, line: int, what: str) -> str:
    """What to write instead, for the most common mistakes; "" for all others."""
    lines = text.splitlines()
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    if "{{" in written:
        return (
            "this looks like a Helm template: render it first, for example with"
            " `helm template CHART | mailrelay check -`"
        )
    if found := re.search(r"(?:^|[\s\[,:])([*&][@\w.*-]*@[\w.*-]+|\*)(?=[\s\],}]|$)", written):
        return f'a value that begins with {found[1][0]} needs quotes: write "{found[1]}"'
    if "\t" in written and ("\\t" in what or "tab" in what or "token" in what):
        return "indent with spaces, not with tabs"
    return ""


class _Composer(Composer):
    """The composer in Python, for either parser: libyaml's recurses in C, and a document nested
    ten thousand levels deep would crash the process."""

    def __init__(self, text: str) -> None:
        Composer.__init__(self)
        _Parser.__init__(self, text)


# libyaml's parser if PyYAML was built with it: many times faster, with the same events.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Composer, _Parser):  # type: ignore[misc] # one of two classes, alike in methods
    """SafeLoader that refuses duplicate keys (YAML 1.2, 3.2.1.3) and reads dates as strings."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a string", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {show(key)}: remove one", key_node.start_mark
                )
            seen.add(key)
        result: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return result


# Kubernetes reads 2030-01-31 as a string, YAML 1.1 as a date.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _expand(document: Document) -> Iterator[Document]:
    """A `List` (what `kubectl get -o yaml` prints) as its members, anything else as itself."""
    items = document.body.get("items")
    if document.api_version != "v1" or document.kind != "List" or not isinstance(items, list):
        yield document
        return
    found = _child(document.node, "items")
    nodes = found[1].value if found else []
    for item, node in zip(items, nodes, strict=False):
        if isinstance(item, dict):
            yield Document(file=document.file, body=item, node=node)


def _child(node: yaml.Node, field_name: str) -> tuple[int, yaml.Node] | None:
    """The line and node of a field of a mapping; None if it is absent."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == field_name:
                return key.start_mark.line, value
    return None


def _entry(node: yaml.Node, label: str) -> tuple[int, yaml.Node] | None:
    """The line and node of an entry of a list, by its `name` or its index; None if absent."""
    if not isinstance(node, yaml.SequenceNode):
        return None
    for number, member in enumerate(node.value):
        name = _child(member, "name")
        if (name is not None and name[1].value == label) or (name is None and label == str(number)):
            return member.start_mark.line, member
    if label.isdigit() and int(label) < len(node.value):
        member = node.value[int(label)]
        return member.start_mark.line, member
    return None


def _list_files(names: Iterable[str]) -> tuple[tuple[str, ...], list[FileProblem]]:
    found: list[str] = []
    problems: list[FileProblem] = []
    for name in names:
        path = Path(name)
        try:
            if name == STDIN or not path.is_dir():
                found.append(name)
                continue
            inside = sorted(str(p) for p in path.iterdir() if p.suffix in ENDINGS and p.is_file())
        except OSError as error:
            problems.append(FileProblem(file=name, sentence=f"cannot be read: {error.strerror}."))
            continue
        if not inside:
            problems.append(
                FileProblem(file=name, sentence=f"contains no file ending in {', '.join(ENDINGS)}.")
            )
        found.extend(inside)
    return tuple(dict.fromkeys(found)), problems


def _read_text(name: str, stdin: str | None) -> str:
    """The text of one file, limited in size; raises FilesUnusable if it cannot be read."""
    try:
        if name == STDIN:
            text = stdin or ""
        else:
            with Path(name).open(encoding="utf-8-sig") as stream:
                text = stream.read(MAX_FILE_OCTETS + 1)
        if len(text) <= MAX_FILE_OCTETS:
            return text
        sentence = f"is larger than {MAX_FILE_OCTETS >> 20} MiB; is it YAML?"
    except FileNotFoundError:
        sentence = "no such file; check the name and the current folder."
    except UnicodeDecodeError as error:
        sentence = _not_text(error)
    except OSError as error:
        sentence = f"cannot be read: {error.strerror}."
    raise FilesUnusable([FileProblem(file=name, sentence=sentence)])


def _not_text(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8 text (octet {error.start}); is it really YAML?"
