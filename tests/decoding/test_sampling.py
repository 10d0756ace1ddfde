"""Sampling without replacement against its exact probabilities, by enumeration on tiny catalogues.

Seeds are fixed, and tolerances are five standard errors: a test fails for a wrong distribution, not by chance.
"""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import gumbel_r, kstest
from tiny_models import ARCHITECTURES, catalogue, next_code_logp, random_prompts, tiny

from plum.decoding.beam import Quota, Scoring
from plum.decoding.constraint import AllCodes
from plum.decoding.exact import exact_search
from plum.decoding.sampling import _log1mexp, gumbel, sample, user_generators

N_DRAWS = 20_000
PROMPT = np.array([7, 33])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def probabilities(model, prompt, codes, codec):
    """Probability of each different Semantic ID of (N, L) codes, the codes of a level summing to one over them."""
    found = {}
    for sid in {tuple(sid) for sid in codes.tolist()}:
        total = 0.0
        for level in range(len(sid)):
            siblings = {other[level] for other in codes.tolist() if tuple(other[:level]) == sid[:level]}
            logp = next_code_logp(model, prompt, sid[:level], codec)
            total += logp[sid[level]] - np.log(sum(np.exp(logp[code]) for code in siblings))
        found[sid] = float(np.exp(total))
    return found


def order_probabilities(p, k):
    """Probability of each sequence of K different keys of p, drawn one after another."""
    found = {}
    for sequence in permutations(p, k):
        left, value = 1.0, 1.0
        for sid in sequence:
            value *= p[sid] / left
            left -= p[sid]
        found[sequence] = value
    return found


def assert_frequencies(counts, expected, n):
    for event, p in expected.items():
        error = 5 * np.sqrt(p * (1 - p) / n) + 1 / n
        assert abs(counts.get(event, 0) / n - p) < error, (event, counts.get(event, 0) / n, p)


def count(events):
    return dict(zip(*np.unique(events, return_counts=True), strict=True))


@pytest.fixture(scope="module", params=["all", "a rule"])
def many(request):
    """Thousands of draws of 3 of a tiny catalogue, and the probabilities of its legal Semantic IDs."""
    codes, codec, trie = catalogue(np.random.default_rng(3), 9, (3, 2, 3))
    mask = np.ones(len(codes), dtype=bool)
    if request.param == "a rule":
        mask[[0, 4]] = False
    p = probabilities(tiny("llama"), PROMPT, codes[mask], codec)
    assert sum(p.values()) == pytest.approx(1, abs=1e-5)
    assert 4 < len(p) < 9
    legal = trie.legal([trie.prune(mask)] * N_DRAWS, None)
    drawn = sample(tiny("llama"), [PROMPT] * N_DRAWS, trie, 3, legal, generator=generator())
    return p, drawn


def test_the_first_is_drawn_from_the_models_distribution(many):
    p, drawn = many
    number = {sid: i for i, sid in enumerate(p)}
    first = [number[tuple(sid)] for sid in drawn.codes[:, 0].tolist()]
    assert_frequencies(count(first), {number[sid]: value for sid, value in p.items()}, N_DRAWS)


def test_lists_and_inclusions_are_as_frequent_as_without_replacement(many):
    p, drawn = many
    sids = list(p)
    number = {sid: i for i, sid in enumerate(sids)}
    lists = np.array([[number[tuple(sid)] for sid in row] for row in drawn.codes.tolist()])
    order = order_probabilities({i: p[sid] for sid, i in number.items()}, 3)
    assert sum(order.values()) == pytest.approx(1, abs=1e-5)
    found = count(lists @ [10_000, 100, 1])
    assert_frequencies(found, {a * 10_000 + b * 100 + c: value for (a, b, c), value in order.items()}, N_DRAWS)
    included = {i: sum(value for sequence, value in order.items() if i in sequence) for i in range(len(sids))}
    assert_frequencies(count(lists.reshape(-1)), included, N_DRAWS)


def test_only_legal_semantic_ids_come_and_each_once_with_its_own_score(many):
    p, drawn = many
    assert (drawn.nodes.sort(dim=1).values.diff(dim=1) > 0).all()
    expected = np.log([[p[tuple(sid)] for sid in row] for row in drawn.codes.tolist()])
    np.testing.assert_allclose(drawn.scores, expected, atol=1e-4)
    assert (drawn.keys.diff(dim=1) <= 0).all()
    assert drawn.keys.dtype == torch.float32


def test_keys_weigh_the_drawn_to_an_unbiased_estimate(many):
    p, drawn = many
    phi, kappa = drawn.scores[:, :-1].double(), drawn.keys[:, -1:].double()
    weights = phi.exp() / -torch.expm1(-torch.exp(phi - kappa))
    for sid, value in p.items():  # of the indicator of each Semantic ID, whose mean is its probability
        chosen = (drawn.codes[:, :-1] == torch.tensor(sid)).all(-1)
        estimates = (weights * chosen).sum(1)
        error = 5 * float(estimates.std()) / np.sqrt(N_DRAWS)
        assert abs(float(estimates.mean()) - value) < error


def test_the_key_of_each_semantic_id_is_its_score_and_gumbel_noise():
    _, _, trie = catalogue(np.random.default_rng(3), 9, (3, 2, 3))
    n = 5000
    drawn = sample(tiny("llama"), [PROMPT] * n, trie, 9, generator=generator(1))
    n_leaves = int((drawn.nodes[0] >= 0).sum())
    noise = np.full((n, n_leaves), np.nan)
    found = drawn.nodes[:, :n_leaves]
    assert (drawn.nodes[:, n_leaves:] == -1).all()
    np.put_along_axis(noise, found.numpy(), (drawn.keys - drawn.scores)[:, :n_leaves].numpy(), axis=1)
    for column in noise.T:
        assert kstest(column, gumbel_r.cdf).pvalue > 1e-3
    between = np.corrcoef(np.exp(-noise), rowvar=False)[np.triu_indices(n_leaves, 1)]
    assert np.abs(between).max() < 5 / np.sqrt(n)  # independent
    assert kstest(drawn.keys[:, 0].numpy(), gumbel_r.cdf).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    fan_out=st.integers(1, 6),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 50.0, 1e4, 1e30]),
    legal=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_the_largest_key_of_the_children_is_their_parents(seed, fan_out, scale, legal):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(3, 4, fan_out)).astype(np.float32)) * scale
    logits[torch.from_numpy(rng.random(logits.shape)) >= legal] = -torch.inf
    above = -torch.from_numpy(rng.exponential(size=(3, 4, 1)).astype(np.float32)) * scale
    phi = above + torch.nan_to_num(logits.log_softmax(-1), nan=-torch.inf)
    keys = above[..., 0] + torch.from_numpy(rng.gumbel(size=(3, 4)).astype(np.float32))
    keys[0, :2] = -torch.inf  # beams that are not there
    phi[0, :2] = -torch.inf
    found = gumbel(generator(seed))(phi, keys)
    assert found.shape == phi.shape
    assert found.dtype == phi.dtype
    assert not found.isnan().any()
    assert torch.equal(found == -torch.inf, phi == -torch.inf)
    some = (phi > -torch.inf).any(-1)
    assert torch.equal(found.amax(-1)[some], keys[some])


def test_log1mexp_is_accurate_at_both_ends():
    x = -torch.logspace(-30, 1.9, 200, dtype=torch.float32)
    exact = torch.log(-torch.expm1(x.double()))  # inaccurate from where exp(x) is below the precision of float64 alone
    torch.testing.assert_close(_log1mexp(x), torch.where(x > -30, exact, -x.double().exp()).float(), rtol=1e-5, atol=0)
    assert float(_log1mexp(torch.zeros(()))) == -torch.inf


def test_children_below_a_random_parent_are_gumbel_variables():
    p = torch.tensor([0.9, 0.09, 0.01 - 1e-6, 1e-6])
    phi = p.log().expand(N_DRAWS, 1, 4)
    parents = -torch.empty(N_DRAWS, 1).exponential_(generator=generator(2)).log()
    keys = gumbel(generator(3))(phi, parents)[:, 0]
    for child in range(4):
        assert kstest((keys[:, child] - p[child].log()).numpy(), gumbel_r.cdf).pvalue > 1e-3


def test_at_a_low_temperature_chance_has_no_say():
    rng = np.random.default_rng(4)
    _, _, trie = catalogue(rng, 40, (5, 4, 3))
    prompts = random_prompts(rng, 8)
    greedy = exact_search(tiny("llama"), prompts, trie, 6, scoring=Scoring("legal", 1e-4)).beams
    for k in (1, 2, 5):
        drawn = sample(tiny("llama"), prompts, trie, k, temperature=1e-4, generator=generator())
        assert torch.isfinite(drawn.keys).all()
        certain = (greedy.scores[:, : k + 1].diff(dim=1) < -30).all(1)  # far more than noise makes up for
        assert certain.sum() >= 4
        assert torch.equal(drawn.nodes[certain], greedy.nodes[certain, :k])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(ARCHITECTURES)),
    k=st.integers(1, 30),
    share=st.sampled_from([None, 0.0, 0.2, 0.7]),
    temperature=st.sampled_from([1e-6, 0.1, 1.0, 100.0]),
)
def test_any_sample_holds_as_many_different_legal_semantic_ids_as_there_are(seed, name, k, share, temperature):
    rng = np.random.default_rng(seed)
    codes, _, trie = catalogue(rng, int(rng.integers(1, 25)), rng.integers(1, 8, rng.integers(1, 5)).tolist())
    masks = [None if share is None else rng.random(len(codes)) < share, None]
    seen = [rng.integers(0, len(codes), 2) for _ in masks]
    legal = trie.legal([None if mask is None else trie.prune(mask) for mask in masks], seen)
    drawn = sample(tiny(name), random_prompts(rng, 2), trie, k, legal, temperature, generator(seed))
    for row, mask in enumerate(masks):
        free = np.ones(len(codes), dtype=bool) if mask is None else mask.copy()
        free[seen[row]] = False
        possible = {tuple(sid) for sid in codes[free].tolist()}
        n = min(k, len(possible))
        found = [tuple(sid) for sid in drawn.codes[row, :n].tolist()]
        assert len(set(found)) == n
        assert set(found) <= possible
        assert (drawn.nodes[row, n:] == -1).all()
        assert (drawn.keys[row, n:] == -torch.inf).all()
        assert torch.isfinite(drawn.keys[row, :n]).all()
        assert (drawn.keys[row, :n].diff() <= 0).all()


def test_draws_beyond_a_quota_are_passed_over():
    _, _, trie = catalogue(np.random.default_rng(5), 40, (4, 3, 5))
    prompts = [PROMPT] * 20
    free = sample(tiny("llama"), prompts, trie, 60, generator=user_generators(0, range(20)))
    drawn = sample(tiny("llama"), prompts, trie, 60, generator=user_generators(0, range(20)), quota=Quota(2, 1))
    for row in range(20):
        # With room for all, the noise is the same with and without the quota.
        sids = [tuple(sid) for sid in free.codes[row].tolist() if sid[0] >= 0]
        expected = [sid for i, sid in enumerate(sids) if sid[:2] not in {other[:2] for other in sids[:i]}]
        assert [tuple(sid) for sid in drawn.codes[row].tolist() if sid[0] >= 0] == expected


def test_a_users_draws_depend_on_the_seed_and_the_user_alone():
    rng = np.random.default_rng(6)
    _, _, trie = catalogue(rng, 40, (5, 4, 3))
    prompts = random_prompts(rng, 6)

    def draw(users, seed=0):
        generators = user_generators(seed, users)
        return sample(tiny("gemma3"), [prompts[user] for user in users], trie, 8, generator=generators)

    together = draw(range(6))
    shuffled = [4, 0, 5]
    apart = draw(shuffled)
    assert torch.equal(apart.nodes, together.nodes[shuffled])
    torch.testing.assert_close(apart.keys, together.keys[shuffled], atol=1e-4, rtol=0)
    assert torch.equal(draw(range(6)).keys, together.keys)
    assert not torch.equal(draw(range(6), seed=1).nodes, together.nodes)
    same = sample(tiny("gemma3"), [PROMPT] * 6, trie, 8, generator=user_generators(0, range(6)))
    assert len(np.unique(same.nodes.numpy(), axis=0)) == 6


def test_without_a_generator_torchs_own_seed_counts():
    _, _, trie = catalogue(np.random.default_rng(7), 40, (5, 4, 3))
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(sample(tiny("llama"), [PROMPT], trie, 5).keys)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_catalogue_is_not_needed():
    _, _, trie = catalogue(np.random.default_rng(8), 5, (4, 3, 5))
    drawn = sample(tiny("llama"), [PROMPT], AllCodes(trie.sizes, trie.token_ids), 70, generator=generator())
    assert sorted(drawn.nodes[0].tolist()) == [-1] * 10 + list(range(60))
    assert float(drawn.scores[0, :60].exp().sum()) == pytest.approx(1, abs=1e-4)


def test_mistakes_are_named():
    _, _, trie = catalogue(np.random.default_rng(0), 5, (3, 3))
    with pytest.raises(ValueError, match="2 generators for 1 prompts"):
        sample(tiny("llama"), [PROMPT], trie, 2, generator=user_generators(0, range(2)))
    with pytest.raises(ValueError, match="temperature"):
        sample(tiny("llama"), [PROMPT], trie, 2, temperature=0.0)
    with pytest.raises(ValueError, match="beam widths"):
        sample(tiny("llama"), [PROMPT], trie, 0)
