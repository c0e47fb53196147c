"""Checkpoints of strangers that take for ever, or all memory, or lie: refused in one line, nothing is left behind."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from compare import assert_bitwise_equal

from gcf.errors import GcfError, WeightsError
from gcf.extract.weights import pickled
from gcf.extract.weights.checkpoints import load_strictly, read_state_dict

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from mutations import write_mutants

pytestmark = pytest.mark.slow

INTERRUPT = """
import sys
from pathlib import Path
from gcf.extract.weights.checkpoints import read_state_dict
print("at work", flush=True)
read_state_dict(Path(sys.argv[1]))
"""


class Call:
    """Calls a function when unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def nested(depth):
    """A tuple of two that are one, and so on: a few bytes a level, and twice the leaves."""
    made = ()
    for _ in range(depth):
        made = (made, made)
    return made


def saved(content, path, **options) -> Path:
    torch.save(content, path, **options)
    return path


def written(path, key: bytes) -> Path:
    """A file of torch before 1.6 that is a dict with one key, given as the instructions that make it."""
    heads = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {"little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(head, protocol=2) for head in heads) + b"\x80\x02}" + key + b"Ns.")
    return path


def bits(tensor) -> bytes:
    """The bytes of its values, also of types that NumPy has not."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def endless(path, *, size: int = 0) -> Path:
    """A file of which reading never ends: its key is a tuple nested 60 deep, hashed leaf by leaf."""
    padding = b"q\x01" * (size // 2)  # keeps the dict in mind, over and over
    return written(path, padding + b")" + b"q\x00h\x00\x86" * 60)


def refused(path) -> str:
    """What is said of a file: one line that begins with its path and repeats none of torch's advice."""
    with pytest.raises(WeightsError) as caught:
        read_state_dict(path)
    return check_words(str(caught.value), path)


def check_words(said, path) -> str:
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert "weights_only" not in said
    assert "torch.load" not in said
    assert len(said) < len(str(path)) + 400
    return said


def test_a_key_that_is_a_deeply_nested_tuple_is_refused_and_not_shown(tmp_path):
    path = saved({nested(24): torch.zeros(1)}, tmp_path / "a.pth")
    assert "names of tensors that are no text but tuple" in refused(path)


@pytest.mark.parametrize("key", [1, b"a", None])
def test_names_that_are_no_text_are_refused(key, tmp_path):
    path = saved({"state_dict": {"a": torch.zeros(1), key: torch.zeros(1)}}, tmp_path / "a.pth")
    assert f"no text but {type(key).__name__}" in refused(path)


def test_a_file_that_is_never_read_to_its_end_is_refused_at_the_deadline(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, "LEAST_SECONDS", 2.0)
    assert "refused: reading it takes more than 2 s" in refused(endless(tmp_path / "a.pth"))
    assert not psutil.Process().children()


def test_the_deadline_grows_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(pickled, "LEAST_SPEED", 1000)
    assert "more than 3 s" in refused(endless(tmp_path / "a.pth", size=2600))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_asks_for_too_much_memory_is_refused(zipped, tmp_path):
    bomb = {"a": torch.zeros(1), "extra": Call(bytearray, 3 << 30)}
    path = saved(bomb, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert "takes far more memory than a checkpoint of its size" in refused(path)


def test_a_small_file_of_tensors_that_repeat_one_value_without_end_is_refused(tmp_path):
    path = saved({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "a.pth")
    assert "its tensors would take 4,398,046,511,104 bytes, far more than the file has" in refused(path)


def test_many_names_of_one_large_tensor_are_counted_together(tmp_path):
    shared = torch.zeros(1).expand(1 << 20)
    path = saved({f"{n}": shared for n in range(100)}, tmp_path / "a.pth")
    assert "its tensors would take 419,430,400 bytes" in refused(path)


def test_a_nest_that_crashes_the_process_costs_that_process_alone(tmp_path):
    nest = b")" + b"\x85" * 3_000_000  # a tuple in a tuple in a tuple ...: hashing it overflows the stack
    path = written(tmp_path / "a.pth", nest)
    assert "refused: the process that read it crashed (signal 11)" in refused(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("call", [(os.system, "touch {}"), (eval, "open('{}', 'w')")])
def test_nothing_in_a_file_is_executed(call, zipped, tmp_path):
    sprung, (function, text) = tmp_path / "sprung", call
    bomb = {"state_dict": {"a": torch.zeros(1)}, "extra": Call(function, text.format(sprung))}
    path = saved(bomb, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert "refused: it asks to run" in refused(path)
    assert not sprung.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_torch_would_advise_to_switch_off_is_not_said(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pth")
    assert "a TorchScript archive, which is code" in refused(tmp_path / "script.pth")
    newer = saved({"a": torch.zeros(1)}, tmp_path / "newer.pth", pickle_protocol=4)
    assert "(Unsupported operand 149); download it again, or have its tensors saved" in refused(newer)


def test_long_names_are_cut_where_they_are_shown(tmp_path):
    path = saved({"n" * 100_000: torch.zeros(1)}, tmp_path / "a.pth")
    assert f"a name of 100,000 characters, {'n' * 80}...;" in refused(path)
    path = saved({"n" * 4000: "x"}, tmp_path / "a.pth")
    assert f"1 of 1 entries are no tensors ({'n' * 80}...)" in refused(path)
    state = read_state_dict(saved({"n" * 4000: torch.zeros((1,) * 60)}, tmp_path / "a.pth"))
    with pytest.raises(WeightsError) as caught:
        load_strictly(torch.nn.Linear(1, 1, device="meta"), state, source="a.pth")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_arrive_as_they_are_however_they_lie_in_memory(zipped, tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "base": base,
        "tied": base,
        "turned": base.T,
        "part": base[1:3, ::2],
        "repeated": base[0, :1].expand(5),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "odd \udcff name": torch.ones(1),
        "mask": torch.tensor([True, False]),
        "conj": torch.tensor([1 + 2j]).conj(),
    }
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.int64):
        state[str(dtype)] = torch.arange(5).to(dtype)
    path = saved(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read_state_dict(path)
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert bits(found[name]) == bits(tensor.detach().resolve_conj())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["meta", "quantized", "sparse", "nested"])
def test_tensors_that_are_not_dense_are_refused(kind, tmp_path):
    tensor = {
        "meta": lambda: torch.zeros(2, device="meta"),
        "quantized": lambda: torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
        "sparse": lambda: torch.eye(2).to_sparse(),
        "nested": lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]),
    }[kind]()
    assert "1 of 1 entries are no tensors (a)" in refused(saved({"a": tensor}, tmp_path / "a.pth"))


@pytest.mark.parametrize("lie", ["size", "type", "kind", "twice", "nonsense", "too much", "silent"])
def test_a_process_that_sends_nonsense_is_not_believed(lie, tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, "CHILD", "lying_reader")
    monkeypatch.setenv("LIE", lie)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    path = saved({"a": torch.zeros(3)}, tmp_path / "a.pth")
    expected = "closed its pipe" if lie == "silent" else "sent nonsense"
    assert f"refused: the process that read it {expected}" in refused(path)


def test_a_process_that_does_not_start_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, "CHILD", "no_such_module")
    with pytest.raises(GcfError, match="the process that reads weights did not start") as caught:
        read_state_dict(saved({"a": torch.zeros(3)}, tmp_path / "a.pth"))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_reading_leaves_no_process_and_no_file(number, tmp_path):
    path, temporary = endless(tmp_path / "a.pth"), tmp_path / "temporary"
    temporary.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", INTERRUPT, str(path)],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    parent.stdout.readline()
    while not (children := psutil.Process(parent.pid).children()) or children[0].cpu_times().user < 3:
        time.sleep(0.05)  # until it reads the file
    parent.send_signal(number)
    assert parent.wait() != 0
    parent.stdout.close()
    assert psutil.wait_procs(children)[1] == []
    assert list(temporary.iterdir()) == []
    assert list(tmp_path.iterdir()) == [path, temporary] or list(tmp_path.iterdir()) == [temporary, path]


def test_thirty_damaged_files_are_refused_in_a_line_or_read_as_torch_reads_them(tmp_path):
    state = {f"layers.{n}.weight": torch.randn(3, n + 1) for n in range(6)}
    for zipped in (True, False):
        saved({"state_dict": state, "epoch": 3}, tmp_path / f"{zipped}.pth", _use_new_zipfile_serialization=zipped)
    sources = sorted(tmp_path.glob("*.pth"))
    (tmp_path / "mutants").mkdir()
    paths = list(write_mutants(tmp_path / "mutants", sources, range(30), seed=3))
    with ThreadPoolExecutor(2) as pool:
        refusals = list(pool.map(refused_or_right, paths))
    assert 10 < sum(refusals) < 30


def refused_or_right(path) -> bool:
    """Whether a file is refused; where it is not, its tensors must be what torch finds in this process."""
    try:
        found = read_state_dict(path)
    except WeightsError as error:
        check_words(str(error), path)
        return True
    expected = torch.load(path, weights_only=True)["state_dict"]
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_bitwise_equal(found[name], tensor)
    return False


def test_a_backbone_of_a_refused_file_ends_the_command_with_four(folder, tmp_path, invoke):
    path = saved({nested(24): torch.zeros(1)}, tmp_path / "a.pth")
    options = ("--backbone", "mobilenetv2_0.2x", "--weights", path)
    code, _, err = invoke("extract", folder, tmp_path / "f.h5", *options)
    assert code == 4
    assert f"gcf: {path}: names of tensors that are no text but tuple" in err
    assert not (tmp_path / "f.h5").exists()
