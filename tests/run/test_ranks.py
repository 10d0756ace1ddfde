"""The first process works while the others wait: answers, failures, who speaks, and one process as ever."""

from __future__ import annotations

import itertools
import json
import threading

import pytest
from torch.distributed import HashStore

from plum import runtime
from plum.errors import PlumError
from plum.run import ranks
from plum.run.lock import locked


@pytest.fixture
def process(monkeypatch):
    """Become a process of two, of the number given, with a store of their own."""
    store = HashStore()

    def become(number):
        for name, value in {"RANK": number, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(ranks, "_store", [store])
        monkeypatch.setattr(ranks, "_numbers", itertools.count())
        return store

    return become


def test_one_process_just_works(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert ranks.shared(lambda: {"any": object}) == {"any": object}
    assert ranks.may_tell()
    ranks.leave(failed=True)
    assert (runtime.n_processes(), runtime.rank(), runtime.is_first()) == (1, 0, True)


def test_a_variable_of_some_other_system_makes_no_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert runtime.n_processes() == 1


def test_the_others_get_the_first_one_s_answers_in_order(process):
    process(0)
    assert ranks.shared(lambda: [1, None, -float("inf")]) == [1, None, -float("inf")]
    assert ranks.shared(lambda: "second") == "second"
    process(1)

    def never():
        raise AssertionError("only the first process works")

    assert ranks.shared(never) == [1, None, -float("inf")]
    assert ranks.shared(never) == "second"


def test_they_wait_for_it(process):
    store = process(1)
    timer = threading.Timer(0.3, lambda: store.set("plum/0", json.dumps(7)))
    timer.start()
    assert ranks.shared(lambda: None) == 7
    timer.join()


def test_shared_work_inside_of_shared_work_is_the_first_one_s_alone(process):
    process(0)
    assert ranks.shared(lambda: ranks.shared(lambda: 1) + ranks.shared(lambda: 2)) == 3
    assert ranks.shared(lambda: "next") == "next"
    process(1)
    assert [ranks.shared(lambda: None), ranks.shared(lambda: None)] == [3, "next"]


def test_where_the_first_one_failed_the_others_leave_without_a_word(process):
    process(0)
    ranks.leave(failed=True)
    process(1)
    with pytest.raises(ranks.Left) as left:
        ranks.shared(lambda: None)
    assert left.value.code == PlumError.exit_code


def test_a_store_that_is_gone_is_a_message(process, monkeypatch):
    process(1)

    class Gone:
        def check(self, keys):
            raise RuntimeError("Connection reset by peer\nmore")

    monkeypatch.setattr(ranks, "_store", [Gone()])
    with pytest.raises(
        PlumError, match=r"(?s)another process of this command has ended.*found: Connection reset by peer\n"
    ):
        ranks.shared(lambda: None)


def test_one_of_them_speaks(process):
    process(1)
    assert ranks.may_tell()
    process(0)
    assert not ranks.may_tell()


def test_the_first_one_waits_for_the_others_at_its_end(process):
    store = process(0)
    ended = threading.Thread(target=ranks.leave, args=(False,))
    ended.start()
    ended.join(0.3)
    assert ended.is_alive()
    store.add("plum/left", 1)
    ended.join(10)
    assert not ended.is_alive()


def test_the_lock_of_a_run_is_held_by_the_first_one(process, tmp_path):
    process(0)
    with locked(tmp_path):
        process(1)
        with locked(tmp_path):
            assert (tmp_path / ".lock").read_text()
        process(0)
