"""A payload with every part of a report, as large as a real run makes it: nine retrievers, long titles, many trials."""

import functools
import itertools

import numpy as np

from plum.report.page import render_report
from plum.sid.quality import tree

RETRIEVERS = ("popularity", "recencypop", "itemknn", "textknn", "lem", "dense", "plum", "hybrid", "optimum")
STRENGTH = dict(zip(RETRIEVERS, (0.012, 0.018, 0.041, 0.03, 0.074, 0.0862, 0.081, 0.094, 0.21), strict=True))
CUTOFFS = (1, 5, 10, 20, 50)
LEVELS = 4
_USERS = 22_363
ROW = {"tokens": 12_345, "loss": 2.5, "levels": [3.0, 1.5], "item": 4.5, "text": 2.25}
LEARNT = {
    "losses": {
        "behaviour": {"before": {**ROW, "loss": 6.1}, "after": ROW, "n-gram": {**ROW, "loss": 2.75}},
        "metadata": {"before": ROW, "after": {**ROW, "item": None, "levels": [3.25, None]}, "n-gram": ROW},
    },
    "next_item": {
        "before": {"recall@10": 0.01, "ndcg@10": 0.005},
        "after": {"recall@10": 0.08, "ndcg@10": 0.04},
        "popularity": {"recall@10": 0.0425, "ndcg@10": 0.02},
    },
    "title_to_sid": {
        "before": {"given": [0.01, 0.02], "beam": [0.01, 0.0]},
        "after": {"given": [0.31, 0.42], "beam": [0.3, 0.2]},
        "majority": {"given": [0.11, 0.12], "beam": [0.11, 0.01]},
        "copy": {"given": [0.5, 0.6], "beam": [0.5, 0.4]},
    },
    "sid_to_title": {"before": {"f1": 0.0}, "after": {"f1": 0.25}, "majority": {"f1": 0.1}, "copy": {"f1": 0.2}},
    "sid_to_topics": {"after": {"f1": 0.5}, "majority": {"f1": 0.3}, "copy": {"f1": 0.45}},
    "english": {
        "before": {"bits_per_character": 1.1, "cloze": 0.3},
        "after": {"bits_per_character": 1.4, "cloze": 0.25},
        "usual word": {"cloze": 0.02},
    },
    "drift": {
        "attention": {"weights": 1_200_000, "l2": 12.5, "relative_l2": 0.034, "sign_dissimilarity": 0.0125},
        "code embeddings": {"weights": 0, "l2": 0.0, "relative_l2": None, "sign_dissimilarity": None},
    },
    "missing": {},
}
_WORDS = (
    *("Organic", "Shea", "Butter", "Hydrating", "Moisturizer", "Cream", "Anti-Aging", "Vitamin C", "Serum", "Ceramic"),
    *(
        "Hair",
        "Straightener",
        "Ionic",
        "Dryer",
        "Mascara",
        "Waterproof",
        "Lash",
        "Argan",
        "Oil",
        "Shampoo",
        "Set of 12",
    ),
)


def title(number):
    """Titles as shops write them: some short, some far too long."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(_WORDS, size=int(rng.choice([3, 5, 8, 18]))))


def full_payload():
    means = {name: _metrics(name) for name in RETRIEVERS}
    return {
        "title": "Amazon Beauty, leave-one-out, content from titles and co-occurrence",
        "n_users": _USERS,
        "protocol": {
            "split": "leave-one-out",
            "seen": "filtered",
            "ties in time": "shuffle",
            "candidates": 12_101,
            "beams": [50, 50, 50, 50],
            "probabilities over": "codes",
            "seed": 0,
        },
        "retrievers": means,
        "retriever_about": {name: f"{name} ranks items by {title(i).lower()}." for i, name in enumerate(RETRIEVERS)},
        "intervals": {
            name: {
                metric: [value * 0.95, value * 1.05]
                for metric, value in values.items()
                if metric.partition("@")[0] in ("recall", "ndcg", "mrr", "hit")
            }
            for name, values in means.items()
        },
        "comparisons": [
            {
                "metric": metric,
                "a": "plum",
                "b": name,
                "difference": means["plum"][metric] - means[name][metric],
                "ci95": [means["plum"][metric] - means[name][metric] + side * 0.004 for side in (-1, 1)],
                "p_value": 0.0004 if name != "dense" else 0.031,
                "p_holm": 0.0056 if name != "dense" else 0.062,
            }
            for metric in ("recall@10", "ndcg@10")
            for name in RETRIEVERS
            if name not in ("plum", "optimum")
        ],
        "seen_kept": {
            name: {metric: value * 0.8 for metric, value in values.items() if metric[:2] in ("re", "nd")}
            for name, values in means.items()
            if name != "optimum"
        },
        "slices": _slices(),
        "prefix_recall": {
            name: [STRENGTH[name] * share for share in (3.4, 1.9, 1.2, 1.0)] for name in RETRIEVERS if name != "optimum"
        },
        "efficiency": {
            "dense": {
                "parameters": 901_568,
                "examples": 2_861_412,
                "tokens": 3_310_000,
                "flops": 4.31e12,
                "epochs": 31,
            },
            "lem": {"parameters": 6.2e6, "examples": 2_861_412, "tokens": 3_310_000, "flops": 5.0e12, "epochs": 24.5},
            "plum": {"parameters": 933_184, "examples": 1.9e6, "tokens": 45.6e6, "flops": 2.9e14, "epochs": 20},
            "hybrid": {
                "parameters": 1_834_752,
                "examples": 4.76e6,
                "tokens": 48.9e6,
                "flops": 2.943e14,
                "epochs": None,
            },
        },
        "tuning": _tuning(),
        "blends": {"counting": _blend({"popularity": 0.1, "itemknn": 0.9}), "of both": _blend({"dense": 1, "plum": 0})},
        "learnt": LEARNT,
        "dense_search": [
            {
                "index": "exact",
                "parameters": {},
                "build_s": 0.002,
                "ms_per_query": 0.31,
                "mib": 2.95,
                "recall_of_exact@10": 1,
            },
            {
                "index": "hnsw",
                "parameters": {"M": 32, "efConstruction": 200, "efSearch": 64},
                "build_s": 3.2,
                "ms_per_query": 0.083,
                "mib": 6.1,
                "recall_of_exact@10": 0.9954,
            },
            {
                "index": "ivfpq",
                "parameters": {"nlist": 440, "nprobe": 16, "m": 16, "bits": 8},
                "build_s": 1.7,
                "ms_per_query": 0.042,
                "mib": 0.6,
                "recall_of_exact@10": 0.871,
            },
        ],
        "lists": {
            name: {"users with fewer than k items": 0, "repeated items": 0, "users without any list": 0}
            | ({"users with fewer than k items": 1234} if name in ("itemknn", "textknn") else {})
            for name in RETRIEVERS
        },
        "built_on": "dense",
        "data": {
            "users": _USERS,
            "items": 12_101,
            "interactions": 198_502,
            "train": 153_776,
            "valid": _USERS,
            "test": _USERS,
            "first": "2002-06-12",
            "last": "2014-07-23",
            "cold_test": 300,
            "tied": 61_204,
            "tied_targets": 4_472,
            "users_without_test": 12,
            "users_without_history": 0,
            "seen_targets_only": 5_591,
            "unusable_rows": 3,
        },
        "popularity": {"ranks": [1, 10, 100, 12_101], "counts": [403, 210, 61, 0], "top_tenth": 0.48, "unseen": 52},
        "history_lengths": {"edges": [4, 6, 11, 205], "counts": [11_000, 8_000, 3_363], "median": 5.5, "read": 50},
        "timeline": {
            "edges": [1.0e9, 1.1e9, 1.2e9, 1.4e9],
            "counts": {"train": [50_000, 80_000, 23_776], "valid": [3_000, 9_000, 10_363], "test": [0, 0, _USERS]},
            "cuts": {"valid": 1.15e9, "test": 1.3e9},
        },
        "exposure": {
            "classes": ["head", "torso", "tail", "cold"],
            "references": {"catalogue": [0.05, 0.15, 0.5, 0.3], "test targets": [0.4, 0.3, 0.2, 0.1]},
            "retrievers": {name: [0.5, 0.3, 0.15, 0.05] for name in RETRIEVERS},
        },
        "quality": {
            "uniqueness": 0.983,
            "collision_rate": 0.017,
            "max_items_per_sid": 7,
            "buckets": {"share": {"1": 0.983, "2": 0.01, "3-5": 0.007, ">10": 0.0}, "p95": 1, "p99": 2, "max": 7},
            "reconstruction": 0.265,
            "reconstruction_by_modality": {"text": 0.31, "topics": 0.22},
            "unquantised_by_modality": {"text": 0.05, "topics": 0.01},
            "reference_by_modality": {"text": 0.4, "topics": 0.2},
            "reconstruction_ratio": 0.883,
            "training": {
                "steps": 2100,
                "held_out_items": 84,
                "stopped": "patience",
                "best_step": 1100,
                "smallest_loss": 0.3,
            },
            "gradient_norms": {"reconstruction": 0.21, "quantization": 0.12, "contrastive": 0.04},
            "modalities": {
                "text": {
                    "dimensions": 384,
                    "weight": 1.0,
                    "isotropy": "whiten",
                    "present": 0.9,
                    "mean_cosine": 0.61,
                    "mean_cosine_after": -0.0001,
                    "items_sharing_vectors": 12,
                },
                "topics": {"dimensions": 19, "weight": 2.0, "isotropy": "centre", "present": 1.0},
            },
            "stability": {
                "compared_with": "runs/earlier",
                "items": 11_900,
                "same": [0.9, 0.7],
                "matched": [0.92, 0.75],
                "adjusted_rand": [0.8, 0.6],
            },
            "neighbour_overlap": {
                "k": 10,
                "items": 2_000,
                "recall": [0.41, 0.22, 0.09],
                "recall_random": [0.01, 0.0004, 0.0001],
                "jaccard": [0.11, 0.13, 0.08],
                "jaccard_random": [0.002, 0.0003, 0.0001],
            },
            "cooccurrence_agreement": {
                "pairs": 21_870,
                "share": [0.064, 0.021, 0.008],
                "random": [0.006, 0.0004, 0.0001],
                "lift": [10.7, 52.5, 80.0],
            },
            "levels": [
                {"size": size, "usage": usage, "perplexity": perplexity}
                for size, usage, perplexity in (
                    (256, 1.0, 201.4),
                    (256, 1.0, 188.0),
                    (256, 0.98, 160.2),
                    (64, 0.2, 1.4),
                )
            ],
        },
        "codes": {
            "level_0": [int(12_101 * 0.0125 * 0.988**code) for code in range(256)],
            "top": [
                {
                    "code": 3 * code,
                    "items": int(150 * 0.9**code),
                    "titles": [title(10 * code + i) for i in range(4)],
                    "topics": ["Beauty", "Skin Care", title(code)],
                }
                for code in range(8)
            ],
            "later": [[90 - code // 2 for code in range(128)], [60] * 64 + [0] * 64],
            "tree": tree(np.random.default_rng(0).integers(0, 12, (12_101, 2)), [12, 128]),
        },
        "curves": _curves(),
        "examples": [_example(user) for user in range(5)],
        "reproduce": ["plum data fetch amazon-beauty", "plum run --config pipelines/amazon-beauty.yaml --set seed=0"],
        "config": "\n".join(
            ["title: Amazon Beauty", "data:", "  source:", "    kind: amazon", *(f"  key_{i}: {i}" for i in range(120))]
        ),
        "inputs": {f"data/{name}.parquet": f"{place:064x}"[::-1] for place, name in enumerate(("items", "split"), 11)},
        "versions": {"plum": "0.1.0", "torch": "2.9.0+cpu", "numpy": "2.3.4", "python": "3.11.2"},
        "timings": {
            stage: {"seconds": seconds, "peak_mib": 900.0 + seconds}
            for stage, seconds in {
                "data": 4.1,
                "tokenize": 62.0,
                "cpt": 900.0,
                "finetune": 4210.0,
                "dense": 2400.0,
            }.items()
        },
    }


@functools.cache
def full_report():
    """The report of it as HTML and as Markdown, made once for all tests."""
    return render_report(full_payload())


def _metrics(name):
    base = STRENGTH[name]
    growth = dict(zip(CUTOFFS, (0.2, 0.65, 1.0, 1.45, 2.2), strict=True))
    values = {f"recall@{k}": base * growth[k] for k in CUTOFFS}
    values |= {f"hit@{k}": base * growth[k] for k in CUTOFFS}
    values |= {f"ndcg@{k}": base * growth[k] ** 0.5 / 2 for k in CUTOFFS}
    values |= {f"mrr@{k}": base * growth[k] ** 0.3 / 3 for k in CUTOFFS}
    return values | {
        "effective_vocabulary@10": int(12 + 30_000 * base),
        "coverage@10": min(1.0, base * 6),
        "gini@10": 0.99 - 3 * base,
        "novelty@10": 9.4 + base,
        "diversity@10": 0.61,
        "hit_rating@10": 4.312,
        "rated_hits@10": int(_USERS * base),
        "cold_recall@10": base / 4,
        "cold_users": 4021,
        **({"invalid_sid_rate@10": 0.00013} if name == "plum" else {}),
    }


def _slices():
    groups = {
        "popularity of the target": {"head": 9000, "torso": 6201, "tail": 5162, "cold": 2000},
        "length of the history": {"1-5": 12_211, "6-10": 6001, "11-20": 3000, "21-50": 1100, "over 50": 51},
        "age group of the user": {"under 18": 400, "18-24": 8000, "25-34": 9000, "35 and over": 4000, "unknown": 963},
    }
    return [
        {
            "group": group,
            "slices": [
                {
                    "name": name,
                    "users": users,
                    "targets": users,
                    "retrievers": {
                        retriever: {
                            "recall@10": base * (share := 1.6 / (1 + place)),
                            "ndcg@10": base * share / 2,
                            "ci95": [
                                base * share * (1 - 12 / users**0.5 / 5),
                                base * share * (1 + 12 / users**0.5 / 5),
                            ],
                        }
                        for retriever, base in STRENGTH.items()
                    },
                }
                for place, (name, users) in enumerate(parts.items())
            ],
        }
        for group, parts in groups.items()
    ]


def _blend(weights):
    """A blend whose gap falls as 1 / step."""
    parts = {
        part: {
            "weight": weight,
            "powers": {"0.5": weight / 4, "2": weight * 3 / 4},
            "depth": 200,
            "targets_listed": 0.1234,
            "users_without_list": 17,
        }
        for part, weight in weights.items()
    }
    return {
        "parts": parts,
        "users": 2_000,
        "targets": 2_000,
        "targets_in_no_list": 1_126,
        "loss": 5.71,
        "loss_with_equal_weights": 5.84,
        "steps": 4_096,
        "gap": 0.00061,
        "converged": True,
        "trace": [{"step": 2**i, "stochastic_gap": 1.5 / 2**i, "gap": 2.5 / 2**i} for i in range(13)],
    }


def _tuning():
    searched = {
        "dropout": [0.1, 0.3, 0.5],
        "learning_rate": [0.0003, 0.001, 0.003],
        "hidden_size": [64, 128],
        "layers": [1, 2, 3],
    }
    settings = [dict(zip(searched, values, strict=True)) for values in itertools.product(*searched.values())]
    rng = np.random.default_rng(1)
    trials = [{"settings": each, "valid_recall@10": float(rng.uniform(0.08, 0.1))} for each in settings]
    best = max(trials, key=lambda trial: trial["valid_recall@10"])
    decays = [{"settings": {"decay": decay}, "valid_recall@10": 0.03 + decay / 1000} for decay in (1.0, 0.9, 0.7)]
    return {
        "dense": {"searched": searched, "trials": trials, "chosen": best["settings"], "note": "The same seed for all."},
        "textknn": {"searched": {"decay": [1.0, 0.9, 0.7]}, "trials": decays, "chosen": {"decay": 1.0}, "note": None},
        "plum": {
            "searched": {},
            "trials": [],
            "chosen": {},
            "note": "Settings come from one factor at a time, on validation data.",
        },
    }


def _curves():
    steps = np.arange(0, 20_000, 40)
    return {
        "tokenize": [
            {"step": int(s), "loss": 1 + 3 * 0.9997**s, "reconstruction_loss": 0.5 + 0.9997**s, "contrastive_loss": 2.0}
            for s in steps.tolist()
        ],
        "cpt": [
            {"step": int(s), "loss": 2 + 4 * 0.9995**s}
            | ({"held_out_behaviour_loss": 3 + 3 * 0.9995**s, "cloze": 0.3} if s % 4000 == 0 else {})
            for s in steps.tolist()
        ],
        "finetune": [
            {"step": int(s), "loss": 2 + 2 * 0.9996**s}
            | ({"recall@10": 0.1 * (1 - 0.9996**s)} if s % 1000 == 0 else {})
            for s in steps.tolist()
        ],
        "dense": [{"step": int(s), "loss": 3 + 6 * 0.9995**s} for s in steps.tolist()],
    }


def _example(user):
    return {
        "user_id": f"A{user}XK2QHGZP4",
        "history": [title(100 * user + i) for i in range(5)],
        "target": title(100 * user + 7),
        "recommendations": {
            name: [{"title": title(100 * user + 7 * i + n), "hit": n == user and i == 1} for i in range(5)]
            for n, name in enumerate(RETRIEVERS)
            if name != "optimum"
        },
    }
