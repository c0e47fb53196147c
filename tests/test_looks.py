import json
import subprocess
import sys

from gcf.data import looks
from gcf.data.looks import record_look


def lines(path):
    return path.with_name(path.name + ".looks.jsonl").read_text().splitlines()


def test_looks_at_one_test_set_are_counted_whatever_the_order(tmp_path):
    features = tmp_path / "f.h5"
    assert record_look(features, ["a", "b", "c"], what="gcf ablate") == 1
    assert record_look(features, ["a", "b"], what="gcf train-head") == 1
    assert record_look(str(features), ["c", "a", "b", "a"], what="gcf eval") == 2
    found = [json.loads(line) for line in lines(features)]
    assert [entry["what"] for entry in found] == ["gcf ablate", "gcf train-head", "gcf eval"]
    assert [entry["videos"] for entry in found] == [3, 2, 3]
    assert found[0]["test_set"] == found[2]["test_set"] != found[1]["test_set"]
    assert set(found[0]) == {"test_set", "videos", "what", "gcf"}  # no time of day


def test_names_that_run_together_or_are_not_utf8_are_told_apart(tmp_path):
    sets = [["ab", "c"], ["a", "bc"], ["abc"], ["caf\udce9.avi"]]
    assert [record_look(tmp_path / "f.h5", ids, what="x") for ids in sets] == [1, 1, 1, 1]
    assert record_look(tmp_path / "f.h5", sets[-1], what="x") == 2


def test_a_damaged_line_does_not_count_and_spoils_no_other(tmp_path):
    features = tmp_path / "f.h5"
    record_look(features, ["a"], what="x")
    ledger = features.with_name("f.h5.looks.jsonl")
    ledger.write_bytes(ledger.read_bytes() + b'\xff\x00[]\n3\n{"videos": 1}\n{"test_set": "cut sh')
    assert record_look(features, ["a"], what="x") == 2
    assert record_look(features, ["a"], what="x") == 3
    assert json.loads(ledger.read_bytes().splitlines()[-1])["what"] == "x"


def test_where_it_cannot_be_written_there_is_no_count_and_no_error(tmp_path, monkeypatch):
    assert record_look(tmp_path / "absent" / "f.h5", ["a"], what="x") is None
    (tmp_path / "f.h5.looks.jsonl").mkdir()
    assert record_look(tmp_path / "f.h5", ["a"], what="x") is None

    def no_locks(*_):
        raise OSError("no locks on this file system")

    monkeypatch.setattr(looks.fcntl, "flock", no_locks)
    assert record_look(tmp_path / "g.h5", ["a"], what="x") is None


LOOK_OFTEN = """
import sys
from gcf.data.looks import record_look
print(*[record_look(sys.argv[1], ["a", "b"], what="x" * 3000) for _ in range(300)])
"""


def test_two_processes_at_once_lose_no_look_and_count_none_twice(tmp_path):
    command = [sys.executable, "-c", LOOK_OFTEN, str(tmp_path / "f.h5")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [[int(count) for count in worker.communicate()[0].split()] for worker in workers]
    assert sorted(counts[0] + counts[1]) == list(range(1, 601))
    assert len(lines(tmp_path / "f.h5")) == 600
