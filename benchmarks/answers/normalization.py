"""Answers to the exercises on layer norm, RMS norm and batch norm."""

import numpy as np

from benchmarks.answers.entry import UNREPORTED, Answer, into

ANSWERS: list[Answer] = []
wrong, right = into(ANSWERS)


def mean(values, axis):
    return values.mean(axis=axis, keepdims=True)


def sums(dy, x_hat):
    return (dy * x_hat).sum(axis=0), dy.sum(axis=0)


# ----------------------------------------------------------------------------------------- layer norm


@wrong("layer_norm", "tenstorrent/tt-metal #53204, pull request 53215", "x", "weighted-path term")
def the_mean_twice(dy, cache):
    x_hat, s, weight = cache
    g = dy * weight
    return (g - 2 * mean(g, 1) - x_hat * mean(g * x_hat, 1)) / s, *sums(dy, x_hat)


@wrong("layer_norm", "MLSysBook/TinyTorch, commit 02364f8", "x", "missing-path missing-term")
def the_deviation_is_taken_for_a_constant(dy, cache):
    x_hat, s, weight = cache
    g = dy * weight
    return (g - mean(g, 1)) / s, *sums(dy, x_hat), {"x_hat": g}


@wrong("layer_norm", "facebookresearch/CrypTen, pull request 143", "x", "missing-path missing-term", "there batch norm")
def mean_and_deviation_are_taken_for_constants(dy, cache):
    x_hat, s, weight = cache
    return dy * weight / s, *sums(dy, x_hat)


@wrong("layer_norm", "denizyuret/Knet.jl #288", "x_hat", "missing-factor wrong-factor", "there batch norm")
def the_weight_is_forgotten(dy, cache):
    x_hat, s, _ = cache
    return (dy - mean(dy, 1) - x_hat * mean(dy * x_hat, 1)) / s, *sums(dy, x_hat), {"x_hat": dy}


@wrong("layer_norm", "RubixML/ML, pull request 423", "x", "common-mistake", "there batch norm, over width for batch")
def the_means_are_over_the_rows(dy, cache):
    x_hat, s, weight = cache
    g = dy * weight
    return (g - mean(g, 0) - x_hat * mean(g * x_hat, 0)) / s, *sums(dy, x_hat), {"x_hat": g}


@wrong("layer_norm", "flagos-ai/FlagGems, pull request 59", "x", "common-mistake")
def the_means_are_over_all_entries(dy, cache):
    x_hat, s, weight = cache
    g = dy * weight
    return (g - g.mean() - x_hat * (g * x_hat).mean()) / s, *sums(dy, x_hat)


@wrong("layer_norm", UNREPORTED, "x", "common-mistake")
def the_weight_is_applied_last(dy, cache):
    x_hat, s, weight = cache
    return weight / s * (dy - mean(dy, 1) - x_hat * mean(dy * x_hat, 1)), *sums(dy, x_hat)


@wrong("layer_norm", UNREPORTED, "x", "common-mistake")
def x_hat_is_missing_in_the_third_term(dy, cache):
    x_hat, s, weight = cache
    g = dy * weight
    return (g - mean(g, 1) - mean(g * x_hat, 1)) / s, *sums(dy, x_hat), {"x_hat": g}


@wrong("layer_norm", UNREPORTED, "x", "common-mistake line-factors")
def divided_by_the_variance(dy, cache):
    x_hat, s, weight = cache
    g = dy * weight
    return (g - mean(g, 1) - x_hat * mean(g * x_hat, 1)) / s**2, *sums(dy, x_hat)


@right("layer_norm")
def by_way_of_the_variance_and_the_mean(dy, cache):
    x_hat, s, weight = cache
    n = x_hat.shape[1]
    dx_hat = dy * weight
    dvariance = np.sum(dx_hat * x_hat * s, axis=1, keepdims=True) * -0.5 / s**3
    dmean = -np.sum(dx_hat / s, axis=1, keepdims=True)
    return dx_hat / s + dvariance * 2 * x_hat * s / n + dmean / n, *sums(dy, x_hat)


# ------------------------------------------------------------------------------------------- RMS norm


@wrong("rms_norm", "karpathy/llm.c, pull request 763, of a reviewer's own", "x_hat x", "missing-factor wrong-factor")
def the_gain_is_forgotten(dy, cache):
    x_hat, r, _ = cache
    return (dy - x_hat * mean(dy * x_hat, 1)) / r, (dy * x_hat).sum(axis=0), {"x_hat": dy}


@wrong("rms_norm", "unslothai/unsloth #4533, pull request 4550", "weight", "zeros missing-leaf")
def no_gradient_for_the_gain(dy, cache):
    x_hat, r, weight = cache
    g = dy * weight
    return (g - x_hat * mean(g * x_hat, 1)) / r, np.zeros_like(weight)


@wrong("rms_norm", "MLSysBook/TinyTorch, commit 02364f8", "x", "missing-path missing-term", "there layer norm")
def the_root_is_taken_for_a_constant(dy, cache):
    x_hat, r, weight = cache
    return dy * weight / r, (dy * x_hat).sum(axis=0)


@wrong("rms_norm", "mlpack/mlpack #1923, pull request 1930", "x", "missing-factor", "there batch norm")
def summed_instead_of_averaged(dy, cache):
    x_hat, r, weight = cache
    g = dy * weight
    return (g - x_hat * (g * x_hat).sum(axis=1, keepdims=True)) / r, (dy * x_hat).sum(axis=0)


@right("rms_norm")
def by_the_jacobian_of_each_row(dy, cache):
    x_hat, r, weight = cache
    n = x_hat.shape[1]
    dx = [(np.eye(n) - np.outer(h, h) / n) @ (weight * g) / root for h, g, root in zip(x_hat, dy, r, strict=True)]
    return np.stack(dx), np.einsum("ki,ki->i", dy, x_hat)


# ----------------------------------------------------------------------------------------- batch norm


@wrong("batch_norm", "facebookresearch/CrypTen, pull request 143", "x", "missing-path missing-term")
def statistics_are_constants(dy, cache):
    x_hat, s, weight = cache
    return dy * weight / s, *sums(dy, x_hat)


@wrong("batch_norm", "mlpack/mlpack #1923, pull request 1930", "x", "weighted-path term")
def the_mean_is_a_sum(dy, cache):
    x_hat, s, weight = cache
    g = dy * weight
    return (g - g.sum(axis=0) - x_hat * mean(g * x_hat, 0)) / s, *sums(dy, x_hat)


@wrong("batch_norm", "denizyuret/Knet.jl #288", "x x_hat", "missing-factor wrong-factor")
def without_the_weight(dy, cache):
    x_hat, s, _ = cache
    return (dy - mean(dy, 0) - x_hat * mean(dy * x_hat, 0)) / s, *sums(dy, x_hat)


@wrong("batch_norm", "MLSysBook/TinyTorch, commit 02364f8", "x", "missing-path missing-term", "there layer norm")
def the_deviation_is_a_constant(dy, cache):
    x_hat, s, weight = cache
    g = dy * weight
    return (g - mean(g, 0)) / s, *sums(dy, x_hat)


@right("batch_norm")
def by_matrices(dy, cache):
    x_hat, s, weight = cache
    n = len(x_hat)
    centering = np.eye(n) - np.ones((n, n)) / n
    dx = np.empty_like(dy)
    for c in range(dy.shape[1]):
        h = x_hat[:, c]
        dx[:, c] = weight[c] / s[c] * (centering - np.outer(h, h) / n) @ dy[:, c]
    return dx, *sums(dy, x_hat)
