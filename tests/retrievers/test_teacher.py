from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plum.retrievers import teacher as module
from plum.retrievers.dense import ItemTransformer
from plum.retrievers.teacher import Teacher
from plum.sid.table import SidTable

N_ITEMS = 30
SIZES = (4, 3, 5)


def model_of(seed=0, hidden_size=16, max_history=6, **shape):
    torch.manual_seed(seed)
    model = ItemTransformer(N_ITEMS, max_history, hidden_size, layers=2, heads=2, dropout=0.5, **shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    return model


def table_of(seed=0, sizes=SIZES, shared=False):
    """Semantic IDs of their own, or ones that items may share."""
    rng = np.random.default_rng(seed)
    n_cells = int(np.prod(sizes))
    cells = rng.integers(0, n_cells, N_ITEMS) if shared else rng.permutation(n_cells)[:N_ITEMS]
    return SidTable(np.stack(np.unravel_index(cells, sizes), axis=1).astype(np.int64), sizes)


def batch_of(rows):
    """(items, targets) of [(item rows, first target)], padded on the right."""
    width = max(len(items) for items, _ in rows)
    items = torch.tensor([[item + 1 for item in row] + [0] * (width - len(row)) for row, _ in rows])
    places = torch.arange(width)[None]
    first = torch.tensor([start for _, start in rows])[:, None]
    return items, (items > 0) & (places >= first)


@torch.no_grad()
def by_hand(models, table, row, place):
    """Each level's probabilities, by adding up those of all items one by one; a row is read at once, as in training."""
    items = torch.tensor([[item + 1 for item in row[:-1]]])
    scores = [model.item_vectors() @ model.eval()(items)[0, place - 1] for model in models]
    of_items = torch.stack(scores).mean(dim=0).softmax(0).tolist()
    target = row[place]
    found = []
    for level, size in enumerate(table.sizes):
        prefix = table.codes[target, :level].tolist()
        sums = [0.0] * size
        for item, probability in enumerate(of_items):
            if table.codes[item, :level].tolist() == prefix:
                sums[table.codes[item, level]] += probability
        found.append([value / sum(sums) for value in sums])
    return found


def check(models, table, rows, soft):
    place = 0
    for row, first in rows:
        for target in range(first, len(row)):
            assert bool(soft.known[place]) == (target > 0)
            if target:
                expected = by_hand(models, table, row, target)
                for level, probabilities in enumerate(soft.probabilities):
                    np.testing.assert_allclose(probabilities[place].numpy(), expected[level], atol=2e-5)
            place += 1
    assert place == len(soft.known) == len(soft.probabilities[0])


ROWS = [([4, 9, 2, 11], 0), ([7], 0), ([0, 29, 3, 8, 15, 16, 1], 4), ([20, 21], 1)]


@pytest.mark.parametrize("shape", [{}, {"embedding_size": 40, "tied": False}])
def test_probabilities_of_codes_are_those_of_their_items_added_up(shape):
    model, table = model_of(**shape), table_of()
    check([model], table, ROWS, Teacher([model], table).soft_labels(*batch_of(ROWS)))


def test_several_teach_by_their_mean_score_whatever_their_widths():
    models, table = [model_of(), model_of(1, 8), model_of(2, embedding_size=40, tied=False)], table_of()
    check(models, table, ROWS, Teacher(models, table).soft_labels(*batch_of(ROWS)))


@given(data=st.data())
def test_whatever_the_histories_and_codes(data):
    row = st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=7)
    drawn = data.draw(st.lists(row, min_size=1, max_size=5))
    rows = [(items, data.draw(st.integers(0, len(items) - 1))) for items in drawn]
    sizes = data.draw(st.sampled_from([(30,), (4, 3, 5), (2, 16), (1, 30), (6, 1, 6)]))
    model, table = model_of(), table_of(data.draw(st.integers(0, 5)), sizes, data.draw(st.booleans()))
    check([model], table, rows, Teacher([model], table).soft_labels(*batch_of(rows)))


def test_items_that_the_teacher_does_not_know_have_no_probability():
    """A catalogue of 33, three of which the model lacks: the others are taught as if the three were not there."""
    model, table = model_of(), table_of()
    known = np.ones(N_ITEMS + 3, dtype=bool)
    known[[0, 12, 32]] = False
    codes = np.zeros((len(known), 3), dtype=np.int64)  # the three have the first codes, as others may
    codes[known] = table.codes
    rows = np.flatnonzero(known)
    there = Teacher([model], SidTable(codes, SIZES), known)
    soft = there.soft_labels(*batch_of([([int(rows[item]) for item in row], first) for row, first in ROWS]))
    check([model], table, ROWS, soft)
    with pytest.raises(ValueError, match="33 Semantic IDs of known items, the teacher has 30 items"):
        Teacher([model], SidTable(codes, SIZES))


def test_targets_a_few_at_a_time_give_the_same(monkeypatch):
    model, table = model_of(), table_of()
    whole = Teacher([model], table).soft_labels(*batch_of(ROWS))
    monkeypatch.setattr(module, "LARGEST_SCORES", 2 * N_ITEMS)
    parts = Teacher([model], table).soft_labels(*batch_of(ROWS))
    assert torch.equal(whole.known, parts.known)
    for one, other in zip(whole.probabilities, parts.probabilities, strict=True):
        torch.testing.assert_close(one, other)


def test_it_is_asked_in_single_precision_whatever_the_pupil_has():
    teacher = Teacher([model_of()], table_of())
    plain = teacher.soft_labels(*batch_of(ROWS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = teacher.soft_labels(*batch_of(ROWS))
    for one, other in zip(plain.probabilities, cast.probabilities, strict=True):
        assert torch.equal(one, other)


def test_asked_on_a_thread_it_leaves_what_another_one_s_autocast_holds(monkeypatch):
    teacher, cleared = Teacher([model_of()], table_of()), []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: cleared.append(None))
    with ThreadPoolExecutor(1) as thread, torch.autocast("cpu", dtype=torch.bfloat16):
        thread.submit(teacher.soft_labels, *batch_of(ROWS)).result()
        assert not cleared
    assert cleared  # it is by this that autocast forgets


def test_it_is_never_trained():
    model = model_of().train()
    before = [parameter.clone() for parameter in model.parameters()]
    soft = Teacher([model], table_of()).soft_labels(*batch_of(ROWS))
    assert not any(probabilities.requires_grad for probabilities in soft.probabilities)
    assert not model.training
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_single_items_have_no_history():
    soft = Teacher([model_of()], table_of()).soft_labels(*batch_of([([3], 0), ([5], 0)]))
    assert soft.known.tolist() == [False, False]
    assert torch.isfinite(torch.cat(soft.probabilities, dim=1)).all()


def test_longer_histories_than_it_takes_are_refused():
    with pytest.raises(ValueError, match="histories of 7 items, the teacher supports 6"):
        Teacher([model_of(max_history=9), model_of()], table_of()).soft_labels(*batch_of([(list(range(8)), 0)]))


def test_semantic_ids_of_another_catalogue_are_refused():
    table = table_of()
    with pytest.raises(ValueError, match="29 Semantic IDs of known items, the teacher has 30 items"):
        Teacher([model_of()], SidTable(table.codes[1:], table.sizes))
    with pytest.raises(ValueError, match="needs a model"):
        Teacher([], table)
