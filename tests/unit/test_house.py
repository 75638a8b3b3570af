"""The house stays in order: the judges are content, and what is generated or shipped is what it should be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "src" / "tilbud" / "v1"
PACKAGE = GENERATED.parent
NO_LIMITS = {
    "sizes of a format, a protocol or a kind of number": (
        "bandit/counts.py BITS _MASK",
        "bandit/hats.py _INDEX_BITS _NEGATIVE _GENERATION _ODD",
        "bandit/model.py _LINEAGE_BYTES _PROPENSITY_MIN",
        "domain/campaign/fields.py _EXACT_INT_MAX",
        "domain/customer/customer.py _KEY_BYTES",
        "domain/decision/draw.py _SCALE _SIGNIFICANT_BITS",
        "domain/decision/records.py _FINGERPRINT_BYTES",
        "domain/text.py _NFC_SHORTENS_MAX",
        "ledger/page_tokens.py _TAG_BYTES _BLOCK_BYTES",
        "ledger/sqlite/acknowledged.py _LINE_BYTES",
        "ledger/sqlite/opening_check.py _WAL_FRAME_HEADER_BYTES",
        "ledger/sqlite/packing.py _RAW_DEFLATE",
        "ledger/sqlite/same_file.py _WAL_HEADER_BYTES _FRAME_HEADER_BYTES",
        "ledger/sqlite/schema.py APPLICATION_ID DRAW_KEY_BYTES",
        "transport/connect/calls.py _TIMEOUT_DIGITS_MAX _GZIP",
        "transport/grpc/codec.py _VARINT_BYTES_MAX _DEPTH_MAX",
    ),
    "units of time": (
        "domain/context.py _SATURDAY TIME_US_MAX",
        "domain/decision/facts.py EVER_US",
        "domain/durations.py MINUTE_US _DAY_MINUTES",
        "ledger/memory/entries.py SEEN_EVERY_US",  # a day, by which the ledger forgets: both adapters alike
        "ledger/sqlite/exposures.py SEEN_EVERY_US",
        "ledger/sqlite/interned.py _DAY_US",
        "ledger/sqlite/retention.py _DAY_US",
        "transport/grpc/converters.py _NANOS",
        "transport/grpc/server.py _MINUTE_MS",
    ),
    "what arithmetic, an algorithm or a measurement means": (
        "bandit/features.py _SQUASH _DIGITS",
        "bandit/counts.py PRIOR",
        "bandit/hats.py HOUR_KNOTS KNOTS _TINY",
        "bandit/judge.py _KEPT _MARGIN",
        "bandit/presets.py _BITS_MAX",
        "bandit/scale.py COST_MAX",
        "bandit/scores.py NEW_SETTLEMENTS _NEW_OFFERS _NEW_MAX _NEW_PART _KNOWN",
        "bandit/memory.py _VW_BYTES _EXAMPLE_BYTES _WORD_BYTES",
        "bandit/model.py _PROPENSITY_MAX",
        "deciding/frequency.py _CLOCKS_APART_US",
        "domain/decision/draw.py _WHOLE_MAX",
        "domain/decision/rewards.py _TINY",
        "domain/versions.py _WRITTEN _PLACED _HALF_WAY",
        "domain/language_tags.py _ONE_LANGUAGE_MAX _UNDERSTOOD_MAX _SIBLINGS_MAX _LAST_RESORT",
        "insight/audit.py _TOLERANCE",
        "insight/explain.py EFFECT_MIN",
        "telemetry/decisions.py POLICY_EVERY",
    ),
    "numbers that stand for something else": (
        "bandit/checkpoints/files.py _BEGAN",
        "cli/trial_facts.py _NUMBERS _NUMBER_MAX",  # of visitors that are made up
        "learning/forgetting.py _SERVED_NO_MORE",
        "learning/relearning.py ORPHANED _NICE",
        "ledger/marks.py RESERVED_US",
        "ledger/sqlite/condition.py _RESULT_CODE",
        "telemetry/log.py _STANDARD_ERROR",
        "transport/http/metrics_server.py _GZIP_LEVEL",
    ),
    "bytes that a message is reckoned to have": (
        "deciding/answer_space.py _ERROR_BYTES",
        "transport/grpc/campaigns.py _FRAME_BYTES",
        "transport/grpc/converters.py _NUMBERS_BYTES _RANKED_BYTES",
        "transport/grpc/decisions.py _FRAME_BYTES",
    ),
    "shapes of statements and of what they store": (
        "ledger/sqlite/customers_reader.py _SCOPES_AT_ONCE_MAX _SCOPES_FEW _EXPOSURES_FEW",
        "ledger/sqlite/exposures.py _KEYS_AT_ONCE_MAX",
        "ledger/sqlite/look_up.py _AT_ONCE _EXPOSURES_FEW",
        "ledger/sqlite/packing.py _PLAIN_MAX",
        "ledger/sqlite/retention.py _ROWS_A_DECISION",
        "ledger/sqlite/rows.py _ROWS_AT_ONCE_MAX _EVERY_NUMBER_UP_TO",
    ),
    "words of a text": ("campaigns/summary.py _NAMED_MAX",),
    "limits that are to move": (
        "learning/learner.py _HEARTBEAT_S _ROWS",
        "learning/settling.py _UNSERVED_BATCHES_MAX",
    ),
}
"""Numbers that modules have beside `Limits`, by the reason why."""
BOUNDS = {"maxlen", "maxsize", "timeout"}
OF_NAMED_TUPLES = {
    "_replace",
    "_asdict",
    "_fields",
    "_field_defaults",
    "_make",
}  # public, for all their looks
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: str | Path) -> None:
    """Run a command at the root of the project; where it fails, so does the test, with what it printed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def make(target: str) -> None:
    """Run a target of the Makefile on the venv that runs this test."""
    run("make", "--silent", "--no-print-directory", f"VENV={sys.prefix}", target)


@pytest.fixture(scope="module")
def contract_python() -> Path:
    """The Python of the venv that generates and lints the contract; `make tools` builds it where missing."""
    make("tools")
    return Path(sys.prefix) / "proto-tools" / "bin" / "python"


def version(text: str) -> tuple[int, ...]:
    """The numbers of a version such as 6.33.5."""
    return tuple(int(number) for number in text.split("."))


def floor(package: str) -> tuple[int, ...]:
    """The lowest version of a package that pyproject.toml allows."""
    [found] = [
        match[1] for line in PROJECT["dependencies"] if (match := re.match(rf"{package}>=([\d.]+)", line))
    ]
    return version(found)


def is_private(name: str) -> bool:
    """Whether a name is a module's or a class's own business."""
    return name.startswith("_") and not name.startswith("__") and name not in OF_NAMED_TUPLES


def reached_into(tree: ast.Module) -> Iterator[str]:
    """Yield private names of others that a module reads, imports, or replaces by monkeypatch."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name):
                names = [name]
            case ast.ImportFrom(names=imported):
                names = [alias.name for alias in imported]
            case ast.Call(
                func=ast.Attribute(attr="setattr" | "delattr") | ast.Name(id="setattr" | "getattr")
            ):
                words = [word.value for word in node.args[:2] if isinstance(word, ast.Constant)]
                names = [str(word).rpartition(".")[2] for word in words]
            case _:
                continue
        yield from filter(is_private, names)


def test_no_test_reaches_into_what_is_private():
    """Tests go by what a module promises, not by its inside."""
    tests = ROOT / "tests"
    reached = {
        str(file.relative_to(tests)): names
        for file in tests.rglob("*.py")
        if (names := set(reached_into(ast.parse(file.read_text(encoding="utf-8")))))
    }
    assert reached == {}


def test_lint():
    """Ruff has nothing to say about rules or format."""
    make("lint")


def test_types():
    """Mypy, strict, finds no fault."""
    make("types")


def test_imports():
    """Imports between rooms run only along the arrows of the design."""
    make("imports")


def test_contract(contract_python):
    """The contract keeps buf's STANDARD rules, and breaks nothing that was released."""
    make("contract")


def test_generated_code_is_current(contract_python, tmp_path):
    """The committed code is, byte for byte, what the contract generates; if not, `make proto` mends it."""
    run(contract_python, ROOT / "proto" / "generate.py", "code", tmp_path)
    fresh = {file.name: file.read_bytes() for file in (tmp_path / "tilbud" / "v1").iterdir()}
    committed = {file.name: file.read_bytes() for file in GENERATED.glob("*_pb2*.py*")}
    assert sorted(fresh) == sorted(committed)
    assert [name for name in sorted(fresh) if fresh[name] != committed[name]] == []
    run(contract_python, ROOT / "proto" / "generate.py", "descriptors", tmp_path / "contract.binpb")
    assert (tmp_path / "contract.binpb").read_bytes() == (ROOT / "proto" / "contract.binpb").read_bytes()


def test_the_page_of_the_contract_is_current(contract_python, tmp_path):
    """It is what the comments in proto/ make it, has a heading for each type, and no link leads nowhere."""
    run(contract_python, ROOT / "proto" / "generate.py", "page", tmp_path / "contract.md")
    page = (ROOT / "docs" / "contract.md").read_text()
    assert (tmp_path / "contract.md").read_text() == page
    headings = [line.strip("# ") for line in page.splitlines() if line.startswith("#")]
    anchors = [heading.lower().replace(" ", "-") for heading in headings]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(anchors)
    contract = "".join(file.read_text() for file in (ROOT / "proto" / "tilbud" / "v1").glob("*.proto"))
    assert set(re.findall(r"^ *(?:message|enum|service|rpc) (\w+)", contract, re.MULTILINE)) <= set(headings)


def test_every_message_of_the_contract_is_generated():
    """Each file of the contract has messages, servicers and the types of both."""
    contract = [file.stem for file in (ROOT / "proto" / "tilbud" / "v1").glob("*.proto")]
    assert contract
    expected = {
        f"{stem}{end}"
        for stem in contract
        for end in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
    }
    assert expected == {file.name for file in GENERATED.glob("*_pb2*.py*")}


def test_generated_code_runs_on_the_floors():
    """Generated code asks for no newer protobuf or grpcio than the oldest that may be installed."""
    for file in GENERATED.glob("*_pb2.py"):
        [made_with] = re.findall(r"^# Protobuf Python Version: ([\d.]+)$", file.read_text(), re.MULTILINE)
        assert version(made_with) <= floor("protobuf"), file.name
    for file in GENERATED.glob("*_pb2_grpc.py"):
        [made_with] = re.findall(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", file.read_text(), re.MULTILINE)
        assert version(made_with) <= floor("grpcio"), file.name


def is_number(value: ast.expr | None) -> bool:
    """Say whether an expression is a number, perhaps reckoned from others."""
    if isinstance(value, ast.BinOp):
        return is_number(value.left) and is_number(value.right)
    if isinstance(value, ast.UnaryOp):
        return is_number(value.operand)
    return isinstance(value, ast.Constant) and type(value.value) in {int, float}


def numbers(source: str) -> list[str]:
    """Name the numbers that a module states of its own: constants, bounds of caches and queues, waits."""
    tree = ast.parse(source)
    stated: list[str] = []
    for line in tree.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and is_number(line.value):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            stated += map(ast.unparse, targets)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            stated += [
                ast.unparse(node) for key in node.keywords if key.arg in BOUNDS and is_number(key.value)
            ]
        elif isinstance(node, ast.FunctionDef):
            unbounded = [each for each in map(ast.unparse, node.decorator_list) if each.endswith("cache")]
            stated += [f"{each} of {node.name}" for each in unbounded]
    return stated


def modules() -> dict[str, str]:
    """The source of every module of the service, by its path in the package."""
    files = {file.relative_to(PACKAGE): file for file in PACKAGE.rglob("*.py")}
    return {
        path.as_posix(): file.read_text()
        for path, file in files.items()
        if path.parts[0] not in {"client", "simulator", "v1"}
    }


def test_every_room_has_a_map_of_its_files():
    """Whoever opens a room reads first what lies where: its `__init__` names each of its modules."""
    files = [file for file in PACKAGE.rglob("*/*.py") if file.name != "__init__.py"]
    unmapped = [
        file.relative_to(PACKAGE).as_posix()
        for file in files
        if file.parent != GENERATED and file.name not in file.with_name("__init__.py").read_text()
    ]
    assert unmapped == []


def test_a_service_has_one_limits():
    """Only settings and the command line make `Limits`; one that a room made would not hear of a change."""
    makers = {module for module, source in modules().items() if re.search(r"\bLimits\(", source)}
    assert [each for each in sorted(makers) if not each.startswith("cli/")] == []


def test_every_limit_stands_in_limits():
    """A number of a module outside `Limits` is no limit: the exceptions are named above, with the reason."""
    allowed = {
        f"{module} {name}"
        for entries in NO_LIMITS.values()
        for module, *names in map(str.split, entries)
        for name in names
    }
    stated = {f"{module} {name}" for module, source in modules().items() for name in numbers(source)}
    assert sorted(stated - allowed) == []


@pytest.mark.parametrize(
    ("source", "stated"),
    [
        ("_MAX = 2 * 1_024", ["_MAX"]),
        ("EVERY_S: float = -0.5", ["EVERY_S"]),
        ("@lru_cache(maxsize=16)\ndef f(): ...", ["lru_cache(maxsize=16)"]),
        ("@lru_cache\ndef f(): ...", ["lru_cache of f"]),
        ("def f():\n    wait(timeout=5.0)", ["wait(timeout=5.0)"]),
        ("@lru_cache(maxsize=Limits.texts_max)\ndef f(): ...", []),
        ("NAME = 'text'\nON = True", []),
    ],
)
def test_a_limit_of_a_module_of_its_own_is_seen(source, stated):
    """Constants, bounds of caches and queues, and waits are seen; what is read from `Limits` is not."""
    assert numbers(source) == stated


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_readme_names_the_commands(command):
    """The README says how to run the service and how to test it."""
    assert command in (ROOT / "README.md").read_text()
