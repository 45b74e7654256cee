"""The methods that give every sample, or teacher and student, a temperature of their own."""

from __future__ import annotations

from torch import nn

from dlkd.difficulty.level import DifficultyLevel
from dlkd.difficulty.score import DifficultyScore
from dlkd.difficulty.temperature import DifficultyTemperature, StepTemperature
from dlkd.methods import pieces
from dlkd.methods.label_terms import trusted
from dlkd.methods.published.method import Method, Settings
from dlkd.methods.temperatures import (
    CooperativeTemperature,
    InstanceTemperature,
    LearnedTemperature,
    StdTemperature,
    TargetTemperature,
    TeacherTemperature,
    TemperatureByDifficulty,
)


def _by_difficulty(s: Settings, mapping: nn.Module) -> TemperatureByDifficulty:
    score = DifficultyScore(s["score"], s["distance_temperature"])
    return TemperatureByDifficulty(mapping, DifficultyLevel(s["level"], score.bound), score, shuffled=s["shuffled"])


def _linear(s: Settings) -> TemperatureByDifficulty:
    return _by_difficulty(s, DifficultyTemperature(s["t_easy"], s["t_hard"], s["gamma"]))


def _steps(s: Settings) -> TemperatureByDifficulty:
    mapping = StepTemperature(s["t_easy"], s["t_middle"], s["t_hard"], s["easy_share"], s["hard_share"])
    return _by_difficulty(s, mapping)


def _learned(s: Settings) -> LearnedTemperature:
    if not s["per_instance"]:
        return LearnedTemperature(s["ramp_epochs"])
    return InstanceTemperature(s["ramp_epochs"], s["classes"])


_DLKD = {
    "t_easy": 2.0,
    "t_hard": 6.0,
    "gamma": 1.0,
    "score": "distance",
    "distance_temperature": 1.0,
    "level": "rank",
    "shuffled": False,
    "scale": "per_sample",
    "ce_weight": 0.1,
    "kd_weight": 0.9,
}
TEMPERATURES: dict[str, Method] = {
    "ttm": Method(
        "KL(p_t^g/Σp_t^g || p_s)",
        "Zheng and Yang, ICLR 2024; exponent and weight for vgg13 → vgg8",
        {"exponent": 0.1, "ce_weight": 1.0, "kd_weight": 45.0},
        r"\mathrm{KL}\left(\mathrm{softmax}(g\,z_t)\,\|\,p_s\right)",
        temperature=lambda s: TeacherTemperature(s["exponent"]),
        scale="none",
        per_sample=True,
    ),
    "wttm": Method(
        "U·KL(p_t^g/Σp_t^g || p_s), U = Σp_t^g",
        "Zheng and Yang, ICLR 2024; exponent and weight of its README",
        {"exponent": 0.2, "ce_weight": 1.0, "kd_weight": 4.0},
        r"U\,\mathrm{KL}\left(\mathrm{softmax}(g\,z_t)\,\|\,p_s\right),\quad U=\sum_c p_{t,c}^{\,g}",
        temperature=lambda s: TeacherTemperature(s["exponent"]),
        weight=lambda s: pieces.wttm(s["exponent"]),
        scale="none",
        per_sample=True,
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
        per_sample=True,
    ),
    "dtkd": Method(
        "α·T_s·T_t·KL(T_t, T_s) + β·T²·KL(T), T_t and T_s share 2T by the largest logits",
        "Wei and Bai 2024; centring the maxima is our deviation",
        {
            "temperature": 4.0,
            "centred": True,
            "ce_weight": 1.0,
            "kd_weight": 1.0,
            "warmup_epochs": 20.0,
            "alpha": 3.0,
            "beta": 1.0,
            "variant": "paper",
        },
        r"\alpha\,T_sT_t\,\mathrm{KL}\left(p_t(T_t)\,\|\,p_s(T_s)\right)+\beta\,T^2\,\mathrm{KL}\left(p_t(T)\,\|\,p_s(T)"
        r"\right),\quad T_{s,t}=\frac{2T\,m_{s,t}}{m_s+m_t},\; m=\max_c z_c-\bar z",
        "The largest logit is measured from the mean of its row (**our deviation**): with raw maxima a constant "
        "added to the logits changes the loss, and temperatures can be negative. `--loss.variant code` is the "
        "published form.",
        {"centred": False},
        temperature=lambda s: CooperativeTemperature(s["temperature"], s["centred"]),
        divergence=lambda s: pieces.dtkd(s["alpha"], s["beta"], s["temperature"]),
        scale="none",
        per_sample=True,
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
        takes_top_k=True,
        per_sample=True,
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
        takes_top_k=True,
        per_sample=True,
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
            "shuffled": False,
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
        per_sample=True,
    ),
    "dlkd": Method(
        "s_i·KL(softmax(z_t/T_i) || softmax(z_s/T_i)), T_i = T_easy + (T_hard − T_easy)·ℓ_i^γ",
        "after Difficulty level-based knowledge distillation, Neurocomputing 2024; mapping and defaults are ours",
        _DLKD,
        r"T_i^2\,\mathrm{KL}\left(p_t(T_i)\,\|\,p_s(T_i)\right),\quad T_i=T_{\mathrm{easy}}+(T_{\mathrm{hard}}-"
        r"T_{\mathrm{easy}})\,\ell_i^{\gamma},\;\ell_i=\mathrm{rank}\left\|p_t-p_p\right\|_2",
        "Only the abstract is public: it gives the distance between the predictions of the teacher and of its pruned "
        "copy. The space of the distance, the pruning, the mapping, the direction and the scale are our choices.",
        temperature=_linear,
        takes_top_k=True,
        per_sample=True,
    ),
    "dlkd-robust": Method(
        "DLKD, with w_i·CE, w_i = 1 − (1 − ℓ_i)·(max p_t − p_t,y)",
        "ours: DLKD for labels that may be wrong",
        _DLKD,
        r"T_i^2\,\mathrm{KL}\left(p_t(T_i)\,\|\,p_s(T_i)\right)\;\text{and}\;w_i\,\mathrm{CE}_i,\quad "
        r"w_i=1-(1-\ell_i)\left(\max_c p_{t,c}-p_{t,y}\right)",
        "A given label counts less where the teacher is sure of another class and the sample is easy. With a teacher "
        "that was trained on clean labels this is an oracle.",
        temperature=_linear,
        takes_top_k=True,
        label=lambda s: trusted,
        per_sample=True,
    ),
}
