"""Figures with honest bounds: percentiles, means and rates of correlated samples (pure).

Samples of one load are not independent: requests that wait together are slow together. So bounds
are taken for the *effective* sample size n / tau, with tau the integrated autocorrelation time of
the sample in time order (Sokal, "Monte Carlo Methods in Statistical Mechanics", 1997, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runbook_lib.artifacts import Interval

__all__ = [
    "effective_size",
    "least_samples",
    "mean_interval",
    "percentile_interval",
    "rate_interval",
]

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2
_WINDOW = 5.0
"""Sokal's c: the sum of autocorrelations ends at the first lag that is c times its tau."""

_LEAST_FOR_MEAN = 6
_LEAST_FOR_BOUNDS = 20
"""Below this effective size the correlation itself can't be told, so bounds would be a guess."""

_STUDENT_97_5 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""0.975 quantiles of Student's t for 1 to 10 degrees of freedom (any table)."""


def least_samples(p: float) -> int:
    """The fewest independent samples that bound quantile `p` (0..1) on both sides at 95 %.

    The bound exists once `max(p, 1 - p) ** n <= 0.025`: 6 for p50, 36 for p90, 72 for p95, 368 for
    p99.
    """
    return math.ceil(math.log(_TAIL) / math.log(max(p, 1 - p)))


def percentile_interval(samples: Sequence[float], p: float) -> Interval:
    """Quantile `p` (0..1) of a sample in time order, Hyndman-Fan type 7, with its 95 % interval.

    The interval is the pair of order statistics that a binomial count of the effective sample size
    allows. `value` is None below `least_samples(p)` samples; the bounds are None where the
    *effective* size is below it.
    """
    n = len(samples)
    if n < least_samples(p):
        return Interval(value=None, n=n)
    values = np.asarray(samples, np.float64)
    value = float(np.quantile(values, p))
    effective = int(effective_size((values > value).astype(np.float64)))
    if effective < least_samples(p) or effective_size(_ranks(values)) < _LEAST_FOR_BOUNDS:
        return Interval(value=value, n=n)
    lower, upper = _binomial_ranks(effective, p)
    ordered = np.sort(values)
    low = ordered[max(math.floor(lower * n / effective), 1) - 1]
    high = ordered[min(math.ceil(upper * n / effective), n) - 1]
    return Interval(value=value, low=float(low), high=float(high), n=n)


def mean_interval(samples: Sequence[float]) -> Interval:
    """The mean of a sample in time order with its 95 % interval (Student, effective size)."""
    n = len(samples)
    if n < _LEAST_FOR_MEAN:
        return Interval(value=None, n=n)
    values = np.asarray(samples, np.float64)
    effective = effective_size(values)
    mean = float(values.mean())
    if effective < _LEAST_FOR_BOUNDS:
        return Interval(value=mean, n=n)
    margin = _student(int(effective) - 1) * float(values.std(ddof=1)) / math.sqrt(effective)
    return Interval(value=mean, low=mean - margin, high=mean + margin, n=n)


def rate_interval(amounts: Sequence[float], seconds: float, n: int) -> Interval:
    """A rate per second from the amounts of equal, consecutive parts of `seconds` (batch means).

    Args:
        amounts: what happened in each part; parts so long that they hardly depend on each other.
        seconds: the length of all parts together.
        n: the number of requests behind them.

    Returns:
        The rate; without bounds for fewer than two requests a part, None without any time.
    """
    if seconds <= 0 or not n:
        return Interval(value=None, n=n)
    rates = np.asarray(amounts, np.float64) * len(amounts) / seconds
    rate = float(rates.mean())
    if len(amounts) < 2 or n < 2 * len(amounts):
        return Interval(value=rate, n=n)
    error = float(rates.std(ddof=1)) / math.sqrt(len(amounts))
    margin = _student(len(amounts) - 1) * error
    return Interval(value=rate, low=max(rate - margin, 0.0), high=rate + margin, n=n)


def effective_size(values: Floats) -> float:
    """How many independent samples a sample in time order is worth, from 1 to its size."""
    n = len(values)
    centred = values - values.mean()
    if n < 2 or not centred.any():
        return float(n)
    spectrum = np.fft.rfft(centred, 2 * n)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:n]
    tau = 2 * np.cumsum(correlation / correlation[0]) - 1
    lags = np.arange(n)
    enough = lags >= _WINDOW * tau
    window = int(enough.argmax()) if enough.any() else n - 1
    # Subtracting the sample's own mean hides a part of the correlation (Wolff 2004, equation 49).
    chosen = float(tau[window]) * (1 + (2 * window + 1) / n)
    return n / min(max(chosen, 1.0), float(n))


def _ranks(values: Floats) -> Floats:
    """Ranks, equal values sharing theirs: outliers must not hide that neighbours are alike."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared = last - (counts - 1) / 2
    return np.asarray(shared[places], np.float64)


def _binomial_ranks(n: int, p: float) -> tuple[int, int]:
    """Ranks l < u (from 1) with P(X_(l) <= quantile <= X_(u)) at least 95 %, equal tails."""
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    k = np.arange(n + 1)
    choices = logs[n] - logs[k] - logs[n - k]
    below = np.cumsum(np.exp(choices + k * math.log(p) + (n - k) * math.log1p(-p)))
    lower = int(np.searchsorted(below, _TAIL, side="right"))
    upper = int(np.searchsorted(below, 1 - _TAIL, side="left")) + 1
    return max(lower, 1), min(upper, n)


def _student(freedom: int) -> float:
    """0.975 quantile of Student's t; beyond the table by Cornish-Fisher to 1/f^2 (error < 0.001)."""
    if freedom <= len(_STUDENT_97_5):
        return _STUDENT_97_5[freedom - 1]
    z = 1.959964
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return z + first + second
