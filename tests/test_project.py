"""The repository's own promises: lock, documents, names, sizes, and the wheel outside the checkout."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from outdial import __version__
from outdial.config import documented, variable_of

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "outdial"
# Folders that hold no file of the repository, for a checkout whose git cannot be asked.
UNTRACKED = {".hypothesis", ".git", ".venv", "data", "build", "dist", "results", "__pycache__"}


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """Every text file of the repository, asked of git where it answers."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    git = shutil.which("git")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True) if git else None
    if listed is not None and listed.returncode == 0 and listed.stdout:
        paths = {ROOT / name for name in listed.stdout.split("\0") if name}
    else:
        paths = {path for path in ROOT.rglob("*") if not set(path.relative_to(ROOT).parts) & UNTRACKED}
        paths = {path for path in paths if not any(part.endswith("_cache") for part in path.parts)}
    return sorted(path for path in paths if path.is_file())


def texts() -> Iterator[tuple[str, str]]:
    """Every readable text of the repository, with its path; the licence is its authors' text."""
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path.name != "LICENSE":
            yield str(path.relative_to(ROOT)), text


# -- version, README, Makefile ---------------------------------------------------------------------------


def test_changelog_opens_with_unreleased_and_names_the_version() -> None:
    sections = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert __version__ in read("CHANGELOG.md")


def test_readme_begins_with_the_apt_line() -> None:
    first = read("README.md").partition("\n")[0]
    assert re.search(r"apt-get install .*\bmake\b.*\bpython3-venv\b", first)


def test_every_make_command_of_the_documents_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE))
    assert {"setup", "demo", "test", "test-long", "check", "bench", "bench-long", "run"} <= targets
    for document in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"^\s*make ([a-z-]+)|`make ([a-z-]+)", read(document), re.MULTILINE))
        wanted = {first or second for first, second in named}
        assert {"demo", "test"} <= wanted
        assert wanted <= targets


def test_links_between_the_documents_lead_to_files() -> None:
    broken = []
    for path in (path for path in tracked() if path.suffix == ".md"):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if ":" not in link and not (path.parent / link).exists():
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert broken == []


def test_decision_records_are_numbered_and_say_what_they_do_not_cover() -> None:
    records = sorted((ROOT / "docs/why/decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.name[:4]}: "), path.name
        assert "\n## Alternative" in text, path.name
        assert "\n## Not covered" in text, path.name


# -- words and sizes -------------------------------------------------------------------------------------


def test_no_registry_and_no_path_of_a_machine_stands_in_the_repository() -> None:
    """The classes of one letter keep this file from finding itself."""
    forbidden = re.compile(
        r"py[p]i\.org|pythonhoste[d]|npmj[s]|--(extra-)?index-ur[l]|deb\.debia[n]"
        r"|/hom[e]/\w|/roo[t]/\w|/User[s]/\w|/wor[k]/|clau[d]e|anthrop[i]c|chatgp[t]|\bCE[O]\b",
        re.IGNORECASE,
    )
    found = [f"{name}: {match[0]}" for name, text in texts() for match in forbidden.finditer(text)]
    assert found == []


def test_every_word_of_the_model_stands_in_the_glossary() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (SOURCE / "model").glob("*.py")]
    words = [node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    glossary = read("docs/glossary.md")
    assert len(words) > 20
    assert [word for word in words if f"`{word}`" not in glossary] == []


def test_every_variable_of_the_environment_is_documented() -> None:
    used: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        used |= set(re.findall(r"\bOUTDIAL_[A-Z][A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
    settings = read("docs/reference/settings.md")
    assert sorted(name for name in used if f"`{name}`" not in settings) == []


def test_every_setting_stands_in_the_reference_with_its_default_and_meaning() -> None:
    settings = read("docs/reference/settings.md").splitlines()
    rows = [
        f"| `{name}` | `{variable_of(name)}` | {default} | {meaning} |"
        for name, default, meaning in documented()
    ]
    assert len(rows) > 5
    assert [row for row in rows if row not in settings] == []


def test_no_source_file_reaches_500_lines() -> None:
    sources = [path for pattern in ("*.py", "*.sql") for path in SOURCE.rglob(pattern)]
    long = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in sources}
    assert {name: lines for name, lines in long.items() if lines >= 500} == {}


# -- the lock --------------------------------------------------------------------------------------------


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lock_is_current() -> None:
    lock = tool("lock")
    assert lock.faults(read("requirements.lock"), lock.requirements(read("pyproject.toml"))) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("# made by", "# made without", "the lock was made from other requirements"),
        ("\naiohttp==", "\naiohttp @ https://x/", "the lock holds an address"),
        ("\naiohttp==", "\nother==", "aiohttp is not in the lock"),
        ("\naiohttp==3.", "\naiohttp==2.", "aiohttp<4,>=3.14 is not met by 2."),
    ],
)
def test_a_lock_that_is_not_current_is_found(old: str, new: str, fault: str) -> None:
    lock = tool("lock")
    text = read("requirements.lock")
    assert old in text
    found = lock.faults(text.replace(old, new, 1), lock.requirements(read("pyproject.toml")))
    assert any(sentence.startswith(fault) for sentence in found), found


def test_a_pin_without_a_hash_and_a_new_requirement_are_found() -> None:
    lock = tool("lock")
    text, wanted = read("requirements.lock"), lock.requirements(read("pyproject.toml"))
    bare = re.sub(r"\nasyncpg==(\S+)(?: .*)? \\\n(?:    --hash.*\n)+", r"\nasyncpg==\1\n", text)
    assert bare != text
    assert "asyncpg has no sha256" in lock.faults(bare, wanted)
    assert "colour is not in the lock" in lock.faults(text, [*wanted, "colour>=1"])


# -- enough tests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closing", "fault"),
    [
        ("==== 2900 passed, 12 skipped in 570.01s (0:09:30) ====", ""),
        ("==== 2900 passed in 570.01s (0:09:30) ====", ""),
        ("==== 2899 passed, 3 skipped in 500.11s ====", "2899 tests passed, at least 2900 must"),
        ("==== 2950 passed, 13 skipped in 500.11s ====", "13 tests were left out, at most 12 may be"),
        ("==== no tests ran in 0.11s ====", "0 tests passed, at least 2900 must"),
        ("2900 passed", "pytest printed no closing line"),
    ],
)
def test_too_few_tests_are_noticed(closing: str, fault: str) -> None:
    """The last run of the log counts."""
    log = f"==== 9999 passed in 1.00s ====\n{closing}\n" if closing.startswith("=") else closing
    found = tool("enough_tests").faults("passed 2900\nskipped 12\n", log)
    assert found == ([fault] if fault else [])


def test_the_least_number_of_tests_is_committed_and_looked_at() -> None:
    assert tool("enough_tests").bounds(read(".ci/least_tests"))["passed"] > 1000
    assert "tools/enough_tests.py .ci/least_tests" in read(".ci/run")


# -- the wheel -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a release would hold it, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=60)
    return next(folder.glob("outdial-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment outside the checkout that holds this wheel.

    What outdial depends on is lent by the environment that runs the tests: a path in a .pth file, whose
    own .pth files (the editable checkout is one) are not followed.
    """
    home = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--no-index", str(wheel)], check=True, capture_output=True, timeout=60)
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site) / "lent.pth").write_text("".join(f"{path}\n" for path in sorted(lent)), encoding="utf-8")
    return home / "bin" / "outdial"


def outside(command: Path) -> dict[str, str]:
    """The environment of a user who never saw the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OUTDIAL_"))}
    return kept | {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_wheel_holds_all_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licence = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    kept = {path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert names == {str(path.relative_to(SOURCE.parent)) for path in kept}
    assert "outdial/py.typed" in names
    assert len(licence) == 1


def test_the_metadata_of_the_wheel_is_that_of_the_project() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert project["license"] == "Apache-2.0"
    assert project["requires-python"] == ">=3.11"
    assert read("LICENSE").split()[:2] == ["Apache", "License"]


def test_the_installed_wheel_runs_its_command_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    python, env = installed.with_name("python"), outside(installed)
    where = subprocess.check_output(
        [python, "-c", "import outdial; print(outdial.__file__)"],
        cwd=tmp_path,
        env=env,
        text=True,
        timeout=60,
    )
    assert str(ROOT) not in where
    answer = subprocess.run(
        [installed, "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    assert "campaign" in answer.stdout


def test_the_installed_wheel_runs_a_whole_server(installed: Path, tmp_path: Path) -> None:
    """`outdial dev --json`: the first line says where the server is, SIGTERM ends it."""
    command = [str(installed), "dev", "--json", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=outside(installed), text=True, stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            ready = json.loads(server.stdout.readline())
            assert set(ready) >= {"url", "ak", "sk", "vdn", "campaign"}
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
