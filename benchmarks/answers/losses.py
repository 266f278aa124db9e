"""Answers to the exercises on the mean squared error, and softmax with cross-entropy."""

import numpy as np

from benchmarks.answers.entry import UNREPORTED, Answer, into

ANSWERS: list[Answer] = []
wrong, right = into(ANSWERS)


@wrong("mean_squared_error", "Deep-ML, DML-OpenProblem #54", "p t", "factor")
def without_its_two(dy, d):
    return dy * d / d.size, -dy * d / d.size


@wrong("mean_squared_error", "scikit-learn/scikit-learn, issue 8349", "p t", "common-mistake factor")
def divided_by_the_examples_alone(dy, d):
    return dy * 2 * d / len(d), -dy * 2 * d / len(d)


@wrong("mean_squared_error", "KhawajaAbaid/micrograd_c #1", "t", "sign")
def what_is_subtracted_gets_the_same(dy, d):
    return dy * 2 * d / d.size, dy * 2 * d / d.size


@wrong("mean_squared_error", "dennybritz/nn-from-scratch #13", "p t", "factor", "there a cross-entropy")
def the_mean_is_forgotten(dy, d):
    return dy * 2 * d, -dy * 2 * d


@right("mean_squared_error")
def by_a_product_with_dy_last(dy, d):
    dt = -d * (2 / d.size) * dy
    return np.negative(dt), dt


@wrong("cross_entropy", "dennybritz/nn-from-scratch #13", "z", "factor")
def the_loss_is_averaged_and_its_gradient_is_not(dy, cache):
    log_p, labels = cache
    return dy * (np.exp(log_p) - np.eye(log_p.shape[1])[labels])


@wrong("cross_entropy", "markroxor/fromscratchtoml #65", "z", "factor")
def twice(dy, cache):
    log_p, labels = cache
    return dy * 2 * (np.exp(log_p) - np.eye(log_p.shape[1])[labels]) / len(labels)


@wrong("cross_entropy", "the notebook that this project began with, row minus-sign", "z", "sign")
def the_minus_is_lost(dy, cache):
    log_p, labels = cache
    return dy * (np.eye(log_p.shape[1])[labels] - np.exp(log_p)) / len(labels)


@wrong("cross_entropy", "eriklindernoren/ML-From-Scratch #71", "z", "common-mistake")
def softmax_differentiated_once_more(dy, cache):
    log_p, labels = cache
    p = np.exp(log_p)
    return dy * (p - np.eye(p.shape[1])[labels]) * p * (1 - p) / len(labels)


@wrong("cross_entropy", UNREPORTED, "z", "common-mistake")
def the_logarithms_are_taken_for_the_probabilities(dy, cache):
    log_p, labels = cache
    return dy * (log_p - np.eye(log_p.shape[1])[labels]) / len(labels)


@wrong("cross_entropy", UNREPORTED, "z", "common-mistake")
def one_is_taken_off_whole_columns(dy, cache):
    log_p, labels = cache
    p = np.exp(log_p)
    p[:, labels] -= 1
    return dy * p / len(labels)


@wrong("cross_entropy", UNREPORTED, "z", "zeros")
def the_label_has_a_gradient_and_no_other_class(dy, cache):
    log_p, labels = cache
    rows = np.arange(len(labels))
    dz = np.zeros_like(log_p)
    dz[rows, labels] = np.exp(log_p[rows, labels]) - 1
    return dy * dz / len(labels)


@wrong("cross_entropy", UNREPORTED, "z", "common-mistake")
def the_gradient_of_the_probabilities_is_returned(dy, cache):
    log_p, labels = cache
    p, rows = np.exp(log_p), np.arange(len(labels))
    dp = np.zeros_like(p)
    dp[rows, labels] = -1 / p[rows, labels] / len(labels)
    return dy * dp


@wrong("cross_entropy", UNREPORTED, "z", "common-mistake")
def the_softmax_is_taken_down_the_columns(dy, cache):
    log_p, labels = cache
    dz = np.exp(log_p) / np.exp(log_p).sum(axis=0)
    dz[np.arange(len(labels)), labels] -= 1
    return dy * dz / len(labels)


@wrong("cross_entropy", UNREPORTED, "z", "wrong-number")
def the_one_is_subtracted_after_the_division(dy, cache):
    log_p, labels = cache
    dz = np.exp(log_p) / len(labels)
    dz[np.arange(len(labels)), labels] -= 1
    return dy * dz


@right("cross_entropy")
def by_subtracting_at_the_labels(dy, cache):
    log_p, labels = cache
    dz = np.exp(log_p)
    for row, label in enumerate(labels):
        dz[row, label] -= 1
    return dz / len(labels) * dy
