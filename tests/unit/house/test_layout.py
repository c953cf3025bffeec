"""The layout that lets a folder be named `operator`, and the size of files."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import mailrelay_gateway
import mailrelay_operator

ROOT = Path(__file__).resolve().parents[3]
MAX_LINES = 500
EXCUSE = "Over 500 lines because"


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_no_python_file_stands_directly_in_operator_or_gateway() -> None:
    # With operator/__init__.py, `import operator` from the root would find ours: Python breaks.
    loose = [path for name in ("operator", "gateway") for path in (ROOT / name).glob("*.py*")]
    assert loose == []


def test_operator_is_the_standard_library_s_even_from_the_root() -> None:
    program = "import operator; assert operator.itemgetter; print(operator.__file__)"
    # `-c` puts the current folder first on sys.path: the worst case.
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not Path(found.strip()).is_relative_to(ROOT / "operator")
    assert Path(found.strip()).name == "operator.py"


def test_no_folder_of_ours_hides_a_module_of_the_standard_library() -> None:
    # What an editable install puts on sys.path: gateway/ and operator/, so their children count.
    children = [p.stem for name in ("operator", "gateway") for p in (ROOT / name).iterdir()]
    assert not set(children) & sys.stdlib_module_names


def test_both_packages_carry_the_version_of_the_distribution() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert mailrelay_gateway.__version__ == version
    assert mailrelay_operator.__version__ == version


def test_a_long_file_says_why() -> None:
    unexplained = []
    for path in python_files("gateway", "operator", "tests", "charts"):
        text = path.read_text()
        lines = text.count("\n")
        if lines > MAX_LINES and EXCUSE not in (ast.get_docstring(ast.parse(text)) or ""):
            unexplained.append(f"{path.relative_to(ROOT)}: {lines} lines")
    assert unexplained == [], f"split these, or say `{EXCUSE} ...` in the module's docstring"


def test_every_module_opens_with_its_law() -> None:
    lawless = [
        str(path.relative_to(ROOT))
        for path in python_files("gateway", "operator")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert lawless == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty_words = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common|base)$")
    found = [
        str(path.relative_to(ROOT))
        for path in python_files("gateway", "operator")
        if empty_words.search(path.stem)
    ]
    assert found == []
