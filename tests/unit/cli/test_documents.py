"""YAML files become documents that know where they stand; what cannot be read is told."""

from pathlib import Path

import pytest

from mailrelay_operator.cli.documents import (
    MAX_FILE_OCTETS,
    FilesUnusable,
    files_of,
    parse_documents,
    read_files,
)

RELAY = """\
apiVersion: mailrelay.dev/v1alpha1
kind: MailRelay
metadata:
  name: company
  namespace: mail
spec:
  listeners:
    - name: first
      port: 25
    - {name: second, port: 587}
  sizes: [1, 2]
"""


def complaint(text: str) -> str:
    with pytest.raises(FilesUnusable) as caught:
        parse_documents("relay.yaml", text)
    return str(caught.value)


def test_several_documents_know_their_lines_and_empty_ones_are_left_out() -> None:
    documents = parse_documents("x.yaml", f"---\n{RELAY}---\n# nothing\n---\n{RELAY}")
    assert [(one.line_of(""), one.subject) for one in documents] == [
        (2, "MailRelay mail/company"),
        (16, "MailRelay mail/company"),
    ]


def test_a_namespace_that_is_not_written_is_default() -> None:
    (document,) = parse_documents("x", "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n")
    assert document.subject == "Secret default/a"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 1),
        ("spec.listeners", 7),
        ("spec.listeners[first].port", 9),
        ("spec.listeners[second].port", 10),
        ("spec.listeners[1]", 10),
        ("spec.sizes[1]", 11),
        ("spec.listeners[first].tls.mode", 8),  # not written: its nearest ancestor
        ("spec.listeners[third]", 7),
        ("metadata.name", 4),
    ],
)
def test_a_path_is_found_on_its_line(path: str, line: int) -> None:
    (document,) = parse_documents("x", RELAY)
    assert document.line_of(path) == line


def test_a_problem_names_file_line_object_path_value_and_remedy() -> None:
    (document,) = parse_documents("relay.yaml", RELAY)
    problem = document.problem("must be less.", "spec.listeners[first].port", value=25)
    assert str(problem) == (
        "relay.yaml:9: MailRelay mail/company: spec.listeners[first].port: 25: must be less."
    )


def test_members_of_a_list_stand_by_themselves() -> None:
    secret = "- apiVersion: v1\n  kind: Secret\n  metadata: {name: a}\n"
    listed = f"apiVersion: v1\nkind: List\nitems:\n{secret}"
    (document,) = parse_documents("x", listed)
    assert document.subject == "Secret default/a"
    assert document.line_of("metadata.name") == 6


def test_dates_stay_the_text_that_they_are_in_kubernetes() -> None:
    (document,) = parse_documents("x", "a: 2030-01-31\nb: 2030-01-31T10:00:00Z\n")
    assert document.body == {"a": "2030-01-31", "b": "2030-01-31T10:00:00Z"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2\n", "relay.yaml:2: not valid YAML:"),
        (
            "a: 1\n---\nb: 1\nb: 2\n",
            'relay.yaml:4: not valid YAML: duplicate key "b": remove one',
        ),
        ("a: {x: 1, x: 2}\n", 'duplicate key "x"'),
        ("? [a]\n: 1\n", "not valid YAML"),
        ("a: &x 1\nb: *y\n", "undefined alias"),
        ("a: !!python/object:os.system 1\n", "could not determine a constructor"),
        ("just text\n", 'relay.yaml:1: "just text": is not an object'),
        ("- 1\n- 2\n", "is not an object"),
        ("a: \x01\n", "not valid YAML"),
        ("[" * 500, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),  # libyaml by itself would end the process
        ("- " * 100_000, "nested too deeply"),
        ("from: [*@a.example]\n", 'write "*@a.example"'),
        ("from: *@a.example\n", 'write "*@a.example"'),
        ("name: {{ .Values.name }}\n", "this looks like a Helm"),
        ("a:\n\tb: 1\n", "indent with spaces"),
    ],
)
def test_broken_yaml_is_said_with_its_place(text: str, said: str) -> None:
    assert said in complaint(text)


def test_all_broken_files_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "c.yaml").write_text("a: 1\n---\nb: ]\n")
    reading = read_files([str(tmp_path), str(tmp_path / "missing.yaml")])
    said = [str(one) for one in reading.problems]
    assert len(said) == 4
    assert "a.yaml:1: not valid YAML" in said[0]
    assert "is not UTF-8 text" in said[1]
    assert "c.yaml:3: not valid YAML" in said[2]
    assert "no such file; check the name" in said[3]
    assert [one.body for one in reading.documents] == [{"a": 1}]


def test_a_folder_stands_for_its_files_by_name_and_not_deeper(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.yaml").write_text("{}")
    assert [Path(name).name for name in files_of([str(tmp_path)])] == ["a.yaml", "b.yml", "c.json"]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RELAY)
    name = str(tmp_path / "a.yaml")
    assert len(read_files([name, str(tmp_path), name]).documents) == 1


def test_an_empty_folder_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FilesUnusable, match=r"contains no file ending in \.yaml"):
        files_of([str(tmp_path)])


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big.yaml").open("wb") as stream:
        stream.truncate(MAX_FILE_OCTETS + 1)
    (problem,) = read_files([str(tmp_path / "big.yaml")]).problems
    assert "is larger than 16 MiB" in problem.sentence


def test_a_dash_is_standard_input_which_was_read_before() -> None:
    (document,) = read_files(["-"], stdin=RELAY).documents
    assert (document.file, document.name) == ("-", "company")
