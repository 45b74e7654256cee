"""The published methods, one entry each: formula, source, defaults, and the choices in which they depart from KD.

``dkd`` has another divergence, ``lskd`` transforms the logits first, ``dlkd`` has another temperature; so
``dlkd+dkd+lskd`` is the three together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dlkd.difficulty.level import DifficultyLevel
from dlkd.difficulty.score import DifficultyScore
from dlkd.difficulty.temperature import DifficultyTemperature, StepTemperature
from dlkd.features.method import FeatureMethod
from dlkd.methods import pieces
from dlkd.methods.composition import Scale
from dlkd.methods.label_terms import smoothed, trusted
from dlkd.methods.temperatures import (
    CooperativeTemperature,
    InstanceTemperature,
    LearnedTemperature,
    StdTemperature,
    TargetTemperature,
    TeacherTemperature,
    TemperatureByDifficulty,
)

Settings = dict[str, Any]
Build = Callable[[Settings], Any]


@dataclass(frozen=True)
class Method:
    """One method: its formula, where it is from, its defaults, and the choices in which it departs from KD."""

    formula: str
    reference: str
    defaults: Settings = field(default_factory=dict)
    """Names are those of :class:`LossOptions`."""
    latex: str = ""
    """The formula for the page of methods."""
    differs: str = ""
    """What we do differently from paper or code, and why."""
    code: Settings = field(default_factory=dict)
    """Settings of the published code where it departs from the paper: ``variant: code``."""
    temperature: Build | None = None
    divergence: Build | None = None
    weight: Build | None = None
    transform: Build | None = None
    label: Build | None = None
    """Its own label term; None is the cross-entropy."""
    feature: Build | None = None
    """A term of inner layers, beside that of the logits; without one of those where the method is named alone."""
    scale: Scale | None = None
    """Fixed by the method; None leaves it to the setting ``scale``, or T²."""
    one_temperature: bool = False
    """Does its divergence take one temperature for all samples only?"""
    two_views: bool = False
    """Does it show a weak and a strong view of every image?"""
    uses_labels: bool = False
    """Does its distillation term look at the labels?"""
    uses_probe: bool = False
    """Does it look at the probe's logits?"""
    teacher: bool = True
    """Does it need one?"""


def _by_difficulty(s: Settings, mapping: nn.Module) -> TemperatureByDifficulty:
    score = DifficultyScore(s["score"], s["distance_temperature"])
    return TemperatureByDifficulty(mapping, DifficultyLevel(s["level"], score.bound), score)


def _linear(s: Settings) -> TemperatureByDifficulty:
    return _by_difficulty(s, DifficultyTemperature(s["t_easy"], s["t_hard"], s["gamma"]))


def _steps(s: Settings) -> TemperatureByDifficulty:
    mapping = StepTemperature(s["t_easy"], s["t_middle"], s["t_hard"], s["easy_share"], s["hard_share"])
    return _by_difficulty(s, mapping)


def _learned(s: Settings) -> LearnedTemperature:
    if not s["per_instance"]:
        return LearnedTemperature(s["ramp_epochs"])
    return InstanceTemperature(s["ramp_epochs"], s["classes"])


_TWO_PARTS = {"ce_weight": 1.0, "kd_weight": 1.0, "warmup_epochs": 20.0}
_FINITE = (
    "log p and log(1 − p) are taken by log-sum-exp: the published code overflows in fp32 at margins of about 100·T."
)
METHODS: dict[str, Method] = {
    "ce": Method(
        "CE(z_s, y)",
        "no teacher",
        {"ce_weight": 1.0},
        r"-\sum_c y_c \log p_{s,c}",
        teacher=False,
    ),
    "ls": Method(
        "CE(z_s, (1 − ε)·y + ε/C)",
        "label smoothing, no teacher; Szegedy et al., CVPR 2016",
        {"ce_weight": 1.0, "smoothing": 0.1},
        r"-\sum_c \left[(1-\varepsilon)\,y_c + \varepsilon/C\right] \log p_{s,c}",
        label=lambda s: smoothed(s["smoothing"]),
        teacher=False,
    ),
    "kd": Method(
        "T²·KL(softmax(z_t/T) || softmax(z_s/T))",
        "Hinton et al. 2015; CIFAR-100 defaults of mdistiller",
        {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
        r"T^2\,\mathrm{KL}\left(p_t(T)\,\|\,p_s(T)\right)",
    ),
    "dkd": Method(
        "T²·(α·TCKD + β·NCKD)",
        "Zhao et al., CVPR 2022; defaults of mdistiller (β is tuned for each pair there)",
        {"temperature": 4.0, "alpha": 1.0, "beta": 8.0, **_TWO_PARTS},
        r"T^2\left[\alpha\,\mathrm{KL}\left(b_t\,\|\,b_s\right)+\beta\,\mathrm{KL}\left(n_t\,\|\,n_s\right)\right],"
        r"\quad b=(p_y,\,1-p_y),\; n=\mathrm{softmax}_{c\neq y}(z/T)",
        _FINITE,
        divergence=lambda s: pieces.dkd(s["alpha"], s["beta"]),
        uses_labels=True,
    ),
    "nkd": Method(
        "−p_t,y·log p_s,y + γ·T²·CE(n_t(T), n_s(T)) over the other classes",
        "Yang et al., ICCV 2023; defaults of cls_KD",
        {"temperature": 3.0, "nkd_gamma": 3.5, "ce_weight": 1.0, "kd_weight": 1.0},
        r"-p_{t,y}\log p_{s,y}-\gamma\,T^2\sum_{c\neq y} n_{t,c}\log n_{s,c}",
        divergence=lambda s: pieces.nkd(s["nkd_gamma"]),
        scale="none",
        uses_labels=True,
    ),
    "mlkd": Method(
        "Σ_T [T²·KL(T) + ‖Gram of batch‖² + ‖Gram of classes‖²], T/4 = ½, ¾, 1, 1¼, 1½, of a weak and a strong view",
        "Jin et al., CVPR 2023; weights of its code",
        {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9, "variant": "paper"},
        r"\sum_{v}\sum_{T}\left[T^2\,\mathrm{KL}\left(p_t\,\|\,p_s\right)+\tfrac1B\left\|P_tP_t^\top-P_sP_s^\top\right\|^2"
        r"+\tfrac1C\left\|P_t^\top P_t-P_s^\top P_s\right\|^2\right],\quad v\in\{\text{weak},\text{strong}\}",
        "All terms count for both views. In the published code the masks of the weak view scale means instead of "
        "choosing samples, the strong sum holds weak terms at T = 2 and 6, and the strong Gram terms are thrown away: "
        "`--loss.variant code` repeats that. z-scores go into all three levels, in the code into the first only.",
        divergence=lambda s: pieces.mlkd(s["variant"]),
        scale="none",
        two_views=True,
    ),
    "dist": Method(
        "T²·[β·(1 − row correlation) + γ·(1 − column correlation)]",
        "Huang et al., NeurIPS 2022; CIFAR-100 defaults of the authors",
        {
            "temperature": 4.0,
            "dist_beta": 1.0,
            "dist_gamma": 1.0,
            "eps": 0.0,
            "ce_weight": 1.0,
            "kd_weight": 2.0,
            "variant": "paper",
        },
        r"T^2\left[\beta\,\left(1-\rho_{\mathrm{rows}}(p_t,p_s)\right)+\gamma\,\left(1-\rho_{\mathrm{columns}}(p_t,p_s)"
        r"\right)\right]",
        "The correlation is exact. The code adds 1e-8 to the product of norms, which is visible at 1,000 classes: "
        "`--loss.variant code`.",
        {"eps": 1e-8},
        divergence=lambda s: pieces.dist(s["dist_beta"], s["dist_gamma"], s["eps"]),
    ),
    "rld": Method(
        "α·T_c²·KL(confidence) + β·T²·KL(classes below the label)",
        "Sun et al., ICCV 2025; temperatures as in its config",
        {"temperature": 4.0, "confidence_temperature": 1.0, "alpha": 1.0, "beta": 8.0, **_TWO_PARTS},
        r"\alpha\,T_c^2\,\mathrm{KL}\left((\max p_t,\,1-\max p_t)\,\|\,(p_{s,y},\,1-p_{s,y})\right)+\beta\,T^2\,"
        r"\mathrm{KL}\left(m_t\,\|\,m_s\right),\quad m=\mathrm{softmax}_{z_{t,c}<z_{t,y}}(z/T)",
        _FINITE + " Its README command has T_c = T: `--loss.confidence_temperature 4`.",
        divergence=lambda s: pieces.rld(s["alpha"], s["beta"], s["temperature"], s["confidence_temperature"]),
        scale="none",
        one_temperature=True,
        uses_labels=True,
    ),
    "r2kd": Method(
        "T²·[(1 − row cosine) + (1 − column cosine)] to the mixture w·z_t + (1 − w)·z_p with the probe",
        "Kim et al., IEEE TKDE 2024: the value loss",
        {
            "temperature": 4.0,
            "share": 0.7,
            "eps": 0.0,
            "ce_weight": 1.0,
            "kd_weight": 2.0,
            "variant": "paper",
        },
        r"T^2\left[\left(1-\cos_{\mathrm{rows}}(p_m,p_s)\right)+\left(1-\cos_{\mathrm{columns}}(p_m,p_s)\right)\right],"
        r"\quad z_m=w\,z_t+(1-w)\,z_p",
        "The rank loss is left out: ranks carry no gradient, so it is a constant for the optimiser. Our probe keeps "
        "the teacher's batch statistics; the published one runs on those of the batch (`--probe.norm batch "
        "--probe.scope layer --probe.sparsity 0.1`). `--loss.variant code` adds 1e-8 to the product of norms.",
        {"eps": 1e-8},
        divergence=lambda s: pieces.cosine(s["eps"]),
        transform=lambda s: pieces.mixed_with_probe(s["share"]),
        uses_probe=True,
    ),
    "mse": Method(
        "1/C·Σ(z_s − z_t)²",
        "Ba and Caruana, NeurIPS 2014; weights are ours",
        {"ce_weight": 0.1, "kd_weight": 0.9},
        r"\tfrac1C\sum_c\left(z_{s,c}-z_{t,c}\right)^2",
        divergence=lambda s: pieces.mse,
        scale="none",
        one_temperature=True,
    ),
    "lskd": Method(
        "T²·KL of z-scores",
        "Sun et al., CVPR 2024; T and weight of its command line",
        {"temperature": 2.0, "kd_weight": 9.0, "unbiased": False, "variant": "paper"},
        r"T^2\,\mathrm{KL}\left(\mathrm{softmax}(\hat z_t/T)\,\|\,\mathrm{softmax}(\hat z_s/T)\right),\quad "
        r"\hat z=\frac{z-\bar z}{\sigma(z)+\varepsilon}",
        "The variance is divided by C as in the paper, by C − 1 with `--loss.variant code`.",
        {"unbiased": True},
        transform=lambda s: pieces.standardised(s["unbiased"]),
    ),
    "probemix": Method(
        "T²·KL to the mixture w·z_t + (1 − w)·z_p with the probe",
        "the mixture of R2KD (Kim et al. 2024) with KD: a control for what the probe adds as a second teacher",
        {"share": 0.7},
        r"T^2\,\mathrm{KL}\left(p_m(T)\,\|\,p_s(T)\right),\quad z_m=w\,z_t+(1-w)\,z_p",
        transform=lambda s: pieces.mixed_with_probe(s["share"]),
        uses_probe=True,
    ),
    "wsld": Method(
        "w·T²·CE(p_t(T), p_s(T)), w = 1 − exp(−CE_s/CE_t)",
        "Zhou et al., ICLR 2021; defaults of cls_KD",
        {"temperature": 4.0, "ce_weight": 1.0, "kd_weight": 2.25},
        r"-w\,T^2\sum_c p_{t,c}(T)\log p_{s,c}(T),\quad w=1-e^{-\mathrm{CE}_s/\mathrm{CE}_t}",
        weight=lambda s: pieces.wsld,
        uses_labels=True,
    ),
    "ea": Method(
        "w·T²·KL(T), w = H_t·(1 + H_s/H_max)/2",
        "Su et al. (EA-KD), ICCV 2025",
        {
            "temperature": 4.0,
            "entropy_temperature": 3.0,
            "entropy_bound": None,
            "ce_weight": 0.1,
            "kd_weight": 0.9,
            "variant": "paper",
        },
        r"w\,T^2\,\mathrm{KL}\left(p_t(T)\,\|\,p_s(T)\right),\quad w=\tfrac12 H_t\left(1+H_s/\log C\right)",
        "The student's entropy is divided by log C as in the paper; the code has the number 100 there.",
        {"entropy_bound": 100.0},
        weight=lambda s: pieces.entropies(s["entropy_temperature"], s["entropy_bound"]),
    ),
    "ttm": Method(
        "KL(p_t^g/Σp_t^g || p_s)",
        "Zheng and Yang, ICLR 2024; exponent and weight for vgg13 → vgg8",
        {"exponent": 0.1, "ce_weight": 1.0, "kd_weight": 45.0},
        r"\mathrm{KL}\left(\mathrm{softmax}(g\,z_t)\,\|\,p_s\right)",
        temperature=lambda s: TeacherTemperature(s["exponent"]),
        scale="none",
    ),
    "wttm": Method(
        "U·KL(p_t^g/Σp_t^g || p_s), U = Σp_t^g",
        "Zheng and Yang, ICLR 2024; exponent and weight of its README",
        {"exponent": 0.2, "ce_weight": 1.0, "kd_weight": 4.0},
        r"U\,\mathrm{KL}\left(\mathrm{softmax}(g\,z_t)\,\|\,p_s\right),\quad U=\sum_c p_{t,c}^{\,g}",
        temperature=lambda s: TeacherTemperature(s["exponent"]),
        weight=lambda s: pieces.wttm(s["exponent"]),
        scale="none",
    ),
    "normkd": Method(
        "T_t²·KL(T_t, T_s), T = factor·std of each row",
        "Chi et al. 2023",
        {"factor": 2.0, "unbiased": False, "ce_weight": 0.1, "kd_weight": 0.9, "variant": "paper"},
        r"T_t^2\,\mathrm{KL}\left(p_t(T_t)\,\|\,p_s(T_s)\right),\quad T_t=f\,\sigma(z_t)+\varepsilon,\;"
        r"T_s=f\,\sigma(z_s)+\varepsilon",
        "The variance is divided by C as in the paper, by C − 1 with `--loss.variant code`; ε keeps constant logits "
        "from NaN.",
        {"unbiased": True},
        temperature=lambda s: StdTemperature(s["factor"], 1e-7, s["unbiased"]),
        scale="teacher",
    ),
    "dtkd": Method(
        "α·T_s·T_t·KL(T_t, T_s) + β·T²·KL(T), T_t and T_s share 2T by the largest logits",
        "Wei and Bai 2024; centring the maxima is our deviation",
        {"temperature": 4.0, "centred": True, **_TWO_PARTS, "alpha": 3.0, "beta": 1.0, "variant": "paper"},
        r"\alpha\,T_sT_t\,\mathrm{KL}\left(p_t(T_t)\,\|\,p_s(T_s)\right)+\beta\,T^2\,\mathrm{KL}\left(p_t(T)\,\|\,p_s(T)"
        r"\right),\quad T_{s,t}=\frac{2T\,m_{s,t}}{m_s+m_t},\; m=\max_c z_c-\bar z",
        "The largest logit is measured from the mean of its row (**our deviation**): with raw maxima a constant "
        "added to the logits changes the loss, and temperatures can be negative. `--loss.variant code` is the "
        "published form.",
        {"centred": False},
        temperature=lambda s: CooperativeTemperature(s["temperature"], s["centred"]),
        divergence=lambda s: pieces.dtkd(s["alpha"], s["beta"], s["temperature"]),
        scale="none",
    ),
    "ats": Method(
        "KL of the teacher at T_y on the label and T_o elsewhere to the student at its own T",
        "Li et al., NeurIPS 2022; temperatures of the MindSpore example, weights are ours",
        {
            "target_temperature": 4.0,
            "other_temperature": 2.0,
            "student_temperature": 1.0,
            "ce_weight": 0.5,
            "kd_weight": 0.5,
        },
        r"\mathrm{KL}\left(\mathrm{softmax}(z_{t,c}/T_c)\,\|\,p_s(T_s)\right),\quad T_c=T_y\text{ if }c=y"
        r"\text{ else }T_o",
        "With two temperatures in a row a constant added to the logits changes the loss; that is the method's.",
        temperature=lambda s: TargetTemperature(
            s["target_temperature"], s["other_temperature"], s["student_temperature"]
        ),
        scale="none",
        uses_labels=True,
    ),
    "ctkd": Method(
        "T²·KL(T), T = 1 + 20·sigmoid(θ), learned against the student",
        "Li et al., AAAI 2023; one θ for all samples, or a small network of both predictions",
        {"ramp_epochs": 10.0, "per_instance": False, "ce_weight": 0.1, "kd_weight": 0.9},
        r"T^2\,\mathrm{KL}\left(p_t(T)\,\|\,p_s(T)\right),\quad T=1+20\,\mathrm{sigmoid}(\theta),\;"
        r"\nabla_\theta\leftarrow-\lambda\,\nabla_\theta",
        "The network of `--loss.per_instance true` was not published as code: two layers on the predictions of teacher "
        "and student, whose output starts at the global θ, are our reading.",
        temperature=_learned,
    ),
    "energy": Method(
        "T_i²·KL(T_i), T_i in three steps of the energy −4·log Σ exp(z_t/4)",
        "Kim et al. (Energy KD), Knowledge-Based Systems 2024; direction of the abstract, numbers of the code",
        {
            "t_easy": 6.0,
            "t_middle": 4.0,
            "t_hard": 2.0,
            "easy_share": 0.2,
            "hard_share": 0.2,
            "score": "energy",
            "distance_temperature": 4.0,
            "level": "rank",
            "scale": "per_sample",
            "ce_weight": 0.1,
            "kd_weight": 0.9,
            "variant": "paper",
        },
        r"T_i^2\,\mathrm{KL}\left(p_t(T_i)\,\|\,p_s(T_i)\right),\quad T_i=T_{\mathrm{easy}},\,T_{\mathrm{middle}},\,"
        r"T_{\mathrm{hard}}\text{ for low, middle, high }E_i=-4\log\sum_c e^{z_{t,c}/4}",
        "The abstract gives low energy (confident samples) the high temperature, the published code the low one: "
        "`--loss.variant code`. Thresholds are quantiles of training views, known to 1/1024.",
        {"t_easy": 2.0, "t_hard": 6.0},
        temperature=_steps,
    ),
    "dlkd": Method(
        "s_i·KL(softmax(z_t/T_i) || softmax(z_s/T_i)), T_i = T_easy + (T_hard − T_easy)·ℓ_i^γ",
        "after Difficulty level-based knowledge distillation, Neurocomputing 2024; mapping and defaults are ours",
        {
            "t_easy": 2.0,
            "t_hard": 6.0,
            "gamma": 1.0,
            "score": "distance",
            "distance_temperature": 1.0,
            "level": "rank",
            "scale": "per_sample",
            "ce_weight": 0.1,
            "kd_weight": 0.9,
        },
        r"T_i^2\,\mathrm{KL}\left(p_t(T_i)\,\|\,p_s(T_i)\right),\quad T_i=T_{\mathrm{easy}}+(T_{\mathrm{hard}}-"
        r"T_{\mathrm{easy}})\,\ell_i^{\gamma},\;\ell_i=\mathrm{rank}\left\|p_t-p_p\right\|_2",
        "Only the abstract is public: it gives the distance between the predictions of the teacher and of its pruned "
        "copy. The space of the distance, the pruning, the mapping, the direction and the scale are our choices.",
        temperature=_linear,
    ),
    "dlkd-robust": Method(
        "DLKD, with w_i·CE, w_i = 1 − (1 − ℓ_i)·(max p_t − p_t,y)",
        "ours: DLKD for labels that may be wrong",
        {
            "t_easy": 2.0,
            "t_hard": 6.0,
            "gamma": 1.0,
            "score": "distance",
            "distance_temperature": 1.0,
            "level": "rank",
            "scale": "per_sample",
            "ce_weight": 0.1,
            "kd_weight": 0.9,
        },
        r"T_i^2\,\mathrm{KL}\left(p_t(T_i)\,\|\,p_s(T_i)\right)\;\text{and}\;w_i\,\mathrm{CE}_i,\quad "
        r"w_i=1-(1-\ell_i)\left(\max_c p_{t,c}-p_{t,y}\right)",
        "A given label counts less where the teacher is sure of another class and the sample is easy. With a teacher "
        "that was trained on clean labels this is an oracle.",
        temperature=_linear,
        label=lambda s: trusted,
    ),
    "fitnet": Method(
        "1/n·Σ(r(f_s) − f_t)², r a learned linear map with batch norm",
        "Romero et al., ICLR 2015; weight of mdistiller",
        {"ce_weight": 1.0, "feature_weight": 100.0},
        r"\frac1n\left\|r(f_s)-f_t\right\|^2",
        "One stage with the student, as in mdistiller, instead of two one after the other. The regressor r works at "
        "each position (a 1×1 convolution) and has no ReLU, since features of a transformer can be negative; maps of "
        "other sizes are averaged to the smaller. By default the middle stage.",
        feature=lambda s: FeatureMethod("fitnet"),
    ),
    "at": Method(
        "1/P·Σ_p(a_s − a_t)², a = m/‖m‖, m_p = mean over channels of f²",
        "Zagoruyko and Komodakis, ICLR 2017; weight of mdistiller",
        {"ce_weight": 1.0, "feature_weight": 1000.0},
        r"\sum_{\text{layers}}\frac1P\left\|\frac{m_s}{\|m_s\|}-\frac{m_t}{\|m_t\|}\right\|^2,\quad "
        r"m_p=\frac1C\sum_c f_{c,p}^2",
        "Tokens are laid out as a grid, without the class token. By default all stages where both models have as many, "
        "and else the last.",
        feature=lambda s: FeatureMethod("at"),
    ),
    "rkd": Method(
        "w_d·Huber of distances + w_a·Huber of angles between the samples of a batch",
        "Park et al., CVPR 2019; weights of its authors",
        {"ce_weight": 1.0, "feature_weight": 1.0, "distance_weight": 25.0, "angle_weight": 50.0},
        r"w_d\,\mathrm{mean}_{ij}\,H\left(\delta_{s,ij}-\delta_{t,ij}\right)+w_a\,\mathrm{mean}_{ijk}\,H\left("
        r"\cos_{s,ijk}-\cos_{t,ijk}\right),\quad \delta_{ij}=\|e_i-e_j\|/\mathrm{mean}",
        "Embeddings are means over the positions of a layer, by default the last stage. Coincident embeddings have a "
        "gradient of 0.",
        feature=lambda s: FeatureMethod("rkd", distance_weight=s["distance_weight"], angle_weight=s["angle_weight"]),
    ),
}
