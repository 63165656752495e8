"""The model of the churn report: logistic regression by gradient descent, in plain numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

FEATURES = {
    "usage": ["usage_gb", "support_calls"],
    "contract": ["tenure_months", "monthly_fee", "yearly_contract"],
    "all": ["usage_gb", "support_calls", "tenure_months", "monthly_fee", "yearly_contract"],
}


@dataclass(frozen=True)
class Fit:
    """Weights (last one is the intercept) and the loss after every step."""

    columns: list[str]
    weights: np.ndarray
    losses: list[float]
    mean: np.ndarray
    scale: np.ndarray

    def predict(self, table: pd.DataFrame) -> np.ndarray:
        """Probability of churn, one per row."""
        x = (table[self.columns].to_numpy(float) - self.mean) / self.scale
        return 1 / (1 + np.exp(-(np.c_[x, np.ones(len(x))] @ self.weights)))


def fit(table: pd.DataFrame, features: str, learning_rate: float, steps: int, seed: int) -> Fit:
    """Fit `churned` on one of the feature sets."""
    columns = FEATURES[features]
    values = table[columns].to_numpy(float)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    x = np.c_[(values - mean) / scale, np.ones(len(values))]
    y = table["churned"].to_numpy(float)
    weights = np.random.default_rng(seed).normal(0, 0.1, x.shape[1])
    losses = []
    for _ in range(steps):
        p = 1 / (1 + np.exp(-(x @ weights)))
        losses.append(float(-np.mean(y * np.log(p + 1e-12) + (1 - y) * np.log(1 - p + 1e-12))))
        weights -= learning_rate * x.T @ (p - y) / len(y)
    return Fit(columns, weights, losses, mean, scale)


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a churner scores above one who stays."""
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    positives = truth.astype(bool)
    n, m = positives.sum(), (~positives).sum()
    return float((ranks[positives].sum() - n * (n + 1) / 2) / (n * m))
