import numpy as np
import pytest
import torch

from plum.evaluation.rankings import NO_ITEM
from plum.lm.examples import IGNORED, Window, next_item_windows, windows
from plum.retrievers.dense import (
    Dense,
    DenseBatch,
    ItemTransformer,
    MeanDense,
    dense_batches,
    dense_loss,
    next_item_loss,
    sizes,
    target_counts,
)
from plum.retrievers.softmax import Negatives, full_softmax_loss

SHAPES = {"sasrec": {}, "lem": {"embedding_size": 40, "tied": False}, "wide and tied": {"embedding_size": 40}}


def model_of(n_items=12, max_history=6, dropout=0.0, layers=2, **shape):
    torch.manual_seed(0)
    model = ItemTransformer(n_items, max_history, hidden_size=16, layers=layers, heads=2, dropout=dropout, **shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model


def batch_of(cut, max_history=4):
    (batch,) = dense_batches(cut, max_history, batch_size=8, seed=0, epoch=0)
    return {tuple(row): target for row, target in zip(batch.items.tolist(), batch.targets.tolist(), strict=True)}


@torch.no_grad()
def test_a_later_item_changes_nothing_before_it():
    model = model_of().eval()
    before, after = torch.tensor([[3, 5, 7, 2, 9, 1]]), torch.tensor([[3, 5, 7, 8, 4, 6]])
    one, other = model(before), model(after)
    assert torch.equal(one[:, :3], other[:, :3])
    assert not torch.allclose(one[:, 3:], other[:, 3:])


@torch.no_grad()
def test_padding_on_the_left_changes_nothing():
    model = model_of().eval()
    alone = model(torch.tensor([[4, 9]]))
    batched = model(torch.tensor([[0, 0, 0, 4, 9], [1, 2, 3, 5, 6]]))
    torch.testing.assert_close(batched[:1, 3:], alone)
    assert torch.isfinite(batched).all()


def test_every_position_has_the_next_item_as_target():
    got = batch_of([Window(np.array([0, 4, 2]), 0), Window(np.array([7, 8]), 0)])
    assert got == {(1, 5): [4, 2], (0, 8): [IGNORED, 8]}


def test_items_of_the_context_are_no_targets():
    # Items 5 and 6 are context: the window teaches 7 (from 5, 6) and 8 (from 5, 6, 7).
    got = batch_of([Window(np.array([5, 6, 7, 8]), 2)])
    assert got == {(6, 7, 8): [IGNORED, 7, 8]}
    # One item of context can't have been a target here anyway.
    assert batch_of([Window(np.array([5, 6, 7]), 1)]) == batch_of([Window(np.array([5, 6, 7]), 0)])


@pytest.mark.parametrize("max_history", [1, 2, 3, 5, 8])
def test_every_item_but_a_users_first_is_a_target_exactly_once(max_history):
    histories = [np.arange(start, start + length) for start, length in [(0, 1), (10, 2), (20, 9), (40, 30)]]
    cut = [window for window in windows(histories, max_history + 1) if len(window.items) > 1]
    targets = []
    for batch in dense_batches(cut, max_history, batch_size=3, seed=1, epoch=2):
        assert batch.items.shape[1] <= max_history
        targets += batch.targets[batch.targets != IGNORED].tolist()
    assert sorted(targets) == [11, *range(21, 29), *range(41, 70)]


def test_an_epoch_is_a_function_of_seed_and_number():
    cut = [Window(np.array([i, i + 1]), 0) for i in range(20)]

    def order(seed, epoch):
        return [row for batch in dense_batches(cut, 4, 3, seed, epoch) for row in batch.targets[:, 0].tolist()]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


@torch.no_grad()
def test_the_loss_is_the_full_softmax_over_the_catalogue():
    model = model_of(n_items=5).eval()
    items, targets = torch.tensor([[0, 2, 3], [1, 4, 5]]), torch.tensor([[IGNORED, IGNORED, 4], [3, IGNORED, 0]])
    hidden, expected = model(items), []
    for row, place in [(0, 2), (1, 0), (1, 2)]:
        scores = [float(hidden[row, place] @ model.items.weight[item + 1]) for item in range(5)]
        expected.append(np.log(np.exp(scores).sum()) - scores[int(targets[row, place])])
    assert dense_loss(model, DenseBatch(items, targets)).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_validation_loss_is_the_mean_over_next_items_without_dropout():
    model = model_of(n_items=9, dropout=0.5)
    windows_of_next = next_item_windows([np.arange(5), np.array([8]), np.array([2, 3])], [[7], [0], [4]], 6)
    batches = list(dense_batches(windows_of_next, 6, 2, 0, 0))
    whole = next_item_loss(model, dense_batches(windows_of_next, 6, 3, 0, 0))
    assert model.training
    with torch.no_grad():
        scores = Dense(model).vectors([np.arange(5), np.array([8]), np.array([2, 3])]) @ Dense(model).item_vectors().T
    logp = torch.log_softmax(torch.from_numpy(scores), dim=1)
    expected = -(logp[0, 7] + logp[1, 0] + logp[2, 4]).item() / 3
    assert whole == pytest.approx(expected, rel=1e-5)
    assert next_item_loss(model, batches) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("lengths", [[2, 9, 3, 3, 8, 2, 5, 4, 7], [4], [2, 9], [5, 5, 5, 5, 5]])
def test_the_loss_is_that_of_the_whole_batch_though_rows_are_grouped_by_length(lengths):
    model = model_of(n_items=30, max_history=8).double().eval()
    rng = np.random.default_rng(0)
    cut = [Window(rng.integers(0, 30, n), int(rng.integers(0, 4))) for n in lengths]
    (batch,) = dense_batches(cut, 8, len(cut), 0, 0)
    counted = batch.targets != IGNORED
    expected = full_softmax_loss(model(batch.items)[counted], model.item_vectors(), batch.targets[counted])
    found = dense_loss(model, batch)
    torch.testing.assert_close(found, expected)
    weights = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights))


@torch.no_grad()
def test_without_ties_the_loss_scores_by_the_output_table():
    model = model_of(n_items=5, embedding_size=7, tied=False).eval()
    items, targets = torch.tensor([[0, 2, 3]]), torch.tensor([[IGNORED, IGNORED, 4]])
    vectors = model.outputs.weight[1:] @ model.project_outputs.weight.T
    expected = -torch.log_softmax(model(items)[0, 2] @ vectors.T, dim=0)[4]
    torch.testing.assert_close(dense_loss(model, DenseBatch(items, targets)), expected)


def test_several_models_retrieve_by_their_mean_score():
    models = [model_of(), model_of(layers=1), model_of(embedding_size=40, tied=False)]
    histories = [np.array([1, 2]), np.array([], dtype=np.int64), np.array([5, 0, 3, 3, 9, 1, 2])]
    parts = [Dense(model).recommend(histories, 12, None) for model in models]
    found = MeanDense(models).recommend(histories, 12, None)
    assert (found.items[1] == NO_ITEM).all()
    for user in (0, 2):
        scores = [dict(zip(part.items[user].tolist(), part.scores[user], strict=True)) for part in parts]
        mean = {item: np.mean([one[item] for one in scores]) for item in range(12)}
        assert found.items[user].tolist() == sorted(mean, key=lambda item: -mean[item])
        np.testing.assert_allclose(found.scores[user], sorted(mean.values(), reverse=True), rtol=1e-4)
    one = MeanDense(models[:1]).recommend(histories, 12, None)
    np.testing.assert_array_equal(one.items, parts[0].items)


def test_a_wide_table_is_projected_to_the_transformers_width():
    model = model_of(embedding_size=40)
    assert model.items.weight.shape == (13, 40)
    expected = model.items.weight[1:] @ model.project.weight.T
    torch.testing.assert_close(model.item_vectors(), expected)
    torch.testing.assert_close(model.item_vectors(torch.tensor([3, 0, 3])), expected[[3, 0, 3]])
    assert Dense(model).vectors([np.array([1, 2])]).shape == (1, 16)


def test_a_wide_table_starts_with_vectors_as_long_as_those_of_a_narrow_one():
    torch.manual_seed(0)
    narrow = ItemTransformer(2000, 5, 32, 1, 2, 0.0)
    wide = ItemTransformer(2000, 5, 32, 1, 2, 0.0, embedding_size=256, tied=False)
    for vectors in (wide.item_vectors(), wide.project(wide.items.weight[1:])):
        assert vectors.std().item() == pytest.approx(narrow.item_vectors().std().item(), rel=0.1)


def test_the_share_of_parameters_in_item_tables():
    def total(model):
        return sum(parameter.numel() for parameter in model.parameters())

    sasrec, lem = model_of(n_items=99), model_of(n_items=99, embedding_size=40, tied=False)
    assert sasrec.table_share == pytest.approx(100 * 16 / total(sasrec))
    assert lem.table_share == pytest.approx(2 * 100 * 40 / total(lem))
    assert total(lem) - total(sasrec) == 2 * 100 * 40 - 100 * 16 + 2 * 40 * 16  # two tables, two projections
    big = ItemTransformer(12_000, 50, 64, 2, 2, 0.0, embedding_size=256, tied=False)
    assert big.table_share > 0.95


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_two_names_share_a_tensor_so_that_weights_can_be_stored(shape):
    weights = model_of(**shape).state_dict()
    assert len({tensor.data_ptr() for tensor in weights.values()}) == len(weights)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_sampled_loss_approaches_the_full_one(shape):
    model = model_of(n_items=12, **shape).eval()
    batch = DenseBatch(torch.tensor([[0, 2, 3], [1, 4, 12]]), torch.tensor([[IGNORED, IGNORED, 4], [3, 11, 0]]))
    sampled = dense_loss(model, batch, Negatives(np.arange(12), 200_000, 0.75))
    assert sampled.item() == pytest.approx(dense_loss(model, batch).item(), rel=0.02)


def test_target_counts_are_those_of_the_batches():
    histories = [np.array([1, 2, 1, 2, 3, 5, 2, 2, 1]), np.array([4]), np.array([0, 6])]
    cut = [window for window in windows(histories, 4) if len(window.items) > 1]
    targets = torch.cat([batch.targets.flatten() for batch in dense_batches(cut, 3, 2, seed=0, epoch=0)])
    expected = np.bincount(targets[targets != IGNORED].numpy(), minlength=8)
    assert target_counts(cut, 8).tolist() == expected.tolist() == [0, 2, 4, 1, 0, 1, 1, 0]
    assert target_counts([], 3).tolist() == [0, 0, 0]


def test_the_size_of_a_batch_counts_targets_items_and_places():
    (batch,) = dense_batches([Window(np.array([5, 6, 7, 8]), 2), Window(np.array([7, 8]), 0)], 4, 8, 0, 0)
    model = ItemTransformer(12, 4, hidden_size=8, layers=1, heads=2, dropout=0.0)
    assert sizes(model, None)(batch)[:3] == (
        3,
        4,
        6,
    )  # 7, 8 and 8 are targets; 5, 6, 7 and 7 are read; two rows of three places


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("negatives", [None, Negatives(np.ones(12), 50, 1.0)], ids=["full", "sampled"])
def test_it_learns_a_deterministic_pattern(shape, negatives):
    """Each item is followed by the next one of a cycle, so the last item of a history tells the answer."""
    n_items, model = 12, model_of(layers=1, **shape)
    cut = [Window((np.arange(5) + start) % n_items, 0) for start in range(n_items)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(80):
        for batch in dense_batches(cut, 6, 12, 0, epoch):
            optimizer.zero_grad()
            dense_loss(model, batch, negatives).backward()
            optimizer.step()
    histories = [(np.arange(4) + start) % n_items for start in range(n_items)]  # as long as in training
    found = Dense(model).recommend(histories, 1, None)
    assert found.items[:, 0].tolist() == [(start + 4) % n_items for start in range(n_items)]


def test_vectors_depend_on_the_last_items_alone_and_not_on_batch_mates():
    model = model_of(dropout=0.5).train()
    histories = [np.array([3]), np.arange(11), np.array([2, 4, 6]), np.arange(5, 11)]
    together = Dense(model, batch_size=3).vectors(histories)
    assert model.training
    for row, history in enumerate(histories):
        np.testing.assert_allclose(Dense(model).vectors([history])[0], together[row], atol=1e-5)
    np.testing.assert_allclose(together[1], together[3], atol=1e-5)  # 5..10 are the last six of 0..10


@pytest.mark.parametrize("several", [False, True])
def test_items_that_the_model_does_not_know_are_neither_read_nor_recommended(several):
    model, known = model_of(), np.ones(15, dtype=bool)
    known[[0, 6, 14]] = False
    rows = np.flatnonzero(known)
    alone = MeanDense([model, model]) if several else Dense(model)
    found = MeanDense([model, model], known=known) if several else Dense(model, known=known)
    expected = alone.recommend([np.array([1, 2]), np.array([], dtype=int)], 12, [np.array([1, 2, 5]), np.array([7])])
    # with unknown ones between them; a history of these alone is empty
    histories = [np.array([0, rows[1], 6, rows[2], 14]), np.array([6, 14])]
    lists = found.recommend(histories, 12, [np.array([*rows[[1, 2, 5]], 6]), rows[[7]]])
    np.testing.assert_array_equal(lists.items, np.where(expected.items < 0, -1, rows[expected.items]))
    np.testing.assert_array_equal(lists.scores, expected.scores)
    np.testing.assert_array_equal(found.item_vectors(), alone.item_vectors())


def test_lists_leave_out_what_was_seen_and_are_empty_without_a_history():
    dense = Dense(model_of())
    histories = [np.array([1, 2]), np.zeros(0, dtype=np.int64)]
    found = dense.recommend(histories, 12, [np.array([1, 2, 5]), np.zeros(0, dtype=np.int64)])
    assert set(found.items[0].tolist()) == (set(range(12)) - {1, 2, 5}) | {-1}
    assert (found.items[1] == -1).all()
    scores = dense.vectors(histories)[0] @ dense.item_vectors().T
    assert found.items[0, 0] == max(set(range(12)) - {1, 2, 5}, key=lambda row: scores[row])
    assert dense.recommend([], 3, None).items.shape == (0, 3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_scores_are_products_of_the_vectors(shape):
    dense = Dense(model_of(**shape), name="lem")
    assert dense.name == "lem"
    histories = [np.array([1, 2]), np.array([7])]
    found = dense.recommend(histories, 4, None)
    scores = dense.vectors(histories) @ dense.item_vectors().T
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1)[:, :4], rtol=1e-5)
