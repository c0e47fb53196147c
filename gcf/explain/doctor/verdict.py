"""Is another setting clearly better than the declared one? Paired over the same videos, never by one number.

The rule. With labels (at least LEAST_VIDEOS videos whose class the network knows): a video's value is the log
probability of its true class. Without: how well two clips of it find each other by their classes among the clips of the
other videos (evidence.agreement). One setting is *clearly* better than another when both hold:

* its values are higher by at least MARGIN nats on average, and
* Wilcoxon's signed-rank test over the videos, exact, two-sided, gives p <= LEVEL: of 7 or 8 videos all must agree, or
  all but the one with the smallest difference.

The declared setting is wrong when an altered one is clearly better. Where neither is clearly better, the videos cannot
tell the two apart, and that is what is said. Confidence (top probability, entropy) is shown and never used.

What led to it: X3D-XS, Kinetics-400, which wants RGB in 0..1 with mean .45 and std .225; eight labelled videos, two
clips each; the mean difference of the true setting to the altered one in nats, and in how many videos it is positive:

| altered to            | log p(true) | agreement | log top probability | entropy, less is surer |
|-----------------------|-------------|-----------|---------------------|------------------------|
| BGR                   | +0.91, 8    | +0.18, 8  | +0.40, 4            | +0.83, 5               |
| 0..255                | +10, 8      | +5.5, 8   | **-0.50, 0**        | **-1.22, 0**           |
| BGR and 0..255        | +10, 8      | +8.8, 8   | **-0.50, 0**        | **-1.22, 0**           |
| mean 114.., 0..255    | +10, 8      | +4.6, 8   | **-0.50, 0**        | **-1.20, 0**           |
| mean .43.., std .27   | +0.09, 7    | -0.00, 7  | +0.04, 7            | +0.15, 8               |
| mean .5, std .25      | +0.05, 8    | +0.01, 8  | +0.07, 8            | +0.07, 7               |
| mean .43.., std .22   | +0.01, 3    | -0.01, 2  | -0.02, 3            | -0.03, 2               |
| mean .485.., std .229 | +0.03, 6    | -0.01, 4  | +0.00, 5            | +0.04, 5               |

With four clips each, BGR: log p +0.99 (95 % +0.30 to +1.78), 8 of 8; agreement +0.17 (+0.06 to +0.31), 8 of 8. Twenty
videos of UT-Interaction, one scene and none of the network's classes: agreement cannot tell BGR (+0.06, 12 of 20), and
blames no right setting; entropy would tell BGR (19 of 20), and would take 0..255 for better in 20 of 20.

So confidence misleads: networks are surest of wrong ranges. Means and stds of one range differ by less than videos can
tell; the margins lie between them and the smallest true mistake. LEVEL is not divided by the number of settings: those
that are wrong lose, so that a false alarm needs both a fluke and the margin.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from gcf.explain.doctor.clips import LEAST_VIDEOS
from gcf.explain.doctor.evidence import Answers
from gcf.explain.measures.bootstrap import mean_interval
from gcf.head.tables.statistics import sign_flip_p

LEVEL = 0.02
LABELS, AGREEMENT = "labels", "agreement"
MARGIN = {LABELS: 0.2, AGREEMENT: 0.05}  # nats
BETTER, WORSE, UNCLEAR = "clearly better", "clearly worse", "cannot be told apart"


@dataclass(frozen=True)
class PairedVerdict:
    """One setting against another over the same videos, in nats a video.

    delta and its 95 % bootstrap interval low to high (positive: the first is better); p: exact signed-rank test,
    two-sided; higher of videos: in how many the first is better. verdict: of the first.
    """

    verdict: str
    delta: float
    low: float
    high: float
    p: float
    higher: int
    videos: int


def choose_evidence(declared: Answers) -> str:
    """ "labels", "agreement" or '' where there are too few videos for either."""
    for evidence in (LABELS, AGREEMENT):
        if np.isfinite(values(declared, evidence)).sum() >= LEAST_VIDEOS:
            return evidence
    return ""


def compare(first: Answers, second: Answers, evidence: str) -> PairedVerdict:
    """How much better the first is, by the rule above."""
    differences = values(first, evidence) - values(second, evidence)
    differences = differences[np.isfinite(differences)]
    delta = float(differences.mean())
    low, high = mean_interval(differences, np.arange(len(differences)))
    p = signed_rank_p(differences)
    verdict = UNCLEAR
    if abs(delta) >= MARGIN[evidence] and p <= LEVEL and len(differences) >= LEAST_VIDEOS:
        verdict = BETTER if delta > 0 else WORSE
    return PairedVerdict(verdict, delta, low, high, p, int((differences > 0).sum()), len(differences))


def values(found: Answers, evidence: str) -> np.ndarray:
    """What is compared: one value a video (V,), nan for a video that has none."""
    return found.true_log_probability if evidence == LABELS else found.agreement


def signed_rank_p(differences: np.ndarray) -> float:
    """Wilcoxon's signed-rank test, exact also with ties, two-sided.

    >>> round(signed_rank_p(np.array([0.3, 0.1, 0.2, 2.0, 0.4, 0.5, 0.6])), 6)
    0.015625
    """
    moved = differences[np.abs(differences) > 1e-9]  # what rounding leaves is no difference
    ranks = np.rint(2 * rankdata(np.abs(moved))).astype(int)  # halves for ties
    return sign_flip_p(ranks * np.sign(moved).astype(int)) if len(moved) else 1.0
